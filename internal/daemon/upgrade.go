package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/deliver/systemd"
	"github.com/spinecert/spinecert/internal/handover"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/pki"
)

const (
	// upgradeLimit is for the new process to be ready.
	upgradeLimit = 30 * time.Second
	// goLimit is for it to accept connections, once it may.
	goLimit = time.Minute
	// maxLosses is how many of the losses are told.
	maxLosses = 10
)

// upgrade starts the installed program, and leaves everything but the open connections to it once it is
// ready. Until then this process goes on as if nothing had been.
func (d *Daemon) upgrade(ctx context.Context, c admin.Caller, r admin.UpgradeRequest) (admin.UpgradeResult, error) {
	if err := d.mayLeave(r); err != nil {
		return admin.UpgradeResult{}, err
	}
	limit := upgradeLimit
	if asked := time.Duration(r.TimeoutMS) * time.Millisecond; r.TimeoutMS > 0 && asked < limit {
		limit = asked
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit) // who asked may go away
	defer cancel()
	stop := context.AfterFunc(d.running, cancel)
	defer stop()
	resume, err := d.changes.stop(ctx)
	if err != nil {
		return admin.UpgradeResult{}, upgradeError(fmt.Errorf("wait for what is being changed: %w", err))
	}
	defer resume()
	d.reloads.Lock() // no reload and no other upgrade meanwhile
	defer d.reloads.Unlock()
	d.opening.Lock() // the listeners stay what they are
	defer d.opening.Unlock()
	if d.stopping {
		return admin.UpgradeResult{}, errLeaving
	}
	result, err := d.succeed(ctx, r.Force)
	d.recordUpgrade(actorOf(c), result, err)
	if refusal := (*handover.Refusal)(nil); errors.As(err, &refusal) && refusal.Configuration {
		d.settleReload(err) // the file on disk would not start
	}
	if err == nil || errors.Is(err, errNoWayBack) {
		d.stopping = true
		close(d.succeeded)
	}
	if err != nil {
		return result, upgradeError(err)
	}
	return result, nil
}

// mayLeave returns why the process that started this one would not have another in its place, or nil.
func (d *Daemon) mayLeave(r admin.UpgradeRequest) error {
	switch {
	case d.pid == 1:
		return &admin.Error{Code: admin.CodeFailed, Message: "the daemon is process 1 and cannot leave it to another", Hint: "restart the container"}
	case systemd.Supervised() && os.Getenv("NOTIFY_SOCKET") == "":
		return &admin.Error{Code: admin.CodeFailed, Message: "systemd does not listen to the daemon, and would end a new one with this one", Hint: "the unit needs Type=notify and NotifyAccess=main; until then systemctl restart spinecertd"}
	case !systemd.Supervised() && !r.Unsupervised:
		return &admin.Error{Code: admin.CodeFailed, Message: "systemd did not start the daemon: what did would take its end for a failure", Hint: "restart the daemon; or, where nothing waits for its end, --unsupervised"}
	}
	return nil
}

// succeed does it. d.opening is held.
func (d *Daemon) succeed(ctx context.Context, force bool) (admin.UpgradeResult, error) {
	result := admin.UpgradeResult{From: d.version, Program: d.program}
	s, err := d.startSuccessor()
	if err != nil {
		return result, err
	}
	fail := func(err error) (admin.UpgradeResult, error) {
		s.Kill()
		s.Close()
		return result, explainSuccessor(ctx, err)
	}
	if result.To, err = s.Hello(ctx); err != nil {
		return fail(err)
	}
	resume, err := d.pauseWriting(ctx)
	if err != nil {
		return fail(err)
	}
	var stock handover.Stock
	if result.Summary, stock, err = s.Stage(ctx); err == nil && !force {
		err = lossError(d.losses(stock, time.Now()))
	}
	if err != nil {
		resume()
		return fail(err)
	}
	// systemd first: what the new process says counts only once it is the main one, and they are read in order.
	if err := handover.MainPID(s.PID); err != nil {
		resume()
		return fail(err)
	}
	d.giveUp()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), goLimit)
	defer cancel()
	result.PID = s.PID
	for _, t := range d.liveTunnels() {
		result.Connections += t.tunnel.Stats().Connections
	}
	d.successor = s
	if err := s.Go(bounded); err != nil {
		// What is on disk is not this process's any more: whoever started it starts anew.
		s.Kill()
		return result, fmt.Errorf("%w: %w", errNoWayBack, err)
	}
	// Who asks again when this is answered asks the new process.
	_ = d.socket.Close()
	if d.web != nil {
		_ = d.web.Close()
	}
	return result, nil
}

