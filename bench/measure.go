package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// measure is one figure taken of every proxy in every round.
type measure struct {
	title  string
	unit   string
	target float64 // at most this ratio to the baseline (DESIGN.md, section 9)
	take   func(ctx context.Context, l *lab, in *instance) (float64, error)
}

func measures() []measure {
	return []measure{
		{"CPU per full handshake + connection", "ms", 1.4, fullHandshake},
		{"CPU per resumed handshake + connection", "ms", 0.9, resumedHandshake},
		{"CPU per GB, client to backend", "s", 1.0, upload},
		{"CPU per GB, backend to client", "s", 1.0, download},
		{"memory per idle connection", "KiB", 0.75, idleConnection},
	}
}

// samples holds a value per measure, proxy and round; NaN where the measure
// failed, so that rounds can be paired.
type samples [][][]float64

// rounds takes every measure of every proxy, the proxies in turn, each from a
// process of its own so that no measure inherits the heap of another.
func (l *lab) rounds(ctx context.Context, ps []proxy) (samples, []error) {
	var failures []error
	ms := measures()
	out := make(samples, len(ms))
	for i := range ms {
		out[i] = make([][]float64, len(ps))
	}
	for round := range l.sizes.rounds {
		for i, m := range ms {
			for j, p := range ps {
				value, err := l.takeOnce(ctx, m, p)
				if ctx.Err() != nil {
					return out, failures
				}
				if err != nil {
					failures = append(failures, fmt.Errorf("measure %q of %s, round %d: %w", m.title, p.name, round+1, err))
					value = math.NaN()
				}
				fmt.Fprintf(l.progress, "round %d/%d  %-40s %-10s %8.2f %s\n", round+1, l.sizes.rounds, m.title, p.name, value, m.unit)
				out[i][j] = append(out[i][j], value)
			}
		}
	}
	return out, failures
}

func (l *lab) takeOnce(ctx context.Context, m measure, p proxy) (float64, error) {
	in, err := l.start(ctx, p, 1)
	if err != nil {
		return 0, err
	}
	defer in.stop()
	value, err := m.take(ctx, l, in)
	if err != nil {
		return 0, fmt.Errorf("%w%s", err, in.tail())
	}
	return value, nil
}

// cpuOf returns the CPU time that the proxy used while work ran and until it
// had tidied up after it.
func cpuOf(ctx context.Context, in *instance, work func() error) (time.Duration, error) {
	return cpuWithin(ctx, in, 300*time.Millisecond, work)
}

// cpuWithin waits for tidy before and after the work.
func cpuWithin(ctx context.Context, in *instance, tidy time.Duration, work func() error) (time.Duration, error) {
	if err := sleep(ctx, tidy); err != nil {
		return 0, err
	}
	before, err := in.cpu()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	if err := sleep(ctx, tidy); err != nil {
		return 0, err
	}
	after, err := in.cpu()
	return after - before, err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func fullHandshake(ctx context.Context, l *lab, in *instance) (float64, error) {
	used, err := cpuOf(ctx, in, func() error {
		return runClients(ctx, l.sizes.full, func(ctx context.Context, _ int) error {
			cs, err := visit(ctx, in.addr(), l.client)
			if err == nil && cs.DidResume {
				err = errors.New("a full handshake was resumed")
			}
			return err
		})
	})
	return milliseconds(used) / float64(l.sizes.full), err
}

// resumedHandshake gives every client a session first, which is not counted.
func resumedHandshake(ctx context.Context, l *lab, in *instance) (float64, error) {
	var configs [clients]*tls.Config
	for i := range configs {
		configs[i] = l.client.Clone()
		configs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
		if _, err := visit(ctx, in.addr(), configs[i]); err != nil {
			return 0, err
		}
	}
	used, err := cpuOf(ctx, in, func() error {
		return runClients(ctx, l.sizes.resumed, func(ctx context.Context, client int) error {
			cs, err := visit(ctx, in.addr(), configs[client])
			if err == nil && !cs.DidResume {
				err = errors.New("a session was not resumed")
			}
			return err
		})
	})
	return milliseconds(used) / float64(l.sizes.resumed), err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func upload(ctx context.Context, l *lab, in *instance) (float64, error) {
	return relay(ctx, l, in, func(c *tls.Conn, bytes int64) error {
		if _, err := c.Write(header(modeSink, bytes)); err != nil {
			return err
		}
		if _, err := copyPlain(c, io.LimitReader(zeros{}, bytes)); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1)) // the backend has all of it
		return err
	})
}

