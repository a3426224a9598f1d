package daemon

import (
	"cmp"
	"fmt"
	"regexp"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// When the end of a certificate is urgent, and when it makes a request urgent that waits.
const (
	expiringCritical = condition.ExpiringCritical
	requestCritical  = 30 * 24 * time.Hour
)

// adder takes one condition; what follows from the table and from the subject is filled
// in by whoever gathers. detail tells apart several of one code and subject. A condition
// without a time lasts since it was first seen.
type adder func(c condition.Condition, detail string)

// conditions are what is wrong at now, in the codes of the contract. requests are
// those that wait, and services how all of them stand.
func (d *Daemon) conditions(now time.Time, requests []admin.Request, services []deliver.Status) []condition.Condition {
	g := newGatherer(d, now, len(requests))
	add := g.add
	if g.clock.Suspect {
		// Critical: who connects is judged by a wrong clock, or nobody's end is noticed.
		add(condition.Condition{Code: condition.ClockSuspect, Kind: condition.Host, Subject: condition.Clock, Severity: condition.Critical, Since: g.clock.Since,
			Message: "the clock of this host cannot be believed: " + g.clock.Why + "; open connections and trust do not end for dates alone, new peers are judged by it all the same", Hint: clockHint}, "")
	}
	slots := d.keeper.Slots()
	found, strengths := d.own.look(len(slots)), map[string]strength{}
	for _, e := range d.keeper.Environments() {
		strengths[e.Name()] = strengthOf(e.Status().Config)
	}
	for _, s := range slots {
		slotConditions(s, g.config.Alerts.Leaf, now, add)
		ownConditions(s, found, strengths, add)
		if o, ok := d.store.foundOlder(s.Name()); ok {
			add(condition.Condition{Code: condition.RestoredOlder, Kind: condition.Slot, Subject: s.Name(), Severity: condition.Critical, Since: o.since, Message: o.text,
				Hint: "was an older backup put back? If the lost generations are to be had, stop the daemon and restore them; else ask for the certificate again. The next generation ends this"}, "")
		}
	}
	d.own.keep(found)
	for _, r := range requests {
		d.requestCondition(r, g.config.Alerts.RequestPending, now, add)
	}
	d.requestsUnread(add)
	live := d.liveTunnels()
	refused := d.refusedForLists(now)
	beyond := map[string]bool{}
	for _, e := range d.keeper.Environments() {
		need := needOf(d.keeper, e, tunnelsOf(live), refused)
		for _, id := range environmentConditions(e, d.modeOf(e, live), need, now, add) {
			beyond[id] = true
		}
		d.caConditions(e, g.config.Alerts.CA, slots, now, add)
	}
	d.alerts.beyond.Store(&beyond)
	for _, t := range live {
		d.tunnelConditions(t, add)
	}
	for i := range services {
		serviceCondition(&services[i], now, add)
	}
	if err := cmp.Or(d.audit.failing(), d.alerts.Unwritten()); err != nil {
		add(condition.Condition{Code: condition.StateUnwritable, Kind: condition.Host, Subject: condition.State, Severity: condition.Warning,
			Message: err.Error(), Hint: "make room, or give the directory back to the daemon's user"}, "")
	}
	d.alerts.sinkConditions(now, add)
	return g.out
}

// requestCondition: a request is something to be done as long as it waits.
func (d *Daemon) requestCondition(r admin.Request, steps []time.Duration, now time.Time, add adder) {
	c := condition.Condition{Code: condition.RequestPending, Kind: condition.Slot, Subject: r.Slot, Severity: condition.Warning, Since: r.Created}
	if s := d.keeper.Slot(r.Slot); s != nil {
		snap := s.Snapshot()
		if snap != nil {
			c.Ends = condition.Moment{Time: snap.Generation.NotAfter}
		}
		if r.Reason == "expiring" && (snap == nil || snap.Generation.NotAfter.Sub(now) <= requestCritical) {
			c.Severity = condition.Critical
		}
	}
	for _, after := range steps {
		c.Steps = append(c.Steps, r.Created.Add(after))
	}
	if r.State == admin.RequestAnswered {
		c.Message, c.Hint = fmt.Sprintf("the answer to request %s waits to come into force: %s", r.ID, r.LastError), r.Hint
	} else {
		c.Message = "request " + r.ID + " for " + r.FQDN + " waits for its certificate since " + r.Created.UTC().Format(time.DateOnly)
		c.Command = "spinecert csr show --mail " + r.ID
		c.Hint = "send it if that was not done (" + c.Command + "), or ask where it is; take the answer back with spinecert import, or drop it into the inbox"
	}
	add(c, r.ID)
}

// slotConditions are what is wrong with the material of a slot. leaf are the lives left at
// which the end of what it serves is told, the longest first.
func slotConditions(s *rotate.Slot, leaf []time.Duration, now time.Time, add adder) {
	st := s.Status()
	c := condition.Condition{Kind: condition.Slot, Subject: s.Name(), Severity: condition.Warning, Since: st.PendingSince}
	snap := s.Snapshot()
	if snap == nil {
		c.Severity = condition.Critical
	} else {
		c.Ends = condition.Moment{Time: snap.Generation.NotAfter}
	}
	if code := codeOf(st, now); code != "" {
		c.Code, c.Message, c.Hint = code, st.Refusal.Error(), advice(st.Refusal)
		add(c, "")
	}
	if st.Unsaved != nil {
		c.Code, c.Severity, c.Since, c.Message = condition.StateUnwritable, condition.Warning, st.UnsavedSince, st.Unsaved.Error()
		c.Hint = cmp.Or(pki.Hint(st.Unsaved), "make room, or give the directory back to the daemon's user; it is tried again by itself")
		add(c, "unsaved")
	}
	if snap != nil && snap.Generation.NotAfter.Sub(now) <= leaf[0] {
		lifeCondition(lifeOf(s.Name(), &st.Config, snap.Generation), leaf, now, add)
	}
}

// codeOf says what kind of trouble a slot has with its source, "" for none that is told.
func codeOf(st *rotate.SlotStatus, now time.Time) condition.Code {
	switch r := st.Refusal; {
	case r == nil:
	case r.Reason == "key_readable":
		return condition.KeyReadable
	case r.Reason == rotate.ReasonUnwritable:
		return condition.StateUnwritable
	case st.Offered && manage.WaitsFor(r): // request_pending says so
	case !r.Pending:
		return condition.RotationRefused
	case now.Sub(st.PendingSince) >= st.Config.Settle || st.Generation == nil:
		return condition.SourceIncoherent
	}
	return ""
}

// life is how long what a slot serves is good for.
type life struct {
	slot, fqdn string
	managed    bool
	began, end time.Time
}

func lifeOf(slot string, c *rotate.SlotConfig, g *rotate.Generation) life {
	l := life{slot: slot, fqdn: c.FQDN, managed: c.Managed, began: g.Identity.Leaf().NotBefore, end: g.NotAfter}
	if names, _ := g.Identity.Names(); l.fqdn == "" && len(names) > 0 {
		l.fqdn = names[0]
	}
	if !plainName.MatchString(l.fqdn) {
		l.fqdn = "NAME" // what is copied into a shell is not for a certificate to say
	}
	return l
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$`)

// request is the command that asks for the next certificate.
func (l *life) request() string {
	if l.managed {
		return "spinecert csr new --slot " + l.slot
	}
	return "spinecert csr new --fqdn " + l.fqdn + " --out " + l.slot + "-next"
}

// lifeCondition tells that what a slot serves ends soon, or has ended.
func lifeCondition(l life, lives []time.Duration, now time.Time, add adder) {
	left := l.end.Sub(now)
	if left > lives[0] {
		return
	}
	c := condition.Condition{Code: condition.Expiring, Kind: condition.Slot, Subject: l.slot, Severity: condition.Warning, Since: latest(l.began, l.end.Add(-lives[0])),
		Ends: condition.Moment{Time: l.end}, Message: "its certificate or chain ends on " + day(l.end), Command: l.request(), Steps: steps(l.end, lives)}
	if l.managed {
		c.Hint = "ask for the next certificate now, unless a request waits already"
	} else {
		c.Hint = "ask for the next certificate now, unless that was done; put it in place of the files, it is taken by itself"
	}
	if left <= expiringCritical {
		c.Severity = condition.Critical
	}
	if left <= 0 {
		c.Code, c.Since, c.Ends = condition.Expired, l.end, condition.Moment{}
		c.Message = "its certificate or chain ended on " + day(l.end)
	}
	add(c, "")
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// steps are the moments at which so much life is left, and the end itself.
func steps(end time.Time, lives []time.Duration) []time.Time {
	out := make([]time.Time, 0, len(lives)+1)
	for _, left := range lives {
		out = append(out, end.Add(-left))
	}
	return append(out, end)
}
