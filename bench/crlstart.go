package main

import (
	"context"
	"fmt"
	"net"
	"time"
)

// startFigures is one start of a proxy: milliseconds and bytes.
type startFigures struct{ listen, first, rss, peak float64 }

// starts compares what the large list adds to a start of spinecertd and of HAProxy,
// each with and without it in turn.
func (t *trial) starts(ctx context.Context) error {
	rows := []versus{
		{title: "from start to listening", unit: "ms"},
		{title: "from start to the first request", unit: "ms"},
		{title: "resident memory, at rest", unit: "MB", places: 1},
		{title: "resident memory, at most", unit: "MB", places: 1},
	}
	for range t.sizes.rounds {
		ours, err := t.added(ctx, t.daemon)
		if err != nil {
			return err
		}
		for i, v := range ours {
			rows[i].ours = append(rows[i].ours, v)
		}
		if t.haproxy == nil {
			continue
		}
		theirs, err := t.added(ctx, *t.haproxy)
		if err != nil {
			return err
		}
		for i, v := range theirs {
			rows[i].theirs = append(rows[i].theirs, v)
		}
	}
	for _, r := range rows {
		fmt.Fprintf(t.progress, "added by the list: %-41s %s, haproxy %s\n", r.title, spread(r.ours, r.places, r.unit), spread(r.theirs, r.places, r.unit))
	}
	t.out.versus = append(t.out.versus, rows...)
	return nil
}

// added returns the figures of a start with the large list less those without.
func (t *trial) added(ctx context.Context, p proxy) ([4]float64, error) {
	without, err := t.startOnce(ctx, p)
	if err != nil {
		return [4]float64{}, err
	}
	with, err := t.startOnce(ctx, p, t.revoking(t.lists.large))
	if err != nil {
		return [4]float64{}, fmt.Errorf("with a list of %d entries: %w", largeList, err)
	}
	return [4]float64{
		with.listen - without.listen, with.first - without.first,
		(with.rss - without.rss) / 1e6, (with.peak - without.peak) / 1e6,
	}, nil
}

// startOnce tries more than once: while a list loads, another program may take the port.
func (t *trial) startOnce(ctx context.Context, p proxy, changes ...func(*site)) (f startFigures, err error) {
	for range startAttempts {
		if f, err = t.tryStart(ctx, p, changes); err == nil || ctx.Err() != nil {
			break
		}
	}
	return f, err
}

func (t *trial) tryStart(ctx context.Context, p proxy, changes []func(*site)) (f startFigures, err error) {
	in, err := t.launch(p, 1, changes)
	if err != nil {
		return f, err
	}
	defer in.stop()
	defer func() {
		if err != nil {
			err = fmt.Errorf("start %s: %w%s", p.name, err, in.tail())
		}
	}()
	if err := in.poll(ctx); err != nil {
		return f, err
	}
	f.listen = milliseconds(time.Since(in.begun))
	if _, err := visit(ctx, in.addr(), t.client); err != nil {
		return f, err
	}
	f.first = milliseconds(time.Since(in.begun))
	if err := t.ready(ctx, in); err != nil {
		return f, err
	}
	if err := sleep(ctx, t.sizes.settle); err != nil {
		return f, err
	}
	m, err := in.memory()
	if err != nil {
		return f, err
	}
	peak, err := statusBytes(in.cmd.Process.Pid, "VmHWM")
	f.rss, f.peak = float64(m.rss), float64(peak)
	return f, err
}

// poll waits for the listener as awaitListener does, but looks each millisecond.
func (in *instance) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not serving after %s", startLimit))
	defer cancel()
	for {
		c, err := net.DialTimeout("tcp", in.addr(), time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-in.ended:
			return fmt.Errorf("it ended: %s", in.cmd.ProcessState)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}
