package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	quietTime = 1500 * time.Millisecond
	cutLimit  = 15 * time.Second // until a revoked peer counts as not cut
	afterCut  = 100 * time.Millisecond
)

// swaps replaces a large list of a running daemon, again and again, by one that
// revokes one peer more. The peer's open connection tells when the new list is in
// force; the requests of others tell what that did to them.
func (t *trial) swaps(ctx context.Context) error {
	peers, err := t.issueMany(t.sizes.swaps)
	if err != nil {
		return err
	}
	list := filepath.Join(t.lists.dir, "swapped.crl")
	if err := os.Link(t.lists.large, list); err != nil {
		return fmt.Errorf("copy list: %w", err)
	}
	in, err := t.start(ctx, t.daemon, 1, t.revoking(list), named(peers))
	if err != nil {
		return err
	}
	defer in.stop()
	conns, err := openIdle(ctx, t.lab, in, talkers, startEcho)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	var load traffic
	stop := load.begin(ctx, conns, talkEvery, t.visitor(in))
	defer stop()
	var seen windows
	var took []float64
	for i := range peers {
		der, err := t.signer.list(largeList, serials(peers[:i+1])...)
		if err != nil {
			return err
		}
		next, err := t.lists.write("swapped.crl.new", der)
		if err != nil {
			return err
		}
		canary, err := open(ctx, in.addr(), clientConfig(t.authority.root, peers[i]))
		if err != nil {
			return err
		}
		w, cut, err := watchCuts(ctx, next, list, []*tls.Conn{canary}, &seen)
		canary.NetConn().Close()
		if err != nil {
			return err
		}
		if cut == 0 {
			return fmt.Errorf("a revoked peer was still connected %s after its list came%s", cutLimit, in.tail())
		}
		took = append(took, milliseconds(w.to.Sub(w.from)))
	}
	stop()
	event := fmt.Sprintf("%d swaps of %d entries", len(peers), largeList)
	t.fact(fmt.Sprintf("rename of a list of %d entries to the cut of who is new on it", largeList), median(took), "ms", noTarget, 0)
	seen.tell(t, "a request", event, &load.exchanges, noTarget)
	seen.tell(t, "a request with a handshake", event, &load.visits, noTarget)
	t.lostFact(&load, "the swaps")
	return nil
}

func (t *trial) lostFact(load *traffic, when string) {
	exchanges, lost := load.exchanges.count()
	visits, refused := load.visits.count()
	t.fact(fmt.Sprintf("requests lost over %s, of %d", when, exchanges+visits), float64(lost+refused), "", 0, 0)
}

func (t *trial) visitor(in *instance) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := visit(ctx, in.addr(), t.client)
		return err
	}
}

// named lets more clients in than the usual one.
func named(ids []*identity) func(*site) {
	return func(s *site) {
		for _, id := range ids {
			s.Clients = append(s.Clients, id.cert.DNSNames[0])
		}
	}
}

// watchCuts notes a quiet time, renames next to list, and waits until conns are all
// cut. It returns from when to when that was, and how many were cut in time.
func watchCuts(ctx context.Context, next, list string, conns []*tls.Conn, seen *windows) (window, int, error) {
	defer collectLater()()
	ends := make(chan time.Time, len(conns))
	for _, c := range conns {
		go func() {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				ends <- time.Now()
			}
		}()
	}
	quiet := window{from: time.Now()}
	if err := sleep(ctx, quietTime); err != nil {
		return window{}, 0, err
	}
	if len(ends) > 0 {
		return window{}, 0, errors.New("a peer was cut before it was revoked")
	}
	quiet.to = time.Now()
	w := window{from: quiet.to, to: quiet.to}
	if err := os.Rename(next, list); err != nil {
		return window{}, 0, fmt.Errorf("replace list: %w", err)
	}
	limit := time.After(cutLimit)
	cut := 0
	for cut < len(conns) {
		select {
		case at := <-ends:
			cut++
			if at.After(w.to) {
				w.to = at
			}
			continue
		case <-ctx.Done():
			return window{}, 0, context.Cause(ctx)
		case <-limit:
		}
		break
	}
	seen.quiet, seen.busy = append(seen.quiet, quiet), append(seen.busy, w)
	return w, cut, sleep(ctx, afterCut)
}

// collectLater keeps the garbage collector of the load generator out of what is
// measured. The function it returns lets it work again.
func collectLater() func() {
	runtime.GC()
	old := debug.SetGCPercent(-1)
	return func() { debug.SetGCPercent(old) }
}
