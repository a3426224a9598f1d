package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
)

// servicesOptions are those of services.
type servicesOptions struct {
	name   string // "" for all
	daemon daemonAddress
}

// newServicesCmd builds the command services.
func newServicesCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "services [NAME]",
		Short: "Show what each local service should serve, has in its directory, and serves",
		Long: "Asks the daemon for the local services: the generation of its slot that each should serve, the one that was delivered to it, and the\n" +
			"one that it was seen to serve. With NAME everything that is known of one. Exit status 2: there is no such service.",
		Example: "  spinecert services\n  spinecert services nginx",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactArgs("NAME, or nothing")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o := &servicesOptions{daemon: a.global.findDaemon()}
			if len(args) == 1 {
				o.name = args[0]
			}
			ctx, cancel := a.global.wait(cmd.Context(), usualWait)
			defer cancel()
			result, err := runServices(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
}

// servicesResult is the result of services.
type servicesResult struct {
	Services []admin.Service `json:"services"`
	one      bool            // it was asked for by name
}

// runServices asks the daemon.
func runServices(ctx context.Context, o *servicesOptions) (*servicesResult, error) {
	s, err := o.daemon.client().Status(ctx)
	if err != nil {
		return nil, o.daemon.explain(err)
	}
	r := &servicesResult{Services: append([]admin.Service{}, s.Services...), one: o.name != ""}
	if !r.one {
		return r, nil
	}
	i := slices.IndexFunc(r.Services, func(s admin.Service) bool { return s.Name == o.name })
	if i < 0 {
		return nil, &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no service %q", o.name), Hint: "spinecert services lists those there are"}
	}
	r.Services = r.Services[i : i+1]
	return r, nil
}

// show writes a table, or everything about one.
func (r *servicesResult) show(p *page) {
	switch {
	case r.one:
		showService(p, &r.Services[0])
	case len(r.Services) == 0:
		p.line("no services are configured")
	default:
		showServices(p, r.Services)
	}
}

// showServices writes a line for each service, and what is wrong with it below.
func showServices(p *page, services []admin.Service) {
	var rows [][]string
	var troubles []trouble
	for i := range services {
		s := &services[i]
		rows = append(rows, []string{s.Name, s.Slot, s.State, generation(s.Desired), generation(s.Delivered), generation(s.Served), stamp(s.Since.Time)})
		troubles = append(troubles, trouble{name: s.Name, text: serviceTrouble(s), hint: s.Hint})
	}
	section(p, []string{"SERVICE", "SLOT", "STATE", "DESIRED", "DELIVERED", "SERVED", "SINCE"}, rows, troubles...)
	for i := range services {
		if s := &services[i]; s.Waits != "" {
			p.line("%s: %s", s.Name, s.Waits)
		}
	}
}

// generation is what a column says of a version: of one that is not ours, that it is another.
func generation(v admin.ServiceVersion) string {
	switch {
	case v.Generation != 0:
		return strconv.FormatUint(v.Generation, 10)
	case v.Leaf != "":
		return "other"
	}
	return ""
}

// serviceTrouble says in a line what failed.
func serviceTrouble(s *admin.Service) string {
	if s.LastError == "" {
		return ""
	}
	return strings.TrimPrefix(fmt.Sprintf("%s (%s): %s", s.Step, s.Reason, s.LastError), " ")
}

// showService writes everything about one service.
func showService(p *page, s *admin.Service) {
	p.line("%s: %s since %s", s.Name, s.State, stamp(s.Since.Time))
	p.fact(2, "delivery", s.Waits)
	p.fact(2, "failed", serviceTrouble(s))
	p.fact(2, "hint", s.Hint)
	p.fact(2, "tried again", stamp(s.Retry.Time))
	p.fact(2, "slot", s.Slot)
	p.fact(2, "desired", version(s.Desired, "since"))
	p.fact(2, "delivered", version(s.Delivered, "on"))
	p.fact(2, "proved", version(s.Proved, "on"))
	p.fact(2, "served", version(s.Served, "since"))
	p.fact(2, "looked at", stamp(s.Looked.Time))
	p.fact(2, "directory", s.Directory)
	p.fact(2, "reload", s.Reload)
	p.fact(2, "probe", cmp.Or(strings.Join(s.Probe, " "), "none"))
	p.fact(2, "after", strings.Join(s.After, " "))
}

// version says what a set of files was made of.
func version(v admin.ServiceVersion, since string) string {
	name := generation(v)
	switch name {
	case "":
		return ""
	case "other":
		name = "another certificate, SHA-256 " + v.Leaf
	default:
		name = "generation " + name
	}
	if v.Digest != "" {
		name += ", digest " + v.Digest[:min(len(v.Digest), 12)]
	}
	if !v.Since.IsZero() {
		name += ", " + since + " " + stamp(v.Since.Time)
	}
	if !v.NotAfter.IsZero() {
		name += ", until " + stamp(v.NotAfter.Time)
	}
	return name
}
