package alert

import (
	"cmp"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/order"
)

// maxPending bounds what is resolved and waits for one sink. What is active is bounded by
// what can be wrong.
const maxPending = 20_000

// pending is a notice that a sink is still to be told.
type pending struct {
	Notice
	Seq    uint64 `json:"seq"`
	Tries  int    `json:"tries,omitempty"`  // in vain
	Parcel string `json:"parcel,omitempty"` // what it is sent with, of what was refused by itself; "" for its group

	next   time.Time // before which it is not sent, of what was refused
	flying bool      // it is in a message that is on its way
	after  *Notice   // what is left of it once that has arrived
}

// queue is what one sink is still to be told: of each alert one notice at most.
type queue struct {
	Pending map[string]*pending `json:"pending"` // by ID of the alert
	over    int                 // of these that are resolved
	each    bool                // see Rule
}

// keepQueues makes a queue for each sink, and forgets those of sinks that are gone.
func (b *Book) keepQueues(sinks []Rule) {
	for _, s := range sinks {
		if b.queues[s.Name] == nil && !s.Mirror {
			b.queues[s.Name] = &queue{Pending: map[string]*pending{}}
		}
		if q := b.queues[s.Name]; q != nil {
			q.each = s.Each
		}
	}
	for name := range b.healths {
		if !slices.ContainsFunc(sinks, func(s Rule) bool { return s.Name == name }) {
			delete(b.healths, name)
		}
	}
	for name := range b.queues {
		if !slices.ContainsFunc(sinks, func(s Rule) bool { return s.Name == name && !s.Mirror }) {
			delete(b.queues, name)
			for _, r := range b.records {
				r.Sinks = slices.DeleteFunc(r.Sinks, func(s string) bool { return s == name })
			}
		}
	}
}

// enqueue adds a notice, or merges it into what the sink was not told yet.
func (b *Book) enqueue(sink string, n Notice) {
	q := b.queues[sink]
	if q == nil {
		return
	}
	b.seq++
	p := &pending{Notice: n, Seq: b.seq}
	if before := q.Pending[n.Condition.ID]; before != nil {
		p.Notice, p.Tries, p.Parcel, p.flying = merge(before.Notice, n), before.Tries, before.Parcel, before.flying
		if before.after != nil {
			n = merge(*before.after, n)
		}
		if before.flying {
			p.after = &n
		}
		q.remove(n.Condition.ID)
	}
	q.Pending[n.Condition.ID] = p
	if n.Event == Resolved {
		q.over++
	}
	if q.over > b.bound {
		b.dropped(sink, q.shed(b.bound*9/10))
	}
}

// remove takes a notice out.
func (q *queue) remove(id string) {
	if p := q.Pending[id]; p != nil && p.Event == Resolved {
		q.over--
	}
	delete(q.Pending, id)
}

// shed gives up the oldest of what is resolved, but for so many, and returns how many. It
// gives up more than it must, as it is a long way to the oldest.
func (q *queue) shed(keep int) int {
	over := make([]*pending, 0, q.over)
	for _, p := range q.Pending {
		if p.Event == Resolved {
			over = append(over, p)
		}
	}
	order.Sort(over, func(a, b *pending) int { return cmp.Compare(a.Seq, b.Seq) })
	gone := over[:len(over)-keep]
	for _, p := range gone {
		q.remove(p.Condition.ID)
	}
	return len(gone)
}

// merge makes one notice of two, of which the first was not told.
func merge(before, n Notice) Notice {
	switch {
	case n.Event == Resolved:
		n.Late = before.Event == Opened || before.Event == Resolved && before.Late
	case before.Event == Resolved: // it is there again, and nobody knew that it was gone
		n.Event = Opened
	case before.Event == Opened, before.Event == Escalated && n.Event == Repeated:
		n.Event = before.Event
	}
	return n
}

// toldTo names the sinks that know of an alert: not those that are still to be told that it
// is there, which may be down.
func (b *Book) toldTo(r *record) []string {
	out := make([]string, 0, len(r.Sinks))
	for _, name := range r.Sinks {
		q := b.queues[name]
		if q != nil && q.Pending[r.Condition.ID] != nil && q.Pending[r.Condition.ID].Event == Opened {
			continue
		}
		out = append(out, name)
	}
	return out
}

// Pending counts the alerts of which a sink is still to be told something.
func (b *Book) Pending(sink string) int {
	if q := b.queues[sink]; q != nil {
		return len(q.Pending)
	}
	return 0
}
