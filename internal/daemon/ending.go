package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/spinecert/spinecert/internal/deliver/systemd"
	"github.com/spinecert/spinecert/internal/handover"
)

// shutdown drains: nothing new is accepted, what is open may end by itself for a while.
func (d *Daemon) shutdown(ctx context.Context) error {
	d.notify(sd.SdNotifyStopping)
	d.sayLeave()
	d.opening.Lock()
	d.stopping = true
	d.opening.Unlock()
	patience := d.currentConfig().Limits.Drain
	d.record1("stopping", slog.LevelInfo, "stopping", slog.Duration("drain", patience))
	impatient, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	drained := d.drain(impatient, d.everyTunnel(), patience)
	d.record1("stopped", slog.LevelInfo, "stopped", slog.Int("connections_cut", drained))
	return nil
}

// leave ends a process whose place another has taken: its connections may end by themselves for a while. A
// signal to stop is for both, and a second one ends the wait; of systemd's, which sends SIGTERM again when the main process has
// ended, only SIGINT counts. The end of the other process ends the wait, too, unless that was asked to: what starts in its
// place has to wait for this one.
func (d *Daemon) leave(ctx context.Context) error {
	patience := d.currentConfig().Limits.Drain // as was said, also where the new process soon tells of another
	impatient, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ending := []os.Signal{syscall.SIGINT}
	if !systemd.Supervised() {
		ending = append(ending, syscall.SIGTERM)
	}
	context.AfterFunc(ctx, func() {
		second, end := signal.NotifyContext(impatient, ending...)
		defer end()
		<-second.Done()
		stop()
	})
	lost := make(chan error, 1)
	left := make(chan struct{}) // the other one ends as it is asked to
	go func() {
		err := d.successor.Watch(impatient, func(n handover.Note) error { return d.heed(impatient, n) })
		switch {
		case err == nil:
			d.sayLeave()
			close(left)
		case impatient.Err() == nil:
			stop()
		default:
			err = nil
		}
		lost <- err
	}()
	cut := d.drain(impatient, d.everyTunnel(), patience)
	d.awaitOlder(impatient, left)
	_ = handover.Barrier() // nobody is left to be told
	d.record1("left", slog.LevelInfo, "stopped; another process has taken over", slog.Int("connections_cut", cut))
	stop()
	if <-lost != nil {
		return errSuccessor
	}
	return nil
}

// awaitOlder waits, while this process has nothing left to do, for one that it took over from itself and that still
// drains: only through this one does that one learn what it must know.
func (d *Daemon) awaitOlder(ctx context.Context, left <-chan struct{}) {
	if d.before == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-left:
			cancel()
		case <-ctx.Done():
		}
	}()
	d.before.Ended(ctx)
}

// sayLeave tells a process that this one took over from, and that still drains, that this one ends as it
// is asked to.
func (d *Daemon) sayLeave() {
	if d.before != nil {
		_ = d.before.Leave() // it may have ended
	}
}

func (d *Daemon) drain(ctx context.Context, tunnels []*liveTunnel, patience time.Duration) int {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var group sync.WaitGroup
	var cut atomic.Int64
	for _, t := range tunnels {
		group.Go(func() { cut.Add(int64(t.tunnel.Drain(bounded))) })
	}
	group.Wait()
	return int(cut.Load())
}
