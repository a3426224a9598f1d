package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
)

// upgradeWait is for an upgrade and its answer: the new daemon has 30 s to be ready.
const upgradeWait = time.Minute

// upgradeOptions are those of upgrade.
type upgradeOptions struct {
	daemon daemonAddress
	within time.Duration // for the new daemon; 0 is the daemon's own limit

	force, unsupervised bool
}

// newUpgradeCmd builds the command upgrade.
func newUpgradeCmd(a *app) *cobra.Command {
	o := &upgradeOptions{}
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Have the installed daemon take over from the running one, without a dropped connection",
		Long: "Has the running daemon start the program that is installed now, and waits until that one serves. It inherits the listening sockets, reads everything, and takes over " +
			"once it is ready, within 30 seconds or --timeout, whichever is shorter. The old process accepts nothing more, and ends when its connections have ended, at the latest after limits.drain.\n" +
			"A program that does not start, is not ready in time or does not take the configuration changes nothing: the running daemon goes on, and the exit status is 1, or 2 where it is the configuration. " +
			"So does one that would serve less than the running one: a slot nothing, or an environment without a CA that has not expired. Then it is 3, and --force takes it as it is.",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.daemon, o.within = a.global.findDaemon(), a.global.timeout
			limit := upgradeWait
			if o.within > 0 { // the daemon ends the wait, and says how
				limit += o.within
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			result, err := runUpgrade(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "also where the new daemon would serve less than the running one")
	cmd.Flags().BoolVar(&o.unsupervised, "unsupervised", false, "also where systemd did not start the daemon, and nothing waits for its end")
	return cmd
}

// upgradeResult is the result of upgrade.
type upgradeResult struct {
	admin.UpgradeResult
	Problems []string `json:"problems"` // of the configuration, as the new daemon reads it
}

// runUpgrade asks the daemon. There is a result also where the new one did not take over.
func runUpgrade(ctx context.Context, o *upgradeOptions) (*upgradeResult, error) {
	r, err := o.daemon.client().Upgrade(ctx, admin.UpgradeRequest{TimeoutMS: o.within.Milliseconds(), Force: o.force, Unsupervised: o.unsupervised})
	result := &upgradeResult{UpgradeResult: r, Problems: []string{}}
	var refusal *admin.Error
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &refusal) && refusal.Code == admin.CodeUsage: // it does not know the question
		return nil, &admin.Error{Code: admin.CodeFailed, Message: "the running daemon is of a version that cannot leave its place to another", Hint: "systemctl restart spinecertd"}
	case errors.As(err, &refusal):
		result.Problems = append(result.Problems, refusal.Problems...)
		return result, err
	}
	return nil, o.daemon.explain(err)
}

// show writes who serves now.
func (r *upgradeResult) show(p *page) {
	if r.PID == 0 {
		return
	}
	p.line("spinecertd %s (pid %d) has taken over from %s: %s", r.To, r.PID, r.From, r.Summary)
	if r.Connections > 0 {
		p.line("%d open connections stay with the old process until they end, for limits.drain at most", r.Connections)
	}
}
