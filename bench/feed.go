package main

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// provedLimit is how long services may take.
	provedLimit = 2 * time.Minute
	// betweenTurns lets old workers go.
	betweenTurns = 200 * time.Millisecond
)

// serving starts a daemon for services, and waits until all are proved.
func (f *feeding) serving(ctx context.Context, services []told) (*instance, *follower, error) {
	in, err := f.start(ctx, f.daemon, 1, func(s *site) { s.Services = services })
	if err != nil {
		return nil, nil, err
	}
	w, err := follow(in)
	if err == nil {
		_, err = w.await(ctx, len(services), provedLimit)
	}
	if err != nil {
		in.stop()
		return nil, nil, err
	}
	return in, w, nil
}

// rotate gives the slot a new pair and returns how long it took until its services
// were proved, in milliseconds.
func (w *follower) rotate(ctx context.Context, id *identity) (float64, error) {
	if err := sleep(ctx, betweenTurns+rand.N(betweenTurns)); err != nil {
		return 0, err
	}
	if err := w.skip(); err != nil {
		return 0, err
	}
	begun, err := replacePair(w.in.site.Doors[0], id, false)
	if err != nil {
		return 0, err
	}
	at, err := w.await(ctx, len(w.in.site.Services), provedLimit)
	return milliseconds(at.Sub(begun)), err
}

// twenty measures a rotation that feeds many nginx, in turns with the same by hand.
func (f *feeding) twenty(ctx context.Context) error {
	t, err := f.takeTurns(ctx, func(s *server) string {
		return fmt.Sprintf("{signal: HUP, pid_file: %q}", filepath.Join(s.Dir, "nginx.pid"))
	}, func(_ context.Context, s *server) error { return s.hangup() }, true)
	if err != nil {
		return err
	}
	n := len(t.ours)
	f.fact(fmt.Sprintf("%d nginx: rename to all proved, median of %d", fed, n), median(t.ours), "ms", noTarget, 0)
	f.fact("the same, longest", quantile(t.ours, 1), "ms", noTarget, 0)
	f.fact(fmt.Sprintf("all %d by hand at once, median", fed), median(t.atOnce), "ms", noTarget, 0)
	f.fact("the slowest of them by hand, each alone, median", median(t.alone), "ms", noTarget, 0)
	f.fact("over all by hand at once, median of differences", median(over(t.ours, t.atOnce)), "ms", 100, 0)
	f.fact("over the slowest alone, median of differences", median(over(t.ours, t.alone)), "ms", noTarget, 0)
	f.fact("CPU of spinecertd for one such rotation, median", median(t.cpu), "ms", noTarget, 0)
	return nil
}

// fixed measures the same where the command that reloads returns after a fixed time,
// when nginx has long done it.
func (f *feeding) fixed(ctx context.Context) error {
	shell, ok := lookPath("sh")
	if !ok {
		return errors.New("sh is not installed")
	}
	words := func(s *server) []string {
		return []string{shell, "-c", fmt.Sprintf("kill -HUP %d && exec sleep %g", s.cmd.Process.Pid, fixedReload.Seconds())}
	}
	t, err := f.takeTurns(ctx, func(s *server) string { return fmt.Sprintf("{exec: [%s]}", quoted(words(s))) },
		func(ctx context.Context, s *server) error {
			return exec.CommandContext(ctx, shell, words(s)[1:]...).Run()
		}, false)
	if err != nil {
		return err
	}
	fixed := slices.Repeat([]float64{milliseconds(fixedReload)}, len(t.ours))
	f.fact(fmt.Sprintf("%d nginx whose reload returns after %s: rename to all proved, median of %d", fed, fixedReload, len(t.ours)), median(t.ours), "ms", noTarget, 0)
	f.fact(fmt.Sprintf("all %d by hand at once, median", fed), median(t.atOnce), "ms", noTarget, 0)
	f.fact("over all by hand at once, median of differences", median(over(t.ours, t.atOnce)), "ms", 100, 0)
	f.fact(fmt.Sprintf("over the %s, median", fixedReload), median(over(t.ours, fixed)), "ms", noTarget, 0)
	f.fact("the same, longest", quantile(over(t.ours, fixed), 1), "ms", noTarget, 0)
	return nil
}

