package web

import (
	"cmp"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/order"
)

// snapshot is a view with what is found once for all who look at it.
type snapshot struct {
	*View
	made   time.Time
	worst  []int                   // of Status.Conditions: the gravest first, then what stops first
	slots  []int                   // of Status.Slots: those in trouble first, then those that end first
	bySlot map[string]trouble      // those that have any
	uses   map[string][]string     // what hangs on a slot
	told   map[string]*admin.Alert // by the ID of the condition
	count  map[condition.Severity]int
	drawn
}

// trouble is how bad it is for a slot.
type trouble struct {
	any condition.Severity // whatever concerns it
	own condition.Severity // its certificate ends, has ended or was revoked
	at  int                // which of Status.Conditions is the gravest
}

// arrange puts the gravest first, once for everybody.
func arrange(v *View, made time.Time) *snapshot {
	s := &snapshot{View: v, made: made, bySlot: map[string]trouble{}, uses: map[string][]string{}, told: map[string]*admin.Alert{}, count: map[condition.Severity]int{}}
	for i := range v.Alerts.Alerts {
		s.told[v.Alerts.Alerts[i].ID] = &v.Alerts.Alerts[i]
	}
	conditions := v.Status.Conditions
	s.worst = indexes(len(conditions))
	order.Stable(s.worst, func(a, b int) int {
		x, y := &conditions[a], &conditions[b]
		return cmp.Or(bySeverity(x.Severity, y.Severity), byEnd(x.Ends.Time, y.Ends.Time, 1), cmp.Compare(x.Subject, y.Subject))
	})
	for _, i := range s.worst {
		c := &conditions[i]
		s.count[c.Severity]++
		slot := c.Slot
		if c.Kind == condition.Slot {
			slot = c.Subject
		}
		if slot == "" {
			continue
		}
		t, there := s.bySlot[slot]
		if !there {
			t = trouble{any: c.Severity, at: i}
		}
		if ends(c.Code) && c.Severity.Worse(t.own) {
			t.own = c.Severity
		}
		s.bySlot[slot] = t
	}
	for _, t := range v.Status.Tunnels {
		s.uses[t.Slot] = append(s.uses[t.Slot], "tunnel "+t.Name)
	}
	for i := range v.Status.Services {
		service := &v.Status.Services[i]
		s.uses[service.Slot] = append(s.uses[service.Slot], "service "+service.Name)
	}
	s.slots = indexes(len(v.Status.Slots))
	order.Stable(s.slots, func(a, b int) int {
		x, y := &v.Status.Slots[a], &v.Status.Slots[b]
		return cmp.Or(bySeverity(s.bySlot[x.Name].any, s.bySlot[y.Name].any), byEnd(x.NotAfter.Time, y.NotAfter.Time, -1), cmp.Compare(x.Name, y.Name))
	})
	return s
}

// ends reports whether a code says that the certificate of a slot does not last.
func ends(c condition.Code) bool {
	return c == condition.Expiring || c == condition.Expired || c == condition.OwnCertificateRevoked
}

// bySeverity has the gravest first.
func bySeverity(a, b condition.Severity) int {
	switch {
	case a.Worse(b):
		return -1
	case b.Worse(a):
		return 1
	}
	return 0
}

// byEnd has the earliest first, and what has no end first with -1, or last with 1.
func byEnd(a, b time.Time, without int) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return without
	case b.IsZero():
		return -without
	}
	return a.Compare(b)
}

func indexes(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
