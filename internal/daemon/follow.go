package daemon

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/handover"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/rotate"
)

// A process that another has taken over from judges the connections that it keeps by the rules of that one. What it cannot see
// for itself it is told: another configuration, a CA that left on word, a CRL that was carried here. Files it reads, and lists it fetches, as before.

// tell has a process that this one took over from know of something, if it still drains.
func (d *Daemon) tell(n handover.Note) {
	if d.before == nil {
		return
	}
	if err := d.before.Tell(n); err != nil {
		d.record1("drain_untold", slog.LevelError, "the process that drains could not be told of a change", slog.String("error", err.Error()),
			slog.String("hint", "its connections end within limits.drain; systemctl restart spinecertd ends them now"))
	}
}

// tellConfiguration tells what is configured now: the file may be another one before that is read.
func (d *Daemon) tellConfiguration(c *config.Config) {
	d.tell(handover.Note{Kind: handover.NoteConfiguration, Text: c.Text()})
}

// heed does what the new process tells. An error ends the drain: what cannot follow must not go on.
func (d *Daemon) heed(ctx context.Context, n handover.Note) error {
	err := d.followed(ctx, n)
	if err != nil {
		d.record1("drain_astray", slog.LevelError, "a change cannot be followed here, and the connections that were left are cut", slog.String("error", oneLine(err)))
	}
	d.tell(n) // another one may still drain behind this one
	return err
}

func (d *Daemon) followed(ctx context.Context, n handover.Note) error {
	switch n.Kind {
	case handover.NoteConfiguration:
		return d.followConfiguration(ctx, n.Text)
	case handover.NoteTrust:
		return d.followTrust(ctx, n)
	case handover.NoteList:
		return d.followList(ctx, n)
	}
	return fmt.Errorf("it tells of %q, which this version does not know", n.Kind)
}

// followConfiguration has open connections judged by what is configured now. Tunnels that are gone
// drain, as they do after a reload.
func (d *Daemon) followConfiguration(ctx context.Context, text []byte) error {
	next, err := config.Parse(text, d.file)
	if err != nil {
		return err
	}
	if err := d.plan(next).Check(); err != nil {
		return err
	}
	d.stage(ctx, next)
	live := slices.Clone(d.liveTunnels())
	for i, t := range live {
		at := slices.IndexFunc(next.Tunnels, func(c config.Tunnel) bool { return c.Name == t.name })
		if at < 0 || sameEndpoint(t.config, next.Tunnels[at]) {
			continue
		}
		renewed := *t
		renewed.config = next.Tunnels[at]
		d.bind(&renewed)
		live[i] = &renewed
	}
	d.mu.Lock()
	d.config, d.tunnels = next, live
	d.mu.Unlock()
	d.wakeReview()
	return nil
}

// followTrust takes the bundle that was accepted there.
func (d *Daemon) followTrust(ctx context.Context, n handover.Note) error {
	var digest [32]byte
	if k, err := hex.Decode(digest[:], []byte(n.Digest)); err != nil || k != len(digest) {
		return fmt.Errorf("%q is no digest of a bundle", n.Digest)
	}
	if err := d.applyPlan(ctx, d.plan(d.currentConfig())); err != nil {
		return err
	}
	for _, e := range d.keeper.Environments() {
		if e.Name() == n.Environment && e.Trust() != nil && e.Trust().Bundle().Digest() == digest {
			return nil
		}
	}
	bounded, cancel := finishing(ctx)
	defer cancel()
	return d.keeper.Accept(bounded, n.Environment, rotate.Order{Bundle: digest})
}

// followList takes a list that was carried there, from where that one has put it.
func (d *Daemon) followList(ctx context.Context, n handover.Note) error {
	f, err := d.store.OpenCRL(n.Environment, n.Address)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read list %q: %w", n.Name, err)
	}
	_, err = d.keeper.CarryCRL(ctx, n.Environment, n.Name, data, nil)
	return err
}

// lists are the CRLs of the state directory. A process that has handed it over keeps none, and needs
// none kept: the other one does.
type lists struct {
	*state.Directory
	handedOver func() bool
}

// KeepCRL keeps a list, see state.Directory.
func (l lists) KeepCRL(environment string, k rotate.KeptCRL, spool *os.File) error {
	if l.handedOver() {
		return nil
	}
	return l.Directory.KeepCRL(environment, k, spool)
}

// DropCRL forgets a list, see state.Directory.
func (l lists) DropCRL(environment, address string) error {
	if l.handedOver() {
		return nil
	}
	return l.Directory.DropCRL(environment, address)
}
