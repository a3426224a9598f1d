package systemstory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// load is what peers do all the time: some talk over a connection that they keep, about once a second, and others make a new connection each,
// use it, and close it.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	lines   int             // over kept connections
	broken  []error         // kept connections that did not answer
	took    []time.Duration // new connections
	refused int
	reset   int
	failed  []error // new connections that came to nothing, the two above among them
}

// opening bounds how many connections are opened at once in the beginning.
const opening = 20

// load opens connections that are kept, and begins to make so many new ones a second.
func (h *host) load(kept, fresh int) *load {
	h.t.Helper()
	peers := make([]*peer, kept)
	errs := make([]error, opening)
	c := h.clientConfig(h.who)
	var group sync.WaitGroup
	for i := range opening {
		group.Go(func() {
			for j := i; j < kept && errs[i] == nil; j += opening {
				if peers[j], errs[i] = h.connect(h.t.Context(), c); errs[i] == nil {
					errs[i] = peers[j].use()
				}
			}
		})
	}
	group.Wait()
	h.t.Cleanup(func() {
		for _, p := range peers {
			if p != nil {
				_ = p.NetConn().Close()
			}
		}
	})
	if err := errors.Join(errs...); err != nil {
		h.t.Fatalf("open %d connections: %v", kept, err)
	}
	ctx, stop := context.WithCancel(h.t.Context())
	l := &load{stop: stop}
	for _, p := range peers {
		l.done.Go(func() { l.talk(ctx, p) })
	}
	if fresh > 0 {
		l.done.Go(func() { l.arrive(ctx, h, c, time.Second/time.Duration(fresh)) })
	}
	h.t.Cleanup(func() { stop(); l.done.Wait() })
	return l
}

// talk sends a line about once a second, and once more at the end.
func (l *load) talk(ctx context.Context, p *peer) {
	for goes := true; goes; {
		select {
		case <-ctx.Done():
			goes = false
		case <-time.After(time.Second/2 + rand.N(time.Second)):
		}
		err := p.use()
		l.mu.Lock()
		if err == nil {
			l.lines++
		} else {
			l.broken = append(l.broken, err)
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
	_ = p.Close()
}

// arrive makes new connections at a steady pace, whatever became of those before.
func (l *load) arrive(ctx context.Context, h *host, c *tls.Config, every time.Duration) {
	for due := time.Now(); ctx.Err() == nil; due = due.Add(every) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		l.done.Go(func() { l.visit(context.WithoutCancel(ctx), h, c) })
	}
}

func (l *load) visit(ctx context.Context, h *host, c *tls.Config) {
	begin := time.Now()
	p, err := h.connect(ctx, c)
	if err == nil {
		err = errors.Join(p.use(), p.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.took = append(l.took, time.Since(begin))
		return
	}
	l.failed = append(l.failed, err)
	if errors.Is(err, syscall.ECONNREFUSED) {
		l.refused++
	}
	if errors.Is(err, syscall.ECONNRESET) {
		l.reset++
	}
}

// end stops the peers, prints what they met, and wants nothing to have failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.done.Wait()
	slices.Sort(l.took)
	t.Logf("%d lines over connections that were kept, %d of which broke; %d new connections, %d refused, %d reset, %d failed in all", l.lines, len(l.broken),
		len(l.took)+len(l.failed), l.refused, l.reset, len(l.failed))
	if n := len(l.took); n > 0 {
		t.Logf("a new connection with a request took %s at p50, %s at p99, %s at most", l.took[n/2], l.took[n*99/100], l.took[n-1])
	}
	for _, errs := range [][]error{l.broken, l.failed} {
		for _, err := range errs[:min(len(errs), 5)] {
			t.Errorf("%v", err)
		}
		if len(errs) > 5 {
			t.Errorf("and %d more like it", len(errs)-5)
		}
	}
}

// while is how many lines and new connections there were so far.
func (l *load) while() (lines, arrived int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines, len(l.took)
}

// room is a configuration for many connections, all from one address, which are given time.
func (h *host) room(drain string) {
	h.t.Helper()
	h.configure("drain: 5s", "per_source: 4000, drain: "+drain, "peers: [", "connections: 8000, peers: [")
}

// TestUpgradeLoad: upgrades while connections are open and new ones come: none is refused, none is reset, all answer.
func TestUpgradeLoad(t *testing.T) {
	kept, fresh, upgrades, each := 100, 20, 3, 2*time.Second
	if isLong() {
		kept, fresh, upgrades, each = 2000, 200, 5, 10*time.Second
	} else {
		t.Parallel()
	}
	h := installed(t)
	h.room("120s")
	h.Run("systemctl", "start", unit)
	l := h.load(kept, fresh)
	first := h.main()
	for i := range upgrades {
		h.rest(l, each)
		h.ship([]string{later, dev}[i%2])
		begin := time.Now()
		u := h.upgrade()
		h.took(fmt.Sprintf("upgrade %d, from %s to %s with %d open connections", i+1, u.From, u.To, u.Connections), begin)
		if i == 0 && u.Connections < kept {
			t.Errorf("upgrade 1 says that there were %d connections", u.Connections)
		}
	}
	h.rest(l, each)
	if got := h.daemons(); len(got) < 2 || !slices.Contains(got, fmt.Sprint(first)) {
		t.Errorf("the daemons are %q, and the first was %d", got, first)
	}
	l.end(t) // all that were kept have answered once more
	h.alone()
	h.steady()
	h.idle()
}

// rest lets peers work for a while.
func (h *host) rest(l *load, d time.Duration) {
	h.t.Helper()
	lines, arrived := l.while()
	time.Sleep(d) // how much happens meanwhile is counted, and what goes wrong is told whenever it does
	nowLines, nowArrived := l.while()
	if nowArrived == arrived && nowLines == lines {
		h.t.Errorf("no peer got an answer within %s", d)
	}
}

// idle waits until nobody waits for the tunnel, and nothing is open.
func (h *host) idle() {
	h.t.Helper()
	h.Until("nobody waits for the tunnel", func() bool { return h.waiting() == 0 })
	h.Until("no connection is open", func() bool { return h.status().Tunnels[0].Connections == 0 })
}

// TestUpgradeOften: upgrades in a row, up and down, leave nothing behind: no process, no descriptor, no memory.
func TestUpgradeOften(t *testing.T) {
	upgrades, fresh := 4, 20
	if isLong() {
		upgrades, fresh = 20, 50
	} else {
		t.Parallel()
	}
	h := installed(t)
	h.room("20s")
	h.Run("systemctl", "start", unit)
	h.ship(later)
	h.upgrade()
	h.alone()
	h.serves(h.own)
	before, memory := h.descriptors(), h.resident()
	l := h.load(0, fresh)
	version := later
	for range upgrades {
		next := map[string]string{later: dev, dev: later}[version] // every other one is a downgrade
		h.ship(next)
		if u := h.upgrade(); u.From != version || u.To != next {
			t.Errorf("from %s to %s: %+v", version, next, u)
		}
		version = next
	}
	h.rest(l, time.Second)
	l.end(t)
	h.alone()
	h.steady()
	h.idle()
	var after int
	h.Until("as many descriptors are open as before", func() bool { after = h.descriptors(); return after <= before })
	t.Logf("descriptors: %d after the first upgrade, %d after %d more; resident memory: %d and %d kB", before, after, upgrades, memory, h.resident())
	if now := h.resident(); now > memory+memory/2+16<<10 {
		t.Errorf("resident memory grew from %d to %d kB", memory, now)
	}
}
