package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// handshakeCost compares the CPU of full handshakes of three daemons that run side
// by side: without revocation, with a small list, with the large one. They take
// turns at short blocks, so that a busy second meets all of them.
func (t *trial) handshakeCost(ctx context.Context) error {
	kinds := []struct {
		title   string
		changes []func(*site)
	}{
		{"without CRLs", nil},
		{fmt.Sprintf("%d entries", smallList), []func(*site){t.revoking(t.lists.small)}},
		{fmt.Sprintf("%d entries", largeList), []func(*site){t.revoking(t.lists.large)}},
	}
	var daemons []*instance
	for _, k := range kinds {
		in, err := t.start(ctx, t.daemon, 1, k.changes...)
		if err != nil {
			return err
		}
		defer in.stop()
		daemons = append(daemons, in)
	}
	used := make([][]float64, len(kinds))
	for round := range t.sizes.pairs {
		for i := range daemons {
			j := (i + round) % len(daemons)
			cost, err := t.block(ctx, daemons[j])
			if err != nil {
				return fmt.Errorf("%w%s", err, daemons[j].tail())
			}
			used[j] = append(used[j], milliseconds(cost)/float64(t.sizes.block))
		}
	}
	t.fact("CPU per full handshake + connection, "+kinds[0].title, median(used[0]), "ms", noTarget, 2)
	for j, k := range kinds[1:] {
		t.fact(fmt.Sprintf("the same with revocation: require, %s", k.title), median(used[j+1]), "ms", noTarget, 2)
		t.fact(fmt.Sprintf("ratio of the two, median of %d pairs", t.sizes.pairs), median(ratios(used[j+1], used[0])), "", 1.05, 3)
	}
	return nil
}

func (t *trial) block(ctx context.Context, in *instance) (time.Duration, error) {
	return cpuWithin(ctx, in, 100*time.Millisecond, func() error {
		return runClients(ctx, t.sizes.block, func(ctx context.Context, _ int) error {
			cs, err := visit(ctx, in.addr(), t.client)
			if err == nil && cs.DidResume {
				err = errors.New("a full handshake was resumed")
			}
			return err
		})
	})
}
