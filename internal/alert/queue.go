package alert

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/order"
)

const (
	// maxPending bounds what is resolved and waits for one sink. What is active is bounded
	// by what can be wrong.
	maxPending = 20_000
	// maxGroups is how many messages a sink is sent at once; what is of more groups is one digest.
	maxGroups = 20
)

// pending is a notice that a sink is still to be told.
type pending struct {
	Notice
	Seq uint64 `json:"seq"`
}

// queue is what one sink is still to be told: of each alert one notice at most.
type queue struct {
	Pending map[string]*pending `json:"pending"` // by ID of the alert
	over    int                 // of these that are resolved
}

// keepQueues makes a queue for each sink, and forgets those of sinks that are gone.
func (b *Book) keepQueues(sinks []Rule) {
	for _, s := range sinks {
		if b.queues[s.Name] == nil && !s.Mirror {
			b.queues[s.Name] = &queue{Pending: map[string]*pending{}}
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
	if before := q.Pending[n.Condition.ID]; before != nil {
		n = merge(before.Notice, n)
		q.remove(n.Condition.ID)
	}
	q.Pending[n.Condition.ID] = &pending{n, b.seq}
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

// batch is a message, and what of a queue it is made of.
type batch struct {
	Message
	made map[string]uint64
}

// take returns what a sink is to be told now, in messages. They stay in the queue until
// they are done.
func (b *Book) take(sink, host string, now time.Time) []*batch {
	q := b.queues[sink]
	if q == nil || len(q.Pending) == 0 {
		return nil
	}
	groups := map[string][]*pending{}
	for _, p := range q.Pending {
		if r := b.records[p.Condition.ID]; r != nil && p.Event != Resolved {
			p.Condition, p.Ack = r.Condition, r.Ack // as it is by now
		}
		group := groupOf(&p.Condition)
		groups[group] = append(groups[group], p)
	}
	if len(groups) > maxGroups {
		all := make([]*pending, 0, len(q.Pending))
		for _, ps := range groups {
			all = append(all, ps...)
		}
		m := newBatch(sink, host, "", all, now)
		m.Groups = len(groups)
		return []*batch{m}
	}
	out := make([]*batch, 0, len(groups))
	for group, ps := range groups {
		out = append(out, newBatch(sink, host, group, ps, now))
	}
	order.Sort(out, func(x, y *batch) int {
		return cmp.Or(bySeverity(x.Severity(), y.Severity()), strings.Compare(x.Group, y.Group))
	})
	return out
}

// groupOf names what a condition is told together with.
func groupOf(c *condition.Condition) string {
	switch {
	case c.Slot != "":
		return "slot " + c.Slot
	case c.Kind == condition.Environment:
		return "environment " + c.Subject
	}
	return "host"
}

func newBatch(sink, host, group string, ps []*pending, now time.Time) *batch {
	order.Sort(ps, func(x, y *pending) int { return inOrder(&x.Notice, &y.Notice) })
	m := &batch{Message: Message{Host: host, Group: group, At: now, Total: len(ps), Groups: 1}, made: make(map[string]uint64, len(ps))}
	sum := sha256.New()
	fmt.Fprintln(sum, sink, host)
	for _, p := range ps {
		m.made[p.Condition.ID] = p.Seq
		fmt.Fprintln(sum, p.Seq, p.Condition.ID, p.Event, p.At.UnixNano())
		switch {
		case p.Event == Resolved:
			m.Resolved++
		case p.Condition.Severity == condition.Critical:
			m.Critical++
		default:
			m.Warning++
		}
		if len(m.Notices) < MaxNotices {
			m.Notices = append(m.Notices, p.Notice)
		}
	}
	m.ID = hex.EncodeToString(sum.Sum(nil)[:16])
	return m
}

// inOrder puts what is active before what is resolved, the gravest first, and then what
// ends first.
func inOrder(x, y *Notice) int {
	if x.Active() != y.Active() {
		if x.Active() {
			return -1
		}
		return 1
	}
	return byGravity(&x.Condition, &y.Condition)
}

func byGravity(x, y *condition.Condition) int {
	return cmp.Or(bySeverity(x.Severity, y.Severity), byEnd(x.Ends.Time, y.Ends.Time), strings.Compare(x.ID, y.ID))
}

func bySeverity(x, y condition.Severity) int {
	switch {
	case x.Worse(y):
		return -1
	case y.Worse(x):
		return 1
	}
	return 0
}

// byEnd puts what has an end before what has none.
func byEnd(x, y time.Time) int {
	switch {
	case x.IsZero() && y.IsZero():
		return 0
	case x.IsZero():
		return 1
	case y.IsZero():
		return -1
	}
	return x.Compare(y)
}

// done takes what a message said out of the queue, unless more has happened since.
func (b *Book) done(sink string, m *batch) {
	q := b.queues[sink]
	if q == nil {
		return
	}
	for id, seq := range m.made {
		if p := q.Pending[id]; p != nil && p.Seq == seq {
			q.remove(id)
		}
	}
}

// Pending counts the alerts of which a sink is still to be told something.
func (b *Book) Pending(sink string) int {
	if q := b.queues[sink]; q != nil {
		return len(q.Pending)
	}
	return 0
}