// startSuccessor starts the installed program with all that is open.
func (d *Daemon) startSuccessor() (*handover.Successor, error) {
	files, err := d.heirlooms()
	defer func() {
		for _, f := range files {
			if f.Kind == handover.Tunnel || f.Kind == handover.Admin || f.Kind == handover.HTTP { // duplicates
				_ = f.File.Close()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	return handover.Start(handover.Offer{Program: d.program, Arguments: []string{"--config", d.file}, Version: d.version,
		State: d.store.Path(), Supervised: systemd.Supervised(), Files: files})
}

// heirlooms are the descriptors that the new process is given.
func (d *Daemon) heirlooms() ([]handover.File, error) {
	files := []handover.File{{Kind: handover.Lock, File: d.store.LockFile()}}
	sockets, err := d.gate.Listening()
	for _, s := range sockets {
		detail, encoding := json.Marshal(s)
		err = errors.Join(err, encoding)
		files = append(files, handover.File{Kind: handover.Tunnel, Address: s.Address, File: s.File, Detail: detail})
	}
	if err != nil {
		return files, fmt.Errorf("share the sockets of the tunnels: %w", err)
	}
	for name, activated := range d.socketFiles() {
		for _, f := range activated {
			files = append(files, handover.File{Kind: handover.Systemd, Address: name, File: f})
		}
	}
	for _, l := range []struct {
		kind     handover.Kind
		listener net.Listener
		address  string
		group    string
	}{{handover.Admin, d.socket, d.config.Admin.Socket, d.config.Admin.Group}, {handover.HTTP, d.web, d.config.Admin.HTTP, ""}} {
		if l.listener == nil {
			continue
		}
		f, err := tunnel.Share(l.listener)
		if err != nil {
			return files, fmt.Errorf("share %q: %w", l.address, err)
		}
		detail, err := json.Marshal(l.group)
		if err != nil {
			return files, err
		}
		files = append(files, handover.File{Kind: l.kind, Address: l.address, File: f, Detail: detail})
	}
	return files, nil
}

// pauseWriting ends what changes something by itself, and holds up what would. resume goes on with it.
func (d *Daemon) pauseWriting(ctx context.Context) (resume func(), err error) {
	restart, err := d.chores.stop(ctx)
	if err == nil {
		err = d.store.Pause(ctx)
	}
	if err != nil {
		restart()
		return nil, fmt.Errorf("end what is being written: %w", err)
	}
	return func() {
		d.store.Resume()
		restart()
	}, nil
}

// giveUp leaves the state directory, the sockets and systemd to the new process.
func (d *Daemon) giveUp() {
	d.handedOver.Store(true)
	d.store.HandOver()
	d.gate.Relinquish()
	if unix, ok := d.socket.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
}

func explainSuccessor(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return errors.New("the new daemon did not get ready in time")
	}
	if errors.Is(err, context.Canceled) {
		return errLeaving
	}
	return err
}

// lossError is the refusal of an upgrade that would cost something, or nil.
func lossError(lost []string) error {
	if len(lost) == 0 {
		return nil
	}
	text := strings.Join(lost[:min(len(lost), maxLosses)], "; ")
	if more := len(lost) - maxLosses; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return &admin.Error{Code: admin.CodeRefused, Message: "the new daemon would serve less, and the running one goes on: " + text,
		Hint: "mend the files (spinecert status, spinecert trust diff), or have the running daemon take what is meant (spinecert reload, spinecert trust accept), and ask again; or let it go: spinecert upgrade --force"}
}

// errNoWayBack is the end of a new process that had begun to write.
var errNoWayBack = errors.New("the new daemon was ready, and ended when it took over")

// errLeaving is the answer to an upgrade that comes too late.
var errLeaving = &admin.Error{Code: admin.CodeFailed, Message: "the daemon is stopping, or another has taken over; there was no upgrade", Hint: "spinecert status says which one runs"}

func (d *Daemon) recordUpgrade(who actor, r admin.UpgradeResult, err error) {
	line := auditLine{Time: time.Now(), Event: "upgrade", Actor: who, Reason: r.From + " -> " + r.To}
	attrs := []slog.Attr{slog.String("program", r.Program), slog.String("from", r.From), slog.String("to", r.To), slog.Int("uid", who.UID), slog.String("via", who.Via)}
	if err != nil {
		line.Reason = manage.Clip("failed: " + oneLine(err))
		d.keepAudit(line)
		text := "upgrade failed; this daemon goes on"
		if errors.Is(err, errNoWayBack) {
			text = "upgrade failed; this daemon ends, to be started anew"
		}
		d.record1("upgrade", slog.LevelError, text, append(attrs, slog.String("error", oneLine(err)))...)
		return
	}
	d.keepAudit(line)
	d.record1("upgrade", slog.LevelInfo, "the new daemon serves; this one ends when its connections have ended",
		append(attrs, slog.Int("pid", r.PID), slog.Int("connections", r.Connections), slog.Duration("drain", d.currentConfig().Limits.Drain))...)
}

// upgradeError turns what kept an upgrade from happening into an answer.
func upgradeError(err error) error {
	var answer *admin.Error
	if errors.As(err, &answer) {
		return answer
	}
	if errors.Is(err, errNoWayBack) {
		return &admin.Error{Code: admin.CodeFailed, Message: "upgrade failed, and the running daemon ends, to be started anew: " + err.Error(),
			Hint: "systemctl status spinecertd; install the version before if that one does not start"}
	}
	e := &admin.Error{Code: admin.CodeFailed, Message: "upgrade failed, the running daemon goes on: " + err.Error(), Hint: pki.Hint(err)}
	var refusal *handover.Refusal
	if errors.As(err, &refusal) {
		e.Hint, e.Problems = refusal.Hint, refusal.Problems
		if refusal.Configuration {
			e.Code, e.Message = admin.CodeConfiguration, "the new version does not take the configuration; the running daemon goes on"
		}
	}
	return e
}

// programPath is where the program lies that runs, and where the next one is installed. A path through a link that was
// used to start this one stays that path: another version may be behind it.
func programPath() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	path = strings.TrimSuffix(path, " (deleted)")
	if is, err := os.Stat(path); err == nil && filepath.IsAbs(os.Args[0]) {
		if started, err := os.Stat(os.Args[0]); err == nil && os.SameFile(is, started) {
			return os.Args[0]
		}
	}
	return path
}