// turns are what rotations took that were made in turns by hand and by spinecertd, in
// milliseconds.
type turns struct {
	alone  []float64 // the slowest by hand, one after the other
	atOnce []float64 // all by hand at once, until the last was done
	ours   []float64
	cpu    []float64 // of spinecertd
}

// takeTurns rotates in a fleet. How spinecertd tells a server is for reload, how
// somebody does by hand for tell.
func (f *feeding) takeTurns(ctx context.Context, reload func(*server) string, tell func(context.Context, *server) error, alone bool) (t turns, err error) {
	keys, err := newKeys(ctx, f.sizes.turns)
	if err != nil {
		return t, err
	}
	fleet, stop, err := f.startFleet(ctx, fed)
	if err != nil {
		return t, err
	}
	defer stop()
	var services []told
	for _, s := range fleet {
		services = append(services, told{s.Name, s.Spine, reload(s), s.Delivered})
	}
	in, w, err := f.serving(ctx, services)
	if err != nil {
		return t, err
	}
	defer in.stop()
	defer w.close()
	for _, key := range keys {
		if alone {
			slowest, err := f.eachByHand(ctx, fleet, key, tell)
			if err != nil {
				return t, err
			}
			t.alone = append(t.alone, slowest)
		}
		took, err := f.allByHand(ctx, fleet, key, tell)
		if err != nil {
			return t, err
		}
		t.atOnce = append(t.atOnce, took)
		if err := t.rotate(ctx, f, w, key); err != nil {
			return t, err
		}
		fmt.Fprintf(f.progress, "%d nginx: all by hand %.0f ms, delivered and proved %.0f ms\n", fed, took, t.ours[len(t.ours)-1])
	}
	return t, nil
}

// rotate adds a rotation by spinecertd.
func (t *turns) rotate(ctx context.Context, f *feeding, w *follower, key *rsa.PrivateKey) error {
	id, err := f.authority.issue(serverName, key)
	if err != nil {
		return err
	}
	before, err := w.in.cpu()
	if err != nil {
		return err
	}
	took, err := w.rotate(ctx, id)
	if err != nil {
		return err
	}
	after, err := w.in.cpu()
	t.ours, t.cpu = append(t.ours, took), append(t.cpu, milliseconds(after-before))
	return err
}

// single measures rotations of one nginx, beside the same by hand: files, and then its
// own program.
func (f *feeding) single(ctx context.Context) error {
	keys, err := newKeys(ctx, f.sizes.singly)
	if err != nil {
		return err
	}
	fleet, stop, err := f.startFleet(ctx, 1)
	if err != nil {
		return err
	}
	defer stop()
	s := fleet[0]
	words := append([]string{f.nginx.binary}, append(s.arguments(), "-s", "reload")...)
	in, w, err := f.serving(ctx, []told{{s.Name, s.Spine, fmt.Sprintf("{exec: [%s]}", quoted(words)), s.Delivered}})
	if err != nil {
		return err
	}
	defer in.stop()
	defer w.close()
	var ours, hand []float64
	for _, key := range keys {
		id, err := f.authority.issue(serverName, key)
		if err != nil {
			return err
		}
		took, err := f.byHand(ctx, s, id, lookEvery, func(ctx context.Context, _ *server) error {
			return exec.CommandContext(ctx, words[0], words[1:]...).Run()
		})
		if err != nil {
			return err
		}
		hand = append(hand, milliseconds(took))
		if id, err = f.authority.issue(serverName, key); err != nil {
			return err
		}
		delivered, err := w.rotate(ctx, id)
		if err != nil {
			return err
		}
		ours = append(ours, delivered)
	}
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		f.fact(fmt.Sprintf("one nginx, nginx -s reload: rename to proved, %s of %d", q.name, len(ours)), quantile(ours, q.q), "ms", noTarget, 0)
		f.fact(fmt.Sprintf("the same by hand, %s", q.name), quantile(hand, q.q), "ms", noTarget, 0)
	}
	f.fact("median of differences", median(over(ours, hand)), "ms", noTarget, 0)
	return nil
}

// quoted writes words as a list in YAML.
func quoted(words []string) string {
	var out []string
	for _, w := range words {
		out = append(out, fmt.Sprintf("%q", w))
	}
	return strings.Join(out, ", ")
}
