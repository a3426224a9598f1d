package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/rotate"
)

// Codes of what stands in the way of changing the state directory.
const (
	codeHeld  = "held"  // another process has its lock
	codeState = "state" // it cannot be read or written
)

// offlineNote is what text says where no daemon took part.
const offlineNote = "No daemon runs: this was done in the state directory, and takes effect when the daemon starts."

// writer is the way to the state directory: through the daemon, or, where none
// runs, by ourselves (CONTRACT.md, 1: one writer).
type writer struct {
	daemon daemonAddress
	config string // its file
	uid    int    // who asks
}

func (g globalOptions) writer() writer {
	w := writer{daemon: g.findDaemon(), config: g.config, uid: os.Getuid()}
	if w.config == "" {
		w.config = defaultConfig
	}
	return w
}

// through asks the daemon, or, where none is there, has alone do the work. alone
// reports as well where that is so. A daemon that does not answer is no daemon
// that is not there.
func through[R any](w writer, ask func(*admin.Client) (R, error), alone func(*config.Config) (R, error)) (result R, offline bool, err error) {
	result, err = ask(w.daemon.client())
	if !noDaemon(err) {
		return result, false, w.silent(err)
	}
	c, loadErr := config.Load(w.config)
	if loadErr != nil {
		if exit, _ := classify(loadErr); exit == exitUsage {
			return result, false, loadErr
		}
		return result, false, &exitError{exit: exitFailed, code: codeUnreachable, err: err,
			hint: fmt.Sprintf("without a daemon the configuration is needed, and %s cannot be read: name it with --config, or start spinecertd", w.config)}
	}
	result, err = alone(c)
	return result, true, w.held(err)
}

// silent names the process that does not answer, where that can be found out.
func (w writer) silent(err error) error {
	var gone *admin.Unreachable
	if !errors.As(err, &gone) || !errors.Is(err, context.DeadlineExceeded) {
		return w.daemon.explain(err)
	}
	c, loadErr := config.Load(w.config)
	if loadErr != nil {
		return err
	}
	pid := state.Holder(c.State.Directory)
	if pid == 0 {
		return err
	}
	return &exitError{exit: exitFailed, code: codeTimeout,
		err:  fmt.Errorf("%w; process %d holds the state directory %q", err, pid, c.State.Directory),
		hint: hintOf(err)}
}

// held says that a daemon has the lock, but no ear.
func (w writer) held(err error) error {
	var held *state.HeldError
	if !errors.As(err, &held) {
		return err
	}
	who := "another process"
	if held.PID > 0 {
		who = fmt.Sprintf("process %d", held.PID)
	}
	return &exitError{exit: exitFailed, code: codeHeld, err: fmt.Errorf("change state directory %q: %s holds it, and nobody answers on %q", held.Dir, who, w.daemon.socket),
		hint: "if that is spinecertd, it starts, stops or hangs, or has another socket: systemctl status spinecertd; name its socket with --socket"}
}

// offline is the state directory while no daemon runs.
type offline struct {
	config    *config.Config
	directory *state.Directory
	keeper    *rotate.Keeper // nil until keep
	uid       int            // who asked
	stop      func()
}

// viaCommand is how something came that no daemon did.
const viaCommand = "command"

// audit keeps what was done. A disk that does not take the line has taken what it
// is about, or nothing.
func (o *offline) audit(l state.AuditLine) {
	l.Time, l.Actor = time.Now(), state.Actor{UID: o.uid, PID: os.Getpid(), Via: viaCommand}
	_ = o.directory.Audit(l)
}

// onRotate keeps which generations were put in force.
func (o *offline) onRotate(e rotate.Event) {
	if e.Kind != rotate.EventRotated {
		return
	}
	l := state.AuditLine{Event: string(e.Kind), Slot: e.Slot, To: e.To.Number, Digest: e.To.Digest()}
	if e.From != nil {
		l.From = e.From.Number
	}
	o.audit(l)
}

// onManage keeps what happened to requests.
func (o *offline) onManage(e manage.Event) {
	l := state.AuditLine{Event: string(e.Kind), Slot: e.Slot, Digest: e.Request}
	if e.Err != nil {
		l.Reason = e.Err.Error()
	}
	o.audit(l)
}

// lockState becomes the owner of the state directory and takes its lock. What only
// the caller may read must have been read before.
func lockState(c *config.Config) (*offline, error) {
	dir := c.State.Directory
	uid := os.Getuid()
	if err := state.ActAsOwner(dir); err != nil {
		return nil, failed(codeState, err)
	}
	d, err := state.Lock(dir, state.Options{})
	if err != nil {
		return nil, failed(codeState, err)
	}
	return &offline{config: c, directory: d, uid: uid, stop: func() {}}, nil
}

// openState opens the state directory for reading. One that is not there is nil.
func openState(c *config.Config) (*offline, error) {
	d, err := state.Open(c.State.Directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, stateUnreadable(err)
	}
	return &offline{config: c, directory: d, stop: func() {}}, nil
}

// close ends everything. What was done is on the disk.
func (o *offline) close() {
	if o == nil {
		return
	}
	o.stop()
	_ = o.directory.Close() // nothing is left to write
}

// manager is the loop of managed slots on this directory.
func (o *offline) manager() *manage.Manager {
	return manage.New(manage.Config{Directory: o.directory, Keeper: o.keeper, Configuration: func() *config.Config { return o.config }, Tell: o.onManage})
}

// keep stages the slots that are wanted, as a daemon does when it starts.
func (o *offline) keep(ctx context.Context, wanted func(config.Slot) bool) error {
	plan := manage.Plan(o.config, o.directory)
	plan.Slots = slices.DeleteFunc(plan.Slots, func(s rotate.SlotConfig) bool {
		slot, ok := o.config.Slot(s.Name)
		return !ok || !wanted(slot)
	})
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	o.keeper = rotate.New(rotate.Options{Store: o.directory, Events: o.onRotate})
	ended := make(chan error, 1)
	go func() { ended <- o.keeper.Run(running) }()
	o.stop = func() { cancel(); <-ended }
	if err := o.keeper.Apply(ctx, plan); err != nil {
		return failed(codeState, fmt.Errorf("look at the slots: %w", err))
	}
	return nil
}

// by says who asked, as requests keep it.
func (w writer) by() string { return fmt.Sprintf("uid %d", w.uid) }
