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
	// maxGroups is how many messages a sink is sent at once; what is of more groups is one digest.
	maxGroups = 20
	// parts is in how many messages that is sent next which was refused in one: what the far
	// side does not want is alone soon.
	parts = 4
	// lastTry is after how many refusals that is given up which is over, and was told to
	// nobody while it lasted.
	lastTry = 24
)

// batch is a message, and what of a queue it is made of.
type batch struct {
	Message
	made  []part // in the order of its notices
	tries int    // in vain
	held  bool   // it was refused by itself before
}

// part is one notice of a batch.
type part struct {
	id  string
	seq uint64
}

// take returns what a sink is to be told now, in messages: what was not tried so often
// first, so that no message can keep all others back, and then the gravest. They stay in the
// queue until they are done.
func (b *Book) take(sink, host string, now time.Time) []*batch {
	q := b.queues[sink]
	if q == nil || len(q.Pending) == 0 {
		return nil
	}
	groups, parcels := b.ready(q, now)
	var out []*batch
	var all []*pending
	for group, ps := range groups {
		if len(groups) > maxGroups {
			all = append(all, ps...)
			continue
		}
		out = q.pack(out, sink, host, group, ps, now)
	}
	if len(all) > 0 {
		out = q.pack(out, sink, host, "", all, now)
	}
	for _, ps := range parcels {
		group := groupOf(&ps[0].Condition)
		if slices.ContainsFunc(ps, func(p *pending) bool { return groupOf(&p.Condition) != group }) {
			group = ""
		}
		out = q.pack(out, sink, host, group, ps, now)
	}
	order.Sort(out, func(x, y *batch) int {
		return cmp.Or(cmp.Compare(x.tries, y.tries), bySeverity(x.Severity(), y.Severity()), strings.Compare(x.Group, y.Group), strings.Compare(x.ID, y.ID))
	})
	return out
}

// ready returns what a queue has to send at now: by group, and by parcel what was refused.
func (b *Book) ready(q *queue, now time.Time) (groups, parcels map[string][]*pending) {
	groups, parcels = map[string][]*pending{}, map[string][]*pending{}
	due := map[string]bool{}
	for _, p := range q.Pending {
		if r := b.records[p.Condition.ID]; r != nil && p.Event != Resolved {
			p.Condition, p.Ack = r.Condition, r.Ack // as it is by now
		}
		if p.Parcel == "" {
			group := groupOf(&p.Condition)
			groups[group] = append(groups[group], p)
			continue
		}
		parcels[p.Parcel] = append(parcels[p.Parcel], p)
		if !p.next.After(now) {
			due[p.Parcel] = true
		}
	}
	for parcel := range parcels {
		if !due[parcel] {
			delete(parcels, parcel)
		}
	}
	return groups, parcels
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

// pack adds messages of notices: one, unless the sink is to be told each.
func (q *queue) pack(to []*batch, sink, host, group string, ps []*pending, now time.Time) []*batch {
	order.Sort(ps, func(x, y *pending) int { return inOrder(&x.Notice, &y.Notice) })
	size := len(ps)
	if q.each {
		size = MaxNotices
	}
	for some := range slices.Chunk(ps, size) {
		to = append(to, newBatch(sink, host, group, some, now))
	}
	return to
}

func newBatch(sink, host, group string, ps []*pending, now time.Time) *batch {
	m := &batch{Message: Message{Host: host, Group: group, At: now, Total: len(ps)}, made: make([]part, 0, len(ps))}
	sum, groups := sha256.New(), map[string]bool{}
	fmt.Fprintln(sum, sink, host)
	for _, p := range ps {
		m.made = append(m.made, part{p.Condition.ID, p.Seq})
		m.tries, m.held, p.flying = max(m.tries, p.Tries), m.held || p.Parcel != "", true
		p.after = nil
		groups[groupOf(&p.Condition)] = true
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
	m.Groups = len(groups)
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

// done takes what a message said out of the queue; of what has happened since, that is left
// which it did not say.
func (b *Book) done(sink string, m *batch) {
	q := b.queues[sink]
	if q == nil {
		return
	}
	for _, made := range m.made {
		switch p := q.Pending[made.id]; {
		case p == nil:
		case p.Seq == made.seq:
			q.remove(made.id)
		case p.after != nil:
			p.Notice, p.Tries, p.Parcel, p.flying, p.after = *p.after, 0, "", false, nil
		}
	}
}

// missed notes that a message did not get through, for what is no fault of its own.
func (b *Book) missed(sink string, m *batch) {
	b.each(sink, m, func(_ int, p *pending) { p.Tries++ })
}

// hold notes that a message did not get through for its own sake, and is not to be sent
// before next: all of it as it was, or in parts.
func (b *Book) hold(sink string, m *batch, inParts bool, next time.Time) {
	size := len(m.made)
	if inParts {
		size = (size + parts - 1) / parts
	}
	b.each(sink, m, func(i int, p *pending) {
		p.Tries++
		p.Parcel, p.next = fmt.Sprintf("%s/%d", m.ID, i/size), next
		if p.Event == Resolved && p.Late && p.Tries >= lastTry {
			b.queues[sink].remove(p.Condition.ID)
			b.dropped(sink, 1)
		}
	})
}

// each calls do for what of a message still waits, as its flight is over.
func (b *Book) each(sink string, m *batch, do func(i int, p *pending)) {
	q := b.queues[sink]
	if q == nil {
		return
	}
	for i, made := range m.made {
		if p := q.Pending[made.id]; p != nil {
			p.flying, p.after = false, nil
			do(i, p)
		}
	}
}

// held returns how many alerts wait for a sink that refused them, and when the first of them
// is to be sent again.
func (b *Book) held(sink string) (n int, next time.Time) {
	if q := b.queues[sink]; q != nil {
		for _, p := range q.Pending {
			if p.Parcel == "" {
				continue
			}
			if n++; n == 1 || p.next.Before(next) {
				next = p.next
			}
		}
	}
	return n, next
}

// hasten has what a sink refused sent again soon.
func (b *Book) hasten(sink string) {
	if q := b.queues[sink]; q != nil {
		for _, p := range q.Pending {
			p.next = time.Time{}
		}
	}
}
