package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/rotate"
)

// rollbackOptions are those of rollback.
type rollbackOptions struct {
	slot string
	to   uint64
}

// newRollbackCmd builds the command rollback.
func newRollbackCmd(a *app) *cobra.Command {
	o := &rollbackOptions{}
	cmd := &cobra.Command{
		Use:   "rollback [--to N] SLOT",
		Short: "Put an older generation of a slot in force again, and hold it",
		Long: "Puts an older generation in force again, under a new number; without --to the one before. The slot is held: what its files hold\n" +
			"now is not taken, until they change, another answer is imported, or spinecert rotate SLOT --release.\n" +
			"Exit status 3: there is no such generation, or it has expired or is revoked; what serves goes on. 2: there is no such slot.",
		Example: "  spinecert rollback pcs",
		Args:    exactArgs("SLOT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.slot = args[0]
			if cmd.Flags().Changed("to") && o.to == 0 {
				return a.finish(cmd, nil, usagef("generations are numbered from 1; without --to it is the one before", "--to 0: there is no such generation"))
			}
			ctx, cancel := a.global.wait(cmd.Context(), changeWait)
			defer cancel()
			result, err := runRollback(ctx, a.global.writer(), o)
			return outcome(a, cmd, result, err)
		},
	}
	cmd.Flags().Uint64Var(&o.to, "to", 0, "generation `N` to put in force (default the one before)")
	return cmd
}

// rollbackResult is the result of rollback: the slot afterwards.
type rollbackResult struct {
	admin.RotateResult
	Offline bool `json:"offline"` // no daemon took part
}

// runRollback asks the daemon, or does it where none runs. There is a result also
// where it was refused.
func runRollback(ctx context.Context, w writer, o *rollbackOptions) (*rollbackResult, error) {
	ask := admin.RollbackRequest{Slot: o.slot, To: o.to}
	done, alone, err := through(w, func(c *admin.Client) (admin.RotateResult, error) { return c.Rollback(ctx, ask) },
		func(c *config.Config) (admin.RotateResult, error) { return rollbackAlone(ctx, c, ask) })
	var refusal *admin.Error
	if err != nil && !(errors.As(err, &refusal) && refusal.Code == admin.CodeRefused && done.Slot.Name != "") {
		return nil, err
	}
	return &rollbackResult{RotateResult: done, Offline: alone}, err
}

func rollbackAlone(ctx context.Context, c *config.Config, ask admin.RollbackRequest) (admin.RotateResult, error) {
	if _, ok := c.Slot(ask.Slot); !ok {
		return admin.RotateResult{}, usagef("see slots in "+c.File, "slot %q: not in the configuration", ask.Slot)
	}
	d, err := lockState(c)
	if err != nil {
		return admin.RotateResult{}, err
	}
	defer d.close()
	if err := d.keep(ctx, func(s config.Slot) bool { return s.Name == ask.Slot }); err != nil {
		return admin.RotateResult{}, err
	}
	slot := d.keeper.Slot(ask.Slot)
	var before uint64
	if snap := slot.Snapshot(); snap != nil {
		before = snap.Generation.Number
	}
	err = d.keeper.Rollback(ctx, ask.Slot, ask.To, rotate.Order{})
	return admin.RotateResult{Slot: slotFacts(slot), Rotated: err == nil && slotFacts(slot).Generation != before}, manage.APIError(err)
}

// slotFacts is what is known of a slot while no daemon serves it.
func slotFacts(s *rotate.Slot) admin.Slot {
	st := s.Status()
	out := admin.Slot{Name: s.Name(), Environment: st.Config.Environment, State: string(st.State), FQDN: st.Config.FQDN, Names: []string{},
		Managed: st.Config.Managed, Affects: admin.Affects{ODS: []string{}, ASIDs: []string{}}}
	if snap := s.Snapshot(); snap != nil {
		g := snap.Generation
		out.Names, _ = g.Identity.Names()
		out.Generation, out.NotAfter, out.Since = g.Number, admin.Time{Time: g.NotAfter}, admin.Time{Time: g.Since}
		out.Origin, out.Of, out.Held = string(g.Origin), g.Of, g.Held
		out.Serial = g.Identity.Leaf().SerialNumber.Text(16)
	}
	return out
}

// show writes what serves now.
func (r *rollbackResult) show(p *page) {
	s := &r.Slot
	switch {
	case s.Generation == 0:
		p.line("%s: %s, serves nothing", s.Name, s.State)
		return
	case !r.Rotated:
		p.line("%s: unchanged, serves generation %d, until %s", s.Name, s.Generation, stamp(s.NotAfter.Time))
		return
	}
	p.line("%s: rolled back to generation %d, as generation %d, until %s", s.Name, s.Of, s.Generation, stamp(s.NotAfter.Time))
	p.line("The slot is held. To go forward again: spinecert rotate %s --release%s", s.Name, r.otherWay())
	if r.Offline {
		p.line("%s", offlineNote)
	}
}

func (r *rollbackResult) otherWay() string {
	if r.Slot.Managed {
		return fmt.Sprintf(", or import another answer (spinecert csr new --slot %s)", r.Slot.Name)
	}
	return ", or put another certificate in its files"
}
