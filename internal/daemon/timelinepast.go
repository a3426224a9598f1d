package daemon

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

const (
	// maxPast is how many past generations of a slot are shown, maxAllPast how many
	// of all slots: what is remembered, and the answer, must not grow with what is kept.
	maxPast    = 10
	maxAllPast = 50_000
	// pastPatience bounds the wait for a disk. What is not read by then is shown when
	// somebody asks again.
	pastPatience = 3 * time.Second
)

// brief is what is remembered of a generation, or of an answer that is to become one.
type brief struct {
	number, of                 uint64
	since, notBefore, notAfter int64 // in seconds since 1970; 0 is unknown
	digest                     uint64
	origin                     rotate.Origin
	environment                unique.Handle[string]
	sha256                     [32]byte
	serial                     string
}

func unixOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func moment(s int64) admin.Time {
	if s == 0 {
		return admin.Time{}
	}
	return admin.Time{Time: time.Unix(s, 0).UTC()}
}

// briefOf is what is remembered of a generation that a slot serves or served.
func briefOf(g *rotate.Generation, environment string) brief {
	leaf := g.Identity.Leaf()
	b := brief{number: g.Number, of: g.Of, since: unixOf(g.Since), notBefore: unixOf(leaf.NotBefore), notAfter: unixOf(g.NotAfter),
		origin: g.Origin, environment: unique.Make(environment), serial: leaf.SerialNumber.Text(16)}
	_, _ = hex.Decode(b.sha256[:], []byte(pki.Fingerprint(leaf))) // it is hex of that length
	var digest [8]byte
	_, _ = hex.Decode(digest[:], []byte(g.Digest())[:2*len(digest)])
	b.digest = binary.BigEndian.Uint64(digest[:])
	return b
}

// briefFrom is what is remembered of a generation on disk.
func briefFrom(o *state.Outline) brief {
	return brief{number: o.Number, of: o.Of, since: unixOf(o.Since), notBefore: unixOf(o.NotBefore), notAfter: unixOf(o.NotAfter),
		origin: o.Origin, environment: unique.Make(o.Environment), serial: o.Serial, sha256: o.SHA256, digest: binary.BigEndian.Uint64(o.Digest[:8])}
}

// generation is a brief in the words of the API.
func (b *brief) generation(as string) admin.Generation {
	return admin.Generation{Number: b.number, State: as, Origin: string(b.origin), NotBefore: moment(b.notBefore), NotAfter: moment(b.notAfter),
		From: moment(b.since), Serial: b.serial, SHA256: hex.EncodeToString(b.sha256[:])}
}

// memories is what is remembered for timelines, so that a status page which asks
// every few seconds does not read the disk. The zero value is empty.
type memories struct {
	mu      sync.Mutex // never held while the disk is read
	slots   map[string]*memory
	answers map[string]answerMemory // by the ID of their requests
	reading chan struct{}           // closed when the reader that runs ends; nil: none runs
}

// memory is what is remembered of one slot.
type memory struct {
	read bool    // the disk was asked
	when uint64  // while this generation served; 0: none
	past []brief // newest first; never modified, but replaced
}

// answerMemory is an answer that waits with its request. Its brief is zero where it cannot be read.
type answerMemory struct {
	answered time.Time
	brief
}

// left notes a generation that a slot does not serve any more. It does not block.
func (m *memories) left(slot string, g *rotate.Generation, environment string) {
	if g == nil {
		return
	}
	b := briefOf(g, environment)
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.of(slot)
	of.past = merged([]brief{b}, of.past, maxPast)
}

// of returns the memory of a slot. The caller has the lock.
func (m *memories) of(slot string) *memory {
	if m.slots == nil {
		m.slots, m.answers = map[string]*memory{}, map[string]answerMemory{}
	}
	of := m.slots[slot]
	if of == nil {
		of = &memory{}
		m.slots[slot] = of
	}
	return of
}

// merged returns what is in either list, the newest first, at most limit. Where both
// have a number, the first list counts.
func merged(first, second []brief, limit int) []brief {
	out := slices.Concat(first, second)
	order.Stable(out, func(a, b brief) int { return cmp.Compare(b.number, a.number) })
	out = slices.CompactFunc(out, func(a, b brief) bool { return a.number == b.number })
	return slices.Clip(out[:min(len(out), limit)])
}

// wanted is what a timeline needs to know of one slot.
type wanted struct {
	slot    string
	serving uint64 // the number of what it serves; 0: nothing
	answers []admin.Request
}

// missing returns what of it is not remembered, and forgets what nobody wants any more.
func (m *memories) missing(all []wanted) []wanted {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []wanted
	slots, answers := make(map[string]bool, len(all)), map[string]bool{}
	for _, w := range all {
		slots[w.slot] = true
		of, lacks := m.of(w.slot), wanted{slot: w.slot, serving: w.serving}
		for _, r := range w.answers {
			answers[r.ID] = true
			if known, ok := m.answers[r.ID]; !ok || !known.answered.Equal(r.Answered.Time) {
				lacks.answers = append(lacks.answers, r)
			}
		}
		if !of.read || of.when != w.serving || len(lacks.answers) > 0 {
			out = append(out, lacks)
		}
	}
	for slot := range m.slots {
		if !slots[slot] {
			delete(m.slots, slot)
		}
	}
	for id := range m.answers {
		if !answers[id] {
			delete(m.answers, id)
		}
	}
	return out
}

// refresh has what is not remembered read from the disk, by one reader at a time, and
// waits for it within reason: a disk that hangs holds up nobody else's status, and
// this one not for ever.
func (m *memories) refresh(ctx context.Context, all []wanted, read func(wanted) ([]brief, map[string]answerMemory)) {
	patience := time.NewTimer(pastPatience)
	defer patience.Stop()
	for range 2 { // the first reader may have begun for somebody else
		lacks := m.missing(all)
		if len(lacks) == 0 {
			return
		}
		m.mu.Lock()
		ended := m.reading
		if ended == nil {
			ended = make(chan struct{})
			m.reading = ended
			go m.readAll(lacks, read, ended)
		}
		m.mu.Unlock()
		select {
		case <-ended:
		case <-patience.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (m *memories) readAll(lacks []wanted, read func(wanted) ([]brief, map[string]answerMemory), ended chan struct{}) {
	for _, w := range lacks {
		past, answers := read(w)
		m.mu.Lock()
		of := m.of(w.slot)
		// What is gone from the disk since may be remembered, also numbers of a count that began anew.
		of.past = merged(past, of.past, maxPast)
		of.read, of.when = true, w.serving
		for id, a := range answers {
			m.answers[id] = a
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	m.reading = nil
	m.mu.Unlock()
	close(ended)
}

// past returns what is remembered of a slot, the newest first. Do not modify it.
func (m *memories) past(slot string) []brief {
	m.mu.Lock()
	defer m.mu.Unlock()
	if of := m.slots[slot]; of != nil {
		return of.past
	}
	return nil
}

// answer returns what is remembered of an answer.
func (m *memories) answer(id string) (brief, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.answers[id]
	return a.brief, ok && a.notAfter != 0
}
