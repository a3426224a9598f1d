package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

const (
	// visitors make a request with a full handshake every so often, each.
	visitors        = 4
	visitorEvery    = 40 * time.Millisecond
	betweenUpgrades = 700 * time.Millisecond
)

// upgrades measures daemons that follow each other, and what that does to requests.
func (v *living) upgrades(ctx context.Context) error {
	for _, n := range []int{tenSlots, v.sizes.slots} {
		if err := v.succession(ctx, n); err != nil {
			return fmt.Errorf("%d slots: %w", n, err)
		}
	}
	return nil
}

// visits are what became of the requests of visitors.
type visits struct {
	latencies
	mu     sync.Mutex
	broken int // refused or reset
	first  error
}

// succession has a daemon with n slots be followed by others while requests are made.
func (v *living) succession(ctx context.Context, n int) error {
	c, err := v.crowd(ctx, n)
	if err != nil {
		return err
	}
	in, _, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer in.stop()
	if err := v.ready(ctx, in); err != nil {
		return err
	}
	if err := c.saved(ctx); err != nil {
		return err
	}
	conns, err := openIdle(ctx, v.lab, in, talkers, startEcho)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	defer collectLater()()
	count, quietTime := v.sizes.upgrades, betweenUpgrades
	if n > tenSlots {
		count, quietTime = v.sizes.longUpgrades, 5*time.Second
	}
	var load visits
	var talk traffic
	stop := v.visitors(ctx, in, &load)
	defer stop()
	stopTalk := talk.begin(ctx, conns, talkEvery, func(context.Context) error { return nil })
	defer stopTalk()
	var seen windows
	var took, memory []float64
	client := admin.NewClient(filepath.Join(c.site.Dir, "admin.sock"))
	for range count {
		quiet := window{from: time.Now()}
		if err := sleep(ctx, quietTime); err != nil {
			return err
		}
		quiet.to = time.Now()
		r, err := client.Upgrade(ctx, admin.UpgradeRequest{})
		if err != nil {
			return fmt.Errorf("upgrade: %w%s", err, in.tail())
		}
		w := window{quiet.to, time.Now()}
		seen.quiet, seen.busy = append(seen.quiet, quiet), append(seen.busy, w)
		took = append(took, w.to.Sub(w.from).Seconds())
		if err := sleep(ctx, 300*time.Millisecond); err != nil { // what the old process still does is nobody's
			return err
		}
		peak, err := statusBytes(r.PID, "VmHWM")
		if err != nil {
			return err
		}
		memory = append(memory, float64(peak)/1e6)
	}
	stop()
	stopTalk()
	v.tellSuccession(n, took, memory, seen, &load, &talk)
	return nil
}

func (v *living) tellSuccession(n int, took, memory []float64, seen windows, load *visits, talk *traffic) {
	v.fact(fmt.Sprintf("%d slots: the command to the new process serving, median of %d upgrades", n, len(took)), median(took), "s", noTarget, 3)
	v.fact("the same, longest", quantile(took, 1), "s", 30, 3)
	v.fact("resident memory of the new process, at most", median(memory), "MB", noTarget, 1)
	done, lost := load.count()
	v.fact(fmt.Sprintf("requests with a handshake that failed, of %d", done+lost), float64(lost), "", 0, 0)
	v.fact("of these refused or reset", float64(load.broken), "", 0, 0)
	exchanges, cut := talk.exchanges.count()
	v.fact(fmt.Sprintf("requests over connections that were open before that failed, of %d", exchanges+cut), float64(cut), "", 0, 0)
	for _, kind := range []struct {
		what   string
		l      *latencies
		target float64
	}{{"a request with a full handshake", &load.latencies, 2}, {"a request over a connection of the first process", &talk.exchanges, noTarget}} {
		quiet, busy := kind.l.within(seen.quiet), kind.l.within(seen.busy)
		v.fact(fmt.Sprintf("%s: p50 otherwise, of %d", kind.what, len(quiet)), quantile(quiet, 0.5), "ms", noTarget, 2)
		v.fact(fmt.Sprintf("p50 during an upgrade, of %d", len(busy)), quantile(busy, 0.5), "ms", noTarget, 2)
		v.fact("p99 otherwise", quantile(quiet, 0.99), "ms", noTarget, 2)
		v.fact("p99 during an upgrade", quantile(busy, 0.99), "ms", noTarget, 2)
		v.fact("ratio of the two", quantile(busy, 0.99)/quantile(quiet, 0.99), "", kind.target, 2)
		v.fact("longest during an upgrade", quantile(busy, 1), "ms", noTarget, 2)
	}
	if load.first != nil {
		fmt.Fprintf(v.progress, "the first that failed: %v\n", load.first)
	}
}

// visitors make requests at a steady pace until the function is called that is returned.
func (v *living) visitors(ctx context.Context, in *instance, load *visits) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range visitors {
		wg.Go(func() {
			load.keep(ctx, visitorEvery, false, func() error {
				_, err := visit(ctx, in.addr(), v.client)
				if err != nil && ctx.Err() == nil {
					load.note1(err)
				}
				return err
			})
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func (l *visits) note1(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
		l.broken++
	}
}
