package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
)

// Outside is what is seen from beside the daemon.
type Outside struct {
	Now     time.Time
	Version string // of the program that looks

	File      string         // the configuration
	Config    *config.Config // nil: it is wrong, or cannot be read
	ConfigErr error
	Modified  time.Time // when the file was changed last

	Socket    string
	Status    *admin.Status // nil: no daemon answers
	StatusErr error         // then why
	Holder    int           // process that holds the state directory; 0: none is known

	Kernel func() (KernelClock, error)               // nil is AskKernel
	Unit   func(context.Context) (*UnitState, error) // nil is AskUnit
}

// Examine looks at configuration, daemon, its unit, and clock.
func (o Outside) Examine(ctx context.Context) []Line {
	if o.Kernel == nil {
		o.Kernel = AskKernel
	}
	if o.Unit == nil {
		o.Unit = AskUnit
	}
	return examine(ctx, o, []check[Outside]{
		{Config, configReadable}, {Config, configInForce},
		{Daemon, daemonAnswers}, {Daemon, daemonReady}, {Daemon, daemonVersion},
		{Unit, unitFits},
		{Clock, clockPlausible}, {Clock, clockSynchronised},
	})
}

// configReadable: the file is there, and says something that can be done.
func configReadable(_ context.Context, o Outside, r *report) {
	if o.ConfigErr == nil {
		services := ""
		if n := len(o.Config.Services); n > 0 {
			services = ", " + plural(n, "service")
		}
		r.ok(o.File, "the configuration %q is right: %s, %s, %s%s", o.File, plural(len(o.Config.Environments), "environment"),
			plural(len(o.Config.Slots), "slot"), plural(len(o.Config.Tunnels), "tunnel"), services)
		for _, w := range o.Config.Warnings() {
			r.warn(o.File, w.Hint, "%s", w.Error())
		}
		return
	}
	var problems config.Problems
	if !errors.As(o.ConfigErr, &problems) {
		r.fail(o.File, pki.Hint(o.ConfigErr), "%v", o.ConfigErr)
		return
	}
	for _, p := range problems {
		r.fail(o.File, cmp.Or(p.Hint, "correct it; spinecert config check says all that is wrong"), "%s", p.Error())
	}
}

// configInForce: the daemon runs what the file says.
func configInForce(_ context.Context, o Outside, r *report) {
	if o.Status == nil {
		return
	}
	c := o.Status.Config
	switch {
	case c.Error != "":
		r.fail(c.File, "correct it, then: spinecert reload", "the daemon refused the configuration at its last reload, and runs the one of %s: %s", stamp(c.Loaded), c.Error)
	case o.Config != nil && c.File != o.Config.File:
		r.warn(o.File, "name the daemon's with --config "+c.File, "the daemon runs another configuration, %q", c.File)
	case o.Modified.Truncate(time.Second).After(c.Loaded):
		r.warn(o.File, "spinecert reload", "the configuration was changed at %s, after the daemon loaded it at %s", stamp(o.Modified), stamp(c.Loaded))
	}
}

// daemonAnswers: the one line that says that there is none.
func daemonAnswers(_ context.Context, o Outside, r *report) {
	if o.Status != nil {
		r.ok(o.Socket, "spinecertd %s (pid %d) answers on %q", o.Status.Version, o.Status.PID, o.Socket)
		return
	}
	held := ""
	if o.Holder != 0 {
		held = fmt.Sprintf("; process %d says that it holds the state directory", o.Holder)
	}
	r.fail(o.Socket, cmp.Or(pki.Hint(o.StatusErr), "systemctl status spinecertd"), "no daemon answers: %v%s; its listeners and the far ends were not examined", o.StatusErr, held)
}

// daemonReady: every slot that a tunnel uses serves an identity.
func daemonReady(_ context.Context, o Outside, r *report) {
	if o.Status == nil {
		return
	}
	if o.Status.Ready {
		r.ok(o.Socket, "it is ready: %s, %s", plural(len(o.Status.Slots), "slot"), plural(len(o.Status.Tunnels), "tunnel"))
		return
	}
	var empty []string
	for _, s := range o.Status.Slots {
		if s.Generation == 0 && slices.ContainsFunc(o.Status.Tunnels, func(t admin.Tunnel) bool { return t.Slot == s.Name }) {
			empty = append(empty, s.Name)
		}
	}
	r.fail(o.Socket, "see the lines SLOT, and spinecert status", "the daemon is not ready; slots that tunnels use and that serve nothing: %s", cmp.Or(strings.Join(empty, ", "), "none, it still starts"))
}

// daemonVersion: both programs are of one version.
func daemonVersion(_ context.Context, o Outside, r *report) {
	if o.Status != nil && o.Status.Version != o.Version {
		r.warn(o.Socket, "where a new version was installed, it does not run yet: spinecert upgrade", "the daemon is version %s, spinecert is %s", o.Status.Version, o.Version)
	}
}