func download(ctx context.Context, l *lab, in *instance) (float64, error) {
	return relay(ctx, l, in, func(c *tls.Conn, bytes int64) error {
		if _, err := c.Write(header(modeSource, bytes)); err != nil {
			return err
		}
		n, err := copyPlain(io.Discard, io.LimitReader(c, bytes))
		if err == nil && n != bytes {
			err = fmt.Errorf("got %d of %d bytes", n, bytes)
		}
		return err
	})
}

// relay moves the bytes of the run over two connections that are open before
// the count begins, and returns seconds of CPU per 10^9 bytes.
func relay(ctx context.Context, l *lab, in *instance, move func(c *tls.Conn, bytes int64) error) (float64, error) {
	const connections = 2
	conns, err := openIdle(ctx, l, in, connections, nil)
	defer closeAll(conns)
	if err != nil {
		return 0, err
	}
	// A stalled relay must not outlive an interrupted run.
	defer context.AfterFunc(ctx, func() { closeAll(conns) })()
	used, err := cpuOf(ctx, in, func() error {
		var g errgroup.Group
		for _, c := range conns {
			g.Go(func() error {
				if err := move(c, l.sizes.relay/connections); err != nil {
					return fmt.Errorf("relay: %w", err)
				}
				return nil
			})
		}
		return g.Wait()
	})
	return used.Seconds() / (float64(l.sizes.relay) / 1e9), err
}

// idleConnection opens the connections, sends 64 KiB there and back over each,
// waits, and returns the growth of PSS per connection.
func idleConnection(ctx context.Context, l *lab, in *instance) (float64, error) {
	if err := sleep(ctx, time.Second); err != nil {
		return 0, err
	}
	before, err := in.memory()
	if err != nil {
		return 0, err
	}
	conns, err := openIdle(ctx, l, in, l.sizes.idle, func(c *tls.Conn) error {
		if err := startEcho(c); err != nil {
			return err
		}
		for range 4 {
			if err := ping(c, 16<<10); err != nil {
				return err
			}
		}
		return nil
	})
	defer closeAll(conns)
	if err != nil {
		return 0, err
	}
	if err := sleep(ctx, l.sizes.settle); err != nil {
		return 0, err
	}
	after, err := in.memory()
	if err != nil {
		return 0, err
	}
	// Memory of a proxy that has dropped its clients would look splendid.
	for i, c := range conns {
		if err := ping(c, 1); err != nil {
			return 0, fmt.Errorf("idle connection %d of %d: %w", i+1, len(conns), err)
		}
	}
	return float64(after.pss-before.pss) / 1024 / float64(len(conns)), nil
}

// openIdle opens n connections and calls use, if any, on each.
func openIdle(ctx context.Context, l *lab, in *instance, n int, use func(*tls.Conn) error) ([]*tls.Conn, error) {
	var mu sync.Mutex
	var conns []*tls.Conn
	err := runClients(ctx, n, func(ctx context.Context, _ int) error {
		c, err := open(ctx, in.addr(), l.client)
		if err != nil {
			return err
		}
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		if use == nil {
			return nil
		}
		return use(c)
	})
	return conns, err
}

func closeAll(conns []*tls.Conn) {
	for _, c := range conns {
		// Straight to TCP: a full send buffer would make tls.Conn.Close wait.
		c.NetConn().Close()
	}
}
