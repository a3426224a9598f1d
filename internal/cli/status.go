package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
)

// usualWait is how long a daemon may take to say how it stands.
const usualWait = 10 * time.Second

// statusOptions are those of status.
type statusOptions struct {
	daemon daemonAddress
	now    time.Time
	view   view
}

// newStatusCmd builds the command status.
func newStatusCmd(a *app) *cobra.Command {
	var refusals bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the daemon stands: slots, tunnels, services, environments, conditions",
		Long:  "Asks the daemon how things stand, or which peers it refused last, and why. Exit status 1: there is no daemon that answers.",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.global.wait(cmd.Context(), usualWait)
			defer cancel()
			o := &statusOptions{daemon: a.global.findDaemon(), now: time.Now(), view: viewOf(a.out)}
			if refusals {
				result, err := runRefusals(ctx, o)
				return outcome(a, cmd, result, err)
			}
			result, err := runStatus(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
	cmd.Flags().BoolVar(&refusals, "refusals", false, "show the last 1,000 peers that were refused or cut, the newest first")
	return cmd
}

// statusResult is the result of status.
type statusResult struct {
	admin.Status
	now  time.Time
	view view
}

// runStatus asks the daemon.
func runStatus(ctx context.Context, o *statusOptions) (*statusResult, error) {
	s, err := o.daemon.client().StatusWithTimeline(ctx)
	if err != nil {
		return nil, o.daemon.explain(err)
	}
	return &statusResult{Status: s, now: o.now, view: o.view}, nil
}

// show writes a table for each kind of thing there is.
func (r *statusResult) show(p *page) {
	ready := "ready"
	if !r.Ready {
		ready = "not ready"
	}
	p.line("spinecertd %s (pid %d): %s, running for %s", r.Version, r.PID, ready, ago(r.now.Sub(r.Started)))
	p.line("configuration %s, loaded %s", r.Config.File, stamp(r.Config.Loaded))
	for line := range strings.Lines(r.Config.Error) {
		p.line("  not in force: %s", strings.TrimSuffix(line, "\n"))
	}
	r.showSlots(p)
	r.showTimeline(p)
	showRequests(p, r.Requests)
	r.showTunnels(p)
	showServices(p, r.Services)
	r.showEnvironments(p)
	r.showConditions(p)
}

func (r *statusResult) showSlots(p *page) {
	var rows [][]string
	var troubles []trouble
	for i := range r.Slots {
		s := &r.Slots[i]
		generation, left := "", ""
		if s.Generation > 0 {
			generation = strconv.FormatUint(s.Generation, 10)
		}
		if !s.NotAfter.IsZero() {
			left = strconv.Itoa(daysLeft(s.NotAfter.Time, r.now))
		}
		name := s.FQDN
		if name == "" {
			name = strings.Join(s.Names, " ")
		}
		rows = append(rows, []string{s.Name, s.Environment, s.State, generation, left, stamp(s.NotAfter.Time), name})
		troubles = append(troubles, trouble{s.Name, s.LastError, s.Hint})
	}
	section(p, []string{"SLOT", "ENVIRONMENT", "STATE", "GENERATION", "DAYS", "UNTIL", "NAME"}, rows, troubles...)
}

func (r *statusResult) showTunnels(p *page) {
	var rows [][]string
	var troubles []trouble
	for i := range r.Tunnels {
		t := &r.Tunnels[i]
		rows = append(rows, []string{t.Name, t.Direction, t.State, t.Slot, strings.Join(t.Listen, " "), t.Forward,
			strconv.FormatInt(t.Connections, 10), strconv.FormatUint(t.Accepted, 10), strconv.FormatUint(t.Refused, 10)})
		troubles = append(troubles, trouble{name: t.Name, text: t.LastError, hint: tunnelWord(t, r.now)})
	}
	section(p, []string{"TUNNEL", "DIRECTION", "STATE", "SLOT", "LISTEN", "FORWARD", "OPEN", "ACCEPTED", "REFUSED"}, rows, troubles...)
}

func (r *statusResult) showEnvironments(p *page) {
	var rows, lists [][]string
	var troubles, missing []trouble
	for i := range r.Environments {
		e := &r.Environments[i]
		cas := fmt.Sprintf("%s, %s", count(e.Roots, "root"), count(e.SubCAs, "subCA"))
		if e.Expired > 0 {
			cas += fmt.Sprintf(" (%d expired)", e.Expired)
		}
		state := "ready"
		if !e.Ready {
			state = "not ready"
		}
		rows = append(rows, []string{e.Name, state, e.Revocation, cas, count(crlsInForce(e.CRLs), "CRL")})
		troubles = append(troubles, trouble{e.Name, e.LastError, e.Hint})
		for j := range e.CRLs {
			c := &e.CRLs[j]
			lists = append(lists, []string{c.Issuer, e.Name, crlEntries(c), stamp(c.ThisUpdate.Time), crlEnd(c, r.now), c.Origin})
			missing = append(missing, crlTrouble(c))
		}
	}
	section(p, []string{"ENVIRONMENT", "STATE", "REVOCATION", "TRUST", "CRLS"}, rows, troubles...)
	section(p, []string{"CRL OF", "ENVIRONMENT", "ENTRIES", "ISSUED", "NEXT UPDATE", "FROM"}, lists, missing...)
}

func (r *statusResult) showConditions(p *page) {
	var rows [][]string
	for i := range r.Conditions {
		c := &r.Conditions[i]
		rows = append(rows, []string{string(c.Severity), string(c.Code), c.Subject, stamp(c.Since), c.Message})
	}
	section(p, []string{"SEVERITY", "CONDITION", "SUBJECT", "SINCE", "MESSAGE"}, rows)
	for i := range r.Conditions {
		if c := &r.Conditions[i]; c.Hint != "" || c.Command != "" {
			p.line("hint for %s %s: %s", c.Code, c.Subject, withCommand(c.Hint, c.Command))
		}
	}
}

// withCommand adds the next command to a hint that does not name it.
func withCommand(hint, command string) string {
	switch {
	case hint == "":
		return command
	case command == "" || strings.Contains(hint, command):
		return hint
	}
	return hint + "; then: " + command
}

// trouble is the last error of a row and the next action. It has lines of its
// own: in a column it would make every row too wide for a terminal.
type trouble struct{ name, text, hint string }

// section writes a table below an empty line, and what is wrong with its rows, or
// nothing if there are no rows.
func section(p *page, header []string, rows [][]string, troubles ...trouble) {
	if len(rows) == 0 {
		return
	}
	p.blank()
	p.table(header, rows)
	for _, t := range troubles {
		if t.text != "" {
			p.line("error of %s: %s", t.name, t.text)
		}
		if t.hint != "" {
			p.line("hint for %s: %s", t.name, t.hint)
		}
	}
}
