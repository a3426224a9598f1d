package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/rotate"
)

// changeWait is how long a daemon may take to change something.
const changeWait = 30 * time.Second

// rotateOptions are those of rotate.
type rotateOptions struct {
	slot    string
	allow   []string
	release bool
	daemon  daemonAddress
}

// newRotateCmd builds the command rotate.
func newRotateCmd(a *app) *cobra.Command {
	o := &rotateOptions{}
	cmd := &cobra.Command{
		Use:   "rotate [--allow RULE]... [--release] SLOT",
		Short: "Have the daemon look at a slot's source now, and wait for the result",
		Long: "Has the daemon read the source of a slot now. No key is made. An --allow lets this one candidate pass one guard rule:\n" +
			strings.Join(rotate.Rules(), ", ") + ". --release ends the hold of a rollback: what the slot's files hold counts again, or, for a\n" +
			"managed slot, the generation that was rolled back from.\n" +
			"Exit status 3: the source was refused, what was served before goes on. 2: there is no such slot.",
		Args: exactArgs("SLOT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.slot, o.daemon = args[0], a.global.findDaemon()
			ctx, cancel := a.global.wait(cmd.Context(), changeWait)
			defer cancel()
			result, err := runRotate(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
	cmd.Flags().StringArrayVar(&o.allow, "allow", nil, "guard `RULE` to override, for this candidate (repeatable)")
	cmd.Flags().BoolVar(&o.release, "release", false, "end the hold of a rollback")
	complete(cmd, "allow", rotate.Rules()...)
	return cmd
}

// rotateResult is the result of rotate: the slot afterwards.
type rotateResult struct {
	admin.RotateResult
}

// runRotate asks the daemon. There is a result also where the source was refused.
func runRotate(ctx context.Context, o *rotateOptions) (*rotateResult, error) {
	r, err := o.daemon.client().Rotate(ctx, admin.RotateRequest{Slot: o.slot, Allow: o.allow, Release: o.release})
	var refusal *admin.Error
	if err != nil && !(errors.As(err, &refusal) && refusal.Code == admin.CodeRefused) {
		return nil, o.daemon.explain(err)
	}
	return &rotateResult{RotateResult: r}, err
}

// show writes one line.
func (r *rotateResult) show(p *page) {
	s := &r.Slot
	switch {
	case s.Name == "":
	case r.Rotated:
		p.line("%s: rotated to generation %d, %s, until %s", s.Name, s.Generation, s.FQDN, stamp(s.NotAfter.Time))
	case s.Generation == 0:
		p.line("%s: %s, serves nothing", s.Name, s.State)
	case s.Held:
		p.line("%s: held, serves generation %d, %s, until %s", s.Name, s.Generation, s.FQDN, stamp(s.NotAfter.Time))
		p.line("It was rolled back to generation %d; spinecert rotate %s --release ends that.", s.Of, s.Name)
	default:
		p.line("%s: unchanged, serves generation %d, %s, until %s", s.Name, s.Generation, s.FQDN, stamp(s.NotAfter.Time))
	}
}
