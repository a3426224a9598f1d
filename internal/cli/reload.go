package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
)

// reloadOptions are those of reload.
type reloadOptions struct {
	daemon daemonAddress
}

// newReloadCmd builds the command reload.
func newReloadCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read configuration and material again, all or nothing",
		Long: "Has the daemon read its configuration and all material again, and waits for the result.\n" +
			"Exit status 2: the configuration is wrong, nothing changed. 3: it is in force, but some material was refused. 1: there is no daemon.",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.global.wait(cmd.Context(), changeWait)
			defer cancel()
			result, err := runReload(ctx, &reloadOptions{daemon: a.global.findDaemon()})
			return outcome(a, cmd, result, err)
		},
	}
}

// reloadResult is the result of reload.
type reloadResult struct {
	admin.ReloadResult
	Problems []string `json:"problems"` // of the configuration
}

// runReload asks the daemon. There is a result also where the configuration is
// wrong, with its problems, and where material was refused.
func runReload(ctx context.Context, o *reloadOptions) (*reloadResult, error) {
	r, err := o.daemon.client().Reload(ctx)
	result := &reloadResult{ReloadResult: r, Problems: []string{}}
	result.Refused = list(result.Refused)
	var refusal *admin.Error
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &refusal) && (refusal.Code == admin.CodeRefused || refusal.Code == admin.CodeConfiguration):
		result.Problems = append(result.Problems, refusal.Problems...)
		return result, err
	}
	return nil, o.daemon.explain(err)
}

// show writes what is in force now, and what was refused. The problems of the
// configuration are errors, and on stderr.
func (r *reloadResult) show(p *page) {
	if len(r.Problems) > 0 || r.Config.File == "" {
		return
	}
	p.line("reloaded %s", r.Config.File)
	for _, refused := range r.Refused {
		p.line("refused: %s", refused)
	}
}
