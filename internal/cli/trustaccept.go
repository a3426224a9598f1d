package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
)

// trustAcceptOptions are those of trust accept.
type trustAcceptOptions struct {
	trustOptions
	drop []string
	yes  bool
	ask  *question // nil: nobody can be asked
	now  time.Time
}

func newTrustAcceptCmd(a *app) *cobra.Command {
	o := &trustAcceptOptions{}
	cmd := &cobra.Command{
		Use:   "accept [ENVIRONMENT] [--drop SHA256]... [--yes]",
		Short: "Take trust files from which a CA is gone",
		Long: "A CA that is gone from the trust files stays in force until somebody says that it is meant: half a file must not cut anybody off. This\n" +
			"shows what would go and what would break, asks, and takes exactly what was shown. With --drop it takes back what trust add has added.\n" +
			"It needs the daemon, which alone knows what is in force.\n" +
			"Exit status 3: refused, or not confirmed. 2: nobody can be asked, and --yes is missing.",
		Example: "  spinecert trust accept live",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && o.environment != "" {
				return usagef("spinecert trust accept live", "trust accept: want one ENVIRONMENT, got %d arguments", len(args))
			}
			if len(args) == 1 {
				o.environment = args[0]
			}
			o.find(a)
			o.ask, o.now = newQuestion(a), time.Now()
			result, err := runTrustAccept(cmd.Context(), o, a.global)
			return outcome(a, cmd, result, err)
		},
	}
	o.addEnvironment(cmd)
	cmd.Flags().StringSliceVar(&o.drop, "drop", nil, "`SHA256` of a CA that trust add has added, and that is to go (repeatable)")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
	return cmd
}

// trustAcceptResult is the result of trust accept.
type trustAcceptResult struct {
	Environment string                 `json:"environment"`
	Diff        admin.TrustDiff        `json:"diff"` // what was shown
	Accepted    bool                   `json:"accepted"`
	Trust       admin.TrustEnvironment `json:"trust"` // afterwards
	now         time.Time
	shown       bool // to who was asked
}

// runTrustAccept shows first, and has the daemon take what was shown and nothing
// else: its digest goes with the word.
func runTrustAccept(ctx context.Context, o *trustAcceptOptions, g globalOptions) (*trustAcceptResult, error) {
	drop, err := fingerprints("drop", o.drop)
	if err != nil {
		return nil, err
	}
	r, err := o.look(ctx, g, drop)
	if err != nil {
		return nil, o.needsDaemon(err)
	}
	if !differs(&r.Diff) {
		return r, nil
	}
	if err := o.confirm(r); err != nil {
		return r, err
	}
	ctx, cancel := g.wait(ctx, changeWait)
	defer cancel()
	after, err := o.daemon.client().TrustAccept(ctx, admin.TrustAcceptRequest{Environment: r.Environment, Digest: r.Diff.Digest, Drop: drop})
	if err != nil {
		return r, o.needsDaemon(err)
	}
	r.Accepted, r.Trust = true, after
	return r, nil
}

func (o *trustAcceptOptions) look(ctx context.Context, g globalOptions, drop []string) (*trustAcceptResult, error) {
	ctx, cancel := g.wait(ctx, changeWait)
	defer cancel()
	environment, err := o.pickFromDaemon(ctx)
	if err != nil {
		return nil, err
	}
	diff, err := o.daemon.client().TrustDiff(ctx, admin.TrustDiffRequest{Environment: environment, Drop: drop})
	if err != nil {
		return nil, err
	}
	return &trustAcceptResult{Environment: environment, Diff: diff, Trust: admin.TrustEnvironment{Name: environment, CAs: []admin.TrustCA{}}, now: o.now}, nil
}

// needsDaemon says so where none runs: a start takes the files as they are.
func (o *trustAcceptOptions) needsDaemon(err error) error {
	if !noDaemon(err) || o.daemon.doubt != "" {
		return o.daemon.explain(err)
	}
	exit, code := classify(err)
	return &exitError{exit: exit, code: code, err: err,
		hint: "trust accept needs the daemon, which knows what is in force: start it; name another socket with --socket. A start takes the trust files as they are"}
}

func (o *trustAcceptOptions) confirm(r *trustAcceptResult) error {
	switch {
	case o.yes:
		return nil
	case o.ask == nil:
		return usagef("look at what would go and what would break; if it is meant: --yes", "nobody can be asked here, and nothing was accepted")
	}
	text := fmt.Sprintf("Take the trust of environment %s like this?", r.Environment)
	if n := len(r.Diff.Breaks); n > 0 {
		text = fmt.Sprintf("Something breaks, see above. Take the trust of environment %s like this all the same?", r.Environment)
	}
	r.shown = true
	yes, err := o.ask.ask(r.showProposal, text)
	if err == nil && !yes {
		err = declined("not confirmed, and nothing was accepted")
	}
	return err
}

func (r *trustAcceptResult) showProposal(p *page) {
	p.line("environment %s: %s", r.Environment, diffCounts(&r.Diff))
	showDiff(p, "", &r.Diff, r.now)
}

// show writes what went, or what would go.
func (r *trustAcceptResult) show(p *page) {
	if !differs(&r.Diff) {
		p.line("environment %s: nothing to accept", r.Environment)
		return
	}
	if !r.shown {
		r.showProposal(p)
	}
	if r.Accepted {
		p.blank()
		p.line("environment %s: accepted, %s in force. New handshakes are judged by it.", r.Environment, count(len(r.Trust.CAs), "CA"))
	}
}
