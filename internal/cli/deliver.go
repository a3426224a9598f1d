package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
)

// deliverWait is how long a delivery is waited for: the reload of a service may take
// long, and so may the way back.
const deliverWait = 5 * time.Minute

// deliverOptions are those of deliver.
type deliverOptions struct {
	service     string
	now, dryRun bool
	daemon      daemonAddress
}

// newDeliverCmd builds the command deliver.
func newDeliverCmd(a *app) *cobra.Command {
	o := &deliverOptions{}
	cmd := &cobra.Command{
		Use:   "deliver [--now] [--dry-run] SERVICE",
		Short: "Bring a local service to its slot's generation now, and wait for the result",
		Long: "Has the daemon write the files of a service, reload it, and see that it serves what its slot has; where it does not, what was proved\n" +
			"before is put back. A service that is in sync is looked at, and left alone. --now tries again what is held, and does not wait\n" +
			"for the service's window. --dry-run says what would be done. The result is waited for for 5 minutes, or --timeout.\n" +
			"Exit status 3: the service did not take it, is held, or waits. 2: there is no such service. 1: it could not be tried, or is not done yet.",
		Example: "  spinecert deliver nginx --now",
		Args:    exactArgs("SERVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.service, o.daemon = args[0], a.global.findDaemon()
			ctx, cancel := a.global.wait(cmd.Context(), deliverWait)
			defer cancel()
			result, err := runDeliver(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
	cmd.Flags().BoolVar(&o.now, "now", false, "also what is held, and outside the service's window")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

// deliverResult is the result of deliver: the service afterwards, or the plan.
type deliverResult struct {
	admin.DeliverResult
}

// runDeliver asks the daemon, which is given less time than there is, so that it can
// say how far it came. There is a result also where the service did not take it.
func runDeliver(ctx context.Context, o *deliverOptions) (*deliverResult, error) {
	patience := deliverWait
	if end, ok := ctx.Deadline(); ok {
		patience = time.Until(end)
	}
	r, err := o.daemon.client().Deliver(ctx, admin.DeliverRequest{Service: o.service, Now: o.now, DryRun: o.dryRun}, patience*9/10)
	var refusal *admin.Error
	if err != nil && !(errors.As(err, &refusal) && r.Service.Name != "") {
		return nil, o.daemon.explain(err)
	}
	return &deliverResult{DeliverResult: r}, err
}

// show writes what the service serves now, or would.
func (r *deliverResult) show(p *page) {
	s := &r.Service
	if r.Plan != nil {
		r.showPlan(p)
		return
	}
	served := version(s.Served, "since")
	if served == "" {
		served = version(s.Proved, "since")
	}
	switch {
	case r.Delivered:
		p.line("%s: delivered, serves %s", s.Name, served)
	case s.State == "in_sync":
		p.line("%s: in sync, serves %s; nothing to do", s.Name, served)
	case served == "":
		p.line("%s: %s, was not seen to serve anything", s.Name, s.State)
	default:
		p.line("%s: %s, serves %s", s.Name, s.State, served)
	}
	p.fact(2, "delivery", s.Waits)
}

func (r *deliverResult) showPlan(p *page) {
	s := &r.Service
	p.line("%s: %s; a delivery of generation %s would", s.Name, s.State, generation(s.Desired))
	for i, step := range r.Plan.Steps {
		p.line("  %d. %s", i+1, step)
	}
	var rows [][]string
	for _, f := range r.Plan.Files {
		rows = append(rows, []string{f.Path, f.Format, f.Change, f.Mode, f.Owner, f.Group})
	}
	section(p, []string{"FILE", "FORMAT", "CHANGE", "MODE", "OWNER", "GROUP"}, rows)
	if s.State == "held" {
		p.line("%s is held: only spinecert deliver %s --now does it.", s.Name, s.Name)
	}
	p.fact(0, "it waits", s.Waits)
	p.line("Nothing was changed.")
}
