package daemon

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// rotations is how the candidates of each slot fared, by name. Ten thousand slots in the
// registry of the Prometheus client took half of a scrape. The zero value is ready to use.
type rotations struct {
	mu sync.Mutex
	of map[string]rotated
}

// rotated is how those of one slot fared.
type rotated struct {
	good    bool       // what the source held last is what the slot serves
	success float64    // when the slot last published, in Unix seconds; 0 is not yet
	counts  []outcomes // not to be changed: a scrape may read them
}

// outcomes counts the candidates with which one thing happened.
type outcomes struct {
	result, reason string
	n              float64
}

// change changes how a slot stands.
func (r *rotations) change(slot string, do func(*rotated)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]rotated{}
	}
	of := r.of[slot]
	do(&of)
	r.of[slot] = of
}

func (r *rotations) forget(slot string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, slot)
}

// all returns how they stand.
func (r *rotations) all() map[string]rotated {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.of)
}

func (r *rotated) count(result, reason string) {
	is := func(o outcomes) bool { return o.result == result && o.reason == reason }
	r.counts = slices.Clone(r.counts)
	if i := slices.IndexFunc(r.counts, is); i >= 0 {
		r.counts[i].n++
		return
	}
	r.counts = append(r.counts, outcomes{result, reason, 1})
}

// rotated: a slot has published a candidate.
func (m *metrics) rotated(slot string, latency time.Duration, at time.Time) {
	m.latency.Observe(latency.Seconds())
	m.rotations.change(slot, func(r *rotated) {
		r.good, r.success = true, seconds(at)
		r.count("published", "")
	})
}

// restored is what a start finds in the state directory: no rotation.
func (m *metrics) restored(slot string, at time.Time) {
	m.rotations.change(slot, func(r *rotated) { r.good, r.success = true, seconds(at) })
}

func (m *metrics) notRotated(slot, result, reason string) {
	m.rotations.change(slot, func(r *rotated) {
		r.good = false
		r.count(result, reason)
	})
}

// cleared: the source of a slot holds what it serves again.
func (m *metrics) cleared(slot string) { m.rotations.change(slot, func(r *rotated) { r.good = true }) }
