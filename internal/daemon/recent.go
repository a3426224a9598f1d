package daemon

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

const (
	// maxRecent is how many refusals are remembered, of all tunnels.
	maxRecent = 1000
	// maxOfSource is how many of them one source keeps in one tunnel when there is no
	// room for all.
	maxOfSource = 50
	// auditAgain is how long a refusal may go on before the audit file says so again.
	auditAgain = time.Hour
)

// recent remembers the last refusals of the daemon. Those that are alike are one. When
// there is no room, who has the most gives way first: a source that has maxOfSource
// loses its own oldest, then a tunnel that has more than its share loses its own, so
// that nobody can have forgotten what others did. Each step costs the same, however
// many there are. The zero value is not usable; make it with newRecent.
type recent struct {
	room int

	mu      sync.Mutex
	all     *list.List // of *seenRefusal; newest first
	byKey   map[refusalKey]*seenRefusal
	tunnels map[string]*list.List
	sources map[sourceKey]*list.List
}

// refusalKey says which refusals are alike.
type refusalKey struct {
	source         sourceKey
	result, reason string
	serial, issuer string
}

type sourceKey struct {
	tunnel  string
	address netip.Addr // of an IPv6 source its /64; zero for a unix socket
}

// seenRefusal is a refusal and its place in each list.
type seenRefusal struct {
	admin.Refusal
	key                     refusalKey
	all, ofTunnel, ofSource *list.Element
	audited                 time.Time // when the audit file was told last
	auditedCount            uint64
}

func newRecent(room int) *recent {
	return &recent{room: room, all: list.New(), byKey: map[refusalKey]*seenRefusal{}, tunnels: map[string]*list.List{}, sources: map[sourceKey]*list.List{}}
}

// note remembers a refusal, and returns what it is remembered as. describe is called for
// one that is like no other, and outside of the lock: it may take long, and others wait.
// news is how many the audit file does not know, if it is time to tell it and tell
// permits that, else 0. tell must neither block nor call back.
func (r *recent) note(key refusalKey, peer string, now time.Time, describe func() admin.Refusal, tell func() bool) (as admin.Refusal, news uint64) {
	as, news, known := r.add(key, peer, now, nil, tell)
	if known {
		return as, news
	}
	fresh := describe()
	as, news, _ = r.add(key, peer, now, &fresh, tell)
	return as, news
}

// add counts a refusal. It returns false if it is like no other, and fresh is nil.
func (r *recent) add(key refusalKey, peer string, now time.Time, fresh *admin.Refusal, tell func() bool) (as admin.Refusal, news uint64, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byKey[key]
	switch {
	case e != nil:
		r.all.MoveToFront(e.all)
		r.tunnels[key.source.tunnel].MoveToFront(e.ofTunnel)
		r.sources[key.source].MoveToFront(e.ofSource)
	case fresh == nil:
		return admin.Refusal{}, 0, false
	default:
		if len(r.byKey) >= r.room {
			r.dropLocked(r.victimLocked(key.source))
		}
		e = &seenRefusal{Refusal: *fresh, key: key}
		e.Time = now.UTC()
		r.addLocked(e)
	}
	e.Count++
	e.Last, e.Peer = now.UTC(), peer
	if !e.audited.IsZero() && now.Sub(e.audited) < auditAgain || !tell() {
		return e.Refusal, 0, true
	}
	news = e.Count - e.auditedCount
	e.audited, e.auditedCount = now, e.Count
	return e.Refusal, news, true
}

func (r *recent) addLocked(e *seenRefusal) {
	source := e.key.source
	if r.tunnels[source.tunnel] == nil {
		r.tunnels[source.tunnel] = list.New()
	}
	if r.sources[source] == nil {
		r.sources[source] = list.New()
	}
	r.byKey[e.key] = e
	e.all, e.ofTunnel, e.ofSource = r.all.PushFront(e), r.tunnels[source.tunnel].PushFront(e), r.sources[source].PushFront(e)
}

// victimLocked is what gives way to a refusal of source.
func (r *recent) victimLocked(source sourceKey) *seenRefusal {
	from := r.all
	if of := r.tunnels[source.tunnel]; of != nil && of.Len() >= r.room/len(r.tunnels) {
		from = of
	}
	if of := r.sources[source]; of != nil && of.Len() >= maxOfSource {
		from = of
	}
	return from.Back().Value.(*seenRefusal)
}

func (r *recent) dropLocked(e *seenRefusal) {
	source := e.key.source
	delete(r.byKey, e.key)
	r.all.Remove(e.all)
	if of := r.tunnels[source.tunnel]; true {
		of.Remove(e.ofTunnel)
		if of.Len() == 0 {
			delete(r.tunnels, source.tunnel)
		}
	}
	if of := r.sources[source]; true {
		of.Remove(e.ofSource)
		if of.Len() == 0 {
			delete(r.sources, source)
		}
	}
}

// list returns what is remembered, the newest first.
func (r *recent) list() []admin.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]admin.Refusal, 0, r.all.Len())
	for e := r.all.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*seenRefusal).Refusal)
	}
	return out
}
