package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

// maxVerdicts bounds the cache of one State. A deployment talks to some dozens
// of peers; what is over the bound is judged anew each time.
const maxVerdicts = 1024

// maxRemembered bounds the certificates behind one entry, in bytes: a permitted
// peer that appends others to its chain must not fill the memory.
const maxRemembered = 16 << 10

type verdictID [sha256.Size]byte

// verdicts remembers acceptances of one State: path and revocation, never names.
type verdicts struct {
	mu      sync.RWMutex
	entries map[verdictID]remembered
}

type remembered struct {
	verdict Verdict
	from    time.Time // when it was judged; wall clock
}

// holds reports whether the same judgement would be made at now. A clock that was
// set back must not find acceptances from its future: what they rest on may not
// have begun yet.
func (r remembered) holds(now time.Time) bool {
	return !now.Before(r.from) && !now.After(r.verdict.Until)
}

func newVerdicts() *verdicts { return &verdicts{entries: map[verdictID]remembered{}} }

func (v *verdicts) lookup(id verdictID, now time.Time) (Verdict, bool) {
	v.mu.RLock()
	e, ok := v.entries[id]
	v.mu.RUnlock()
	if !ok || !e.holds(wall(now)) {
		return Verdict{}, false
	}
	return e.verdict, true
}

func (v *verdicts) store(id verdictID, e Verdict, now time.Time) {
	e.Name, e.NameSource = "", ""
	now = wall(now)
	if _, ok := v.lookup(id, now); ok {
		return // it holds from an earlier time on
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.entries) >= maxVerdicts {
		clear(v.entries)
	}
	v.entries[id] = remembered{e, now}
}

// wall takes the monotonic reading away, which does not see a clock set back.
func wall(t time.Time) time.Time { return t.Round(0) }

func tooBig(presented []*x509.Certificate) bool {
	n := 0
	for _, c := range presented {
		n += len(c.Raw)
	}
	return n > maxRemembered
}

// verdictKey hashes everything that an entry depends on besides the State. The
// certificates are length-prefixed, so that no two lists share a key.
func verdictKey(presented []*x509.Certificate, p Purpose, m Mode, fromCN bool) verdictID {
	h := sha256.New()
	head := [2]byte{byte(p)}
	if fromCN {
		head[1] = 1
	}
	h.Write(head[:])
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(m)))
	h.Write(n[:])
	h.Write([]byte(m))
	for _, c := range presented {
		binary.BigEndian.PutUint64(n[:], uint64(len(c.Raw)))
		h.Write(n[:])
		h.Write(c.Raw)
	}
	var id verdictID
	h.Sum(id[:0])
	return id
}
