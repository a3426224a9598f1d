package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

const (
	// rotationLimit is when a rotation counts as missed.
	rotationLimit = 5 * time.Second
	// talkers are connections that exchange a little all the time.
	talkers   = 8
	talkEvery = 10 * time.Millisecond
)

type rotationResult struct {
	latencies []float64 // milliseconds; rotationLimit for a missed one
	missed    int
	requests  int // handshakes of the probe and exchanges of the talkers
	lost      int
}

// sightings notes when each leaf was first served, by serial number, and counts
// the requests that found it out.
type sightings struct {
	mu       sync.Mutex
	first    map[string]time.Time
	requests int
	lost     int
	changed  chan struct{} // capacity 1: something new in first
}

func (s *sightings) count(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if err != nil {
		s.lost++
	}
}

func (s *sightings) see(serial string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.first[serial]; !ok {
		s.first[serial] = at
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}

func (s *sightings) await(ctx context.Context, serial string) (time.Time, bool) {
	ctx, cancel := context.WithTimeout(ctx, rotationLimit)
	defer cancel()
	for {
		s.mu.Lock()
		at, ok := s.first[serial]
		s.mu.Unlock()
		if ok {
			return at, true
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return time.Time{}, false
		}
	}
}

// rotations replaces the pair of a running daemon again and again. The load is
// light: one client that shakes hands without pause, which is also the probe,
// and some connections that talk.
func (l *lab) rotations(ctx context.Context, p proxy) (rotationResult, error) {
	var r rotationResult
	// Every rotation has a new key, as it does in life.
	keys, err := newKeys(ctx, l.sizes.rotations)
	if err != nil {
		return r, err
	}
	in, err := l.start(ctx, p, 1)
	if err != nil {
		return r, err
	}
	defer in.stop()
	seen := &sightings{first: make(map[string]time.Time), changed: make(chan struct{}, 1)}
	stopLoad, err := l.load(ctx, in, seen)
	if err != nil {
		return r, err
	}
	defer stopLoad()
	for i, key := range keys {
		id, err := l.authority.issue(serverName, key)
		if err != nil {
			return r, err
		}
		// Never in step with any timer of the daemon.
		if err := sleep(ctx, 50*time.Millisecond+rand.N(100*time.Millisecond)); err != nil {
			return r, err
		}
		begun, err := replacePair(in.site.Doors[0], id, i%2 == 0)
		if err != nil {
			return r, err
		}
		at, ok := seen.await(ctx, id.cert.SerialNumber.String())
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		took := rotationLimit
		if ok {
			took = at.Sub(begun)
		} else {
			r.missed++
		}
		r.latencies = append(r.latencies, milliseconds(took))
	}
	stopLoad()
	r.requests, r.lost = seen.requests, seen.lost
	return r, nil
}

// load starts the probe and the talkers; the function it returns ends them and
// waits, and may be called twice.
func (l *lab) load(ctx context.Context, in *instance, seen *sightings) (stop func(), err error) {
	conns, err := openIdle(ctx, l, in, talkers, startEcho)
	if err != nil {
		closeAll(conns)
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			cs, err := visit(ctx, in.addr(), l.client)
			if ctx.Err() != nil {
				return // cut by stop, not by the daemon
			}
			at := time.Now()
			seen.count(err)
			if err != nil {
				_ = sleep(ctx, talkEvery) // a refused connection is refused at once
				continue
			}
			seen.see(cs.PeerCertificates[0].SerialNumber.String(), at)
		}
	})
	for _, c := range conns {
		wg.Go(func() { talk(ctx, c, seen) })
	}
	return func() {
		cancel()
		wg.Wait()
		closeAll(conns)
	}, nil
}

func talk(ctx context.Context, c *tls.Conn, seen *sightings) {
	for sleep(ctx, talkEvery) == nil {
		err := ping(c, 256)
		seen.count(err)
		if err != nil {
			return // the connection is gone: lost once
		}
	}
}

// replacePair writes a new pair beside the old one and renames one file, then
// the other. It returns the moment before the rename that completes the pair.
func replacePair(d door, id *identity, keyFirst bool) (time.Time, error) {
	key, err := id.keyPEM()
	if err != nil {
		return time.Time{}, err
	}
	const suffix = ".new"
	files := map[string][]byte{d.Key: key, d.Certificate: id.chainPEM()}
	for name, data := range files {
		if err := os.WriteFile(name+suffix, data, 0o600); err != nil {
			return time.Time{}, fmt.Errorf("write %q: %w", name+suffix, err)
		}
	}
	order := [2]string{d.Certificate, d.Key}
	if keyFirst {
		order = [2]string{d.Key, d.Certificate}
	}
	var last time.Time
	for _, name := range order {
		last = time.Now()
		if err := os.Rename(name+suffix, name); err != nil {
			return time.Time{}, fmt.Errorf("replace %q: %w", name, err)
		}
	}
	return last, nil
}
