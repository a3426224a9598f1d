package daemon

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// When a certificate's remaining life becomes a condition.
const (
	expiringWarning  = 30 * 24 * time.Hour
	expiringCritical = 7 * 24 * time.Hour
	caExpiring       = 90 * 24 * time.Hour
)

// conditions are what is wrong at now, in the codes of the contract. requests are
// those that wait, and services how all of them stand.
func (d *Daemon) conditions(now time.Time, requests []admin.Request, services []deliver.Status) []admin.Condition {
	out := make([]admin.Condition, 0, len(requests))
	clock := d.clock.judgement()
	add := func(code, subject, severity string, since time.Time, message, hint string) {
		if clock.Suspect && dated(code) {
			message += "; the clock of this host is suspect, see clock_suspect"
		}
		out = append(out, admin.Condition{Code: code, Subject: subject, Severity: severity, Since: since.UTC(), Message: message, Hint: hint})
	}
	if clock.Suspect {
		// Critical: who connects is judged by a wrong clock, or nobody's end is noticed.
		add("clock_suspect", "clock", "critical", clock.Since, "the clock of this host cannot be believed: "+clock.Why+"; open connections and trust do not end for dates alone, new peers are judged by it all the same", clockHint)
	}
	slots := d.keeper.Slots()
	found, strengths := d.own.look(len(slots)), map[string]strength{}
	for _, e := range d.keeper.Environments() {
		strengths[e.Name()] = strengthOf(e.Status().Config)
	}
	for _, s := range slots {
		slotConditions(s, now, add)
		ownConditions(s, found, strengths, add)
		if o, ok := d.store.foundOlder(s.Name()); ok {
			add("restored_older", s.Name(), "critical", o.since, o.text, "was an older backup put back? If the lost generations are to be had, stop the daemon and restore them; else ask for the certificate again. The next generation ends this")
		}
	}
	d.own.keep(found)
	for _, r := range requests {
		d.requestCondition(r, now, add)
	}
	live := d.liveTunnels()
	refused := d.refusedForLists(now)
	for _, e := range d.keeper.Environments() {
		need := needOf(d.keeper, e, tunnelsOf(live), refused, d.started)
		environmentConditions(e, d.modeOf(e, live), need, d.started, now, add)
	}
	for _, t := range live {
		d.tunnelConditions(t, add)
	}
	for i := range services {
		serviceCondition(&services[i], now, add)
	}
	if err := d.audit.failing(); err != nil {
		add("state_unwritable", "state", "warning", d.started, err.Error(), "make room, or give the directory back to the daemon's user")
	}
	return out
}

// dated reports whether a condition is one of dates.
func dated(code string) bool {
	return code == "expiring" || code == "expired" || code == "ca_expiring" || code == "crl_stale"
}

// requestCondition: a request is something to be done as long as it waits.
func (d *Daemon) requestCondition(r admin.Request, now time.Time, add adder) {
	severity := "warning"
	if r.Reason == "expiring" {
		if s := d.keeper.Slot(r.Slot); s != nil {
			if snap := s.Snapshot(); snap == nil || snap.Generation.NotAfter.Sub(now) <= expiringWarning {
				severity = "critical"
			}
		}
	}
	if r.State == admin.RequestAnswered {
		add("request_pending", r.Slot, severity, r.Created, fmt.Sprintf("the answer to request %s waits to come into force: %s", r.ID, r.LastError), r.Hint)
		return
	}
	add("request_pending", r.Slot, severity, r.Created,
		"request "+r.ID+" for "+r.FQDN+" waits for its certificate since "+r.Created.UTC().Format(time.DateOnly),
		"send it if that was not done (spinecert csr show --mail "+r.ID+"), or ask where it is; take the answer back with spinecert import, or drop it into the inbox")
}

type adder func(code, subject, severity string, since time.Time, message, hint string)

func slotConditions(s *rotate.Slot, now time.Time, add adder) {
	st := s.Status()
	severity := "warning"
	if st.Generation == nil {
		severity = "critical"
	}
	switch r := st.Refusal; {
	case r == nil:
	case r.Reason == "key_readable":
		add("key_readable", s.Name(), severity, st.PendingSince, r.Error(), advice(r))
	case r.Reason == rotate.ReasonUnwritable:
		add("state_unwritable", s.Name(), severity, st.PendingSince, r.Error(), advice(r))
	case st.Offered && manage.WaitsFor(r): // request_pending says so
	case !r.Pending:
		add("rotation_refused", s.Name(), severity, st.PendingSince, r.Error(), advice(r))
	case now.Sub(st.PendingSince) >= st.Config.Settle || st.Generation == nil:
		add("source_incoherent", s.Name(), severity, st.PendingSince, r.Error(), advice(r))
	}
	if st.Unsaved != nil {
		add("state_unwritable", s.Name(), "warning", st.UnsavedSince, st.Unsaved.Error(),
			cmp.Or(pki.Hint(st.Unsaved), "make room, or give the directory back to the daemon's user; it is tried again by itself"))
	}
	snap := s.Snapshot()
	if snap == nil {
		return
	}
	end := snap.Generation.NotAfter
	left := end.Sub(now)
	if left > expiringWarning {
		return
	}
	text := fmt.Sprintf("its certificate or chain ends on %s", end.UTC().Format(time.RFC3339))
	hint := "ask for the next certificate now; put it in place of the files, it is taken by itself"
	if st.Config.Managed {
		hint = fmt.Sprintf("ask for the next certificate now, unless a request waits already: spinecert csr new --slot %s", s.Name())
	}
	switch {
	case left <= 0:
		add("expired", s.Name(), "critical", end, text, hint)
	case left <= expiringCritical:
		add("expiring", s.Name(), "critical", end.Add(-expiringCritical), text, hint)
	default:
		add("expiring", s.Name(), "warning", end.Add(-expiringWarning), text, hint)
	}
}
