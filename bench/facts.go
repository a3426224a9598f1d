package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// fact is a figure of spinecertd alone, with an absolute target.
type fact struct {
	title  string
	value  float64
	unit   string
	target float64 // at most; negative: none
	places int     // decimals in print
}

const noTarget = -1

// facts takes the figures that have no peer to compare with. What could be
// taken is returned also when something could not.
func (l *lab) facts(ctx context.Context, p proxy) ([]fact, error) {
	var out []fact
	var problems []error
	for _, take := range []func(context.Context, proxy) ([]fact, error){l.rotationFacts, l.tenSlotsFact, l.binaryFact} {
		fs, err := take(ctx, p)
		if err != nil {
			problems = append(problems, err)
		}
		for _, f := range fs {
			fmt.Fprintf(l.progress, "%-60s %.*f %s\n", f.title, f.places, f.value, f.unit)
		}
		out = append(out, fs...)
	}
	return out, errors.Join(problems...)
}

func (l *lab) rotationFacts(ctx context.Context, p proxy) ([]fact, error) {
	r, err := l.rotations(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("measure rotation: %w", err)
	}
	n := len(r.latencies)
	return []fact{
		{fmt.Sprintf("rename to first handshake served with it, p50 of %d", n), quantile(r.latencies, 0.50), "ms", noTarget, 1},
		{fmt.Sprintf("rename to first handshake served with it, p99 of %d", n), quantile(r.latencies, 0.99), "ms", 25, 1},
		{fmt.Sprintf("rename to first handshake served with it, max of %d", n), quantile(r.latencies, 1), "ms", noTarget, 1},
		{fmt.Sprintf("rotations not served within %s", rotationLimit), float64(r.missed), "", 0, 0},
		{fmt.Sprintf("requests lost over the rotations, of %d", r.requests), float64(r.lost), "", 0, 0},
	}, nil
}

func (l *lab) tenSlotsFact(ctx context.Context, p proxy) ([]fact, error) {
	in, err := l.start(ctx, p, tenSlots)
	if err != nil {
		return nil, fmt.Errorf("measure idle memory: %w", err)
	}
	defer in.stop()
	if err := sleep(ctx, l.sizes.settle); err != nil {
		return nil, err
	}
	m, err := in.memory()
	if err != nil {
		return nil, fmt.Errorf("measure idle memory: %w", err)
	}
	title := fmt.Sprintf("resident memory, idle, %d slots", tenSlots)
	return []fact{{title, float64(m.rss) / 1e6, "MB", 25, 1}}, nil
}

func (l *lab) binaryFact(_ context.Context, p proxy) ([]fact, error) {
	size, err := strippedSize(p.binary, l.dir)
	if err != nil {
		return nil, fmt.Errorf("measure binary: %w", err)
	}
	return []fact{{"size of the stripped binary", float64(size), "bytes", 16_000_000, 0}}, nil
}

// strippedSize returns the size of a binary without symbols: as it is if it was
// linked without them, else of a stripped copy in dir.
func strippedSize(path, dir string) (int64, error) {
	f, err := elf.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read binary %q: %w", path, err)
	}
	defer f.Close()
	if f.Section(".symtab") != nil {
		bare := filepath.Join(dir, "stripped")
		if out, err := exec.Command("strip", "-o", bare, path).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("strip %q: %w: %s", path, err, out)
		}
		path = bare
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("size of binary: %w", err)
	}
	return info.Size(), nil
}
