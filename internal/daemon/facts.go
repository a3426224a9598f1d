package daemon

import (
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// families are the names of what is true at present, as timestamps and counts, sorted.
// They are constant; they are a variable because Go has no constant structs.
var families = [...]family{
	fact("alerts_pending", "Alerts of which the sink is still to be told something.", (*scrape).waiting, "sink"),
	fact("certificate_not_after_timestamp_seconds", "End of the certificates that the slot serves and of their root.", (*scrape).certificates, "position", "slot"),
	fact("clock_suspect", "1 while the wall clock of the host cannot be believed, else 0.", func(s *scrape, l *series) { l.add(bit(s.suspect)) }),
	fact("condition_active", "1 for each condition that is active; see docs/metrics.md for the codes.", (*scrape).active, "condition", "severity", "subject"),
	fact("crl_next_update_timestamp_seconds", "When the issuer's CRL is due for renewal; the earliest, if it has several.", (*scrape).lists, "environment", "issuer"),
	fact("environment_ca_not_after_timestamp_seconds", "End of each CA of the environment's bundle.", (*scrape).authorities, "ca", "environment"),
	fact("request_pending_since_timestamp_seconds", "Since when the slot's oldest request waits for its certificate; 0 if none does.", (*scrape).requests, "slot"),
	{namespace + "_rotations_total", "Candidates of a slot: published, or not and why. Told once per candidate and reason.", "counter", []string{"reason", "result", "slot"}, (*scrape).rotations},
	fact("service_in_sync", "1 if the service was seen to serve what its slot has, else 0.", (*scrape).inSync, "service"),
	ofSlot("slot_generation", "Number of the generation that the slot serves; 0 is none.", func(s *slotFacts) (float64, bool) { return s.generation, true }),
	ofSlot("slot_last_rotation_success_timestamp_seconds", "When the slot last published a generation.", func(s *slotFacts) (float64, bool) { return s.fared.success, s.fared.success != 0 }),
	ofSlot("slot_last_rotation_successful", "1 if what the slot's source held last is what the slot serves, else 0.", func(s *slotFacts) (float64, bool) { return bit(s.fared.good), s.tried }),
	ofSlot("slot_pending_since_timestamp_seconds", "Since when the slot's source is not what it serves; 0 if it is.", func(s *slotFacts) (float64, bool) { return s.pending, true }),
	ofSlot("slot_ready", "1 if the slot serves an identity, else 0.", func(s *slotFacts) (float64, bool) { return bit(s.ready), true }),
	fact("state_writable", "1 if the state directory took the last line of the audit file and the generation that every slot serves, else 0.", func(s *scrape, l *series) { l.add(bit(s.writable)) }),
	{namespace + "_tunnel_bytes_total", "Bytes of plaintext received from (in) and sent to (out) TLS peers.", "counter", []string{"direction", "tunnel"}, (*scrape).bytes},
	fact("tunnel_connections", "Open connections of the tunnel.", (*scrape).connections, "tunnel"),
}

// ofSlot returns the gauges of one name that slots have; of is not asked for more than one.
func ofSlot(name, help string, of func(*slotFacts) (value float64, ok bool)) family {
	return fact(name, help, func(s *scrape, l *series) {
		for i := range s.slots {
			if v, ok := of(&s.slots[i]); ok {
				l.add(v, s.slots[i].name)
			}
		}
	}, "slot")
}

// scrape is all that was seen at one moment.
type scrape struct {
	slots             []slotFacts
	environments      []*rotate.Environment
	tunnels           []tunnelFacts
	services          []deliver.Status
	conditions        []condition.Condition
	pending           map[string]int // by sink
	writable, suspect bool
}

// slotFacts is what is shown of a slot. Times are Unix seconds, 0 is none.
type slotFacts struct {
	name       string
	ready      bool
	generation float64
	pending    float64
	request    float64
	asks       bool // request is shown
	fared      rotated
	tried      bool // fared is shown
	ends
}

type tunnelFacts struct {
	name                        string
	connections, received, sent float64
}

// scrape looks at everything.
func (d *Daemon) scrape() *scrape {
	now := time.Now()
	requests, _ := d.manager.RequestStatus(now) // what cannot be read is told by the log
	services := d.services.Status()
	out := &scrape{
		services: services, environments: d.keeper.Environments(), conditions: d.conditions(now, requests, services),
		pending: d.alerts.Pending(), writable: d.audit.failing() == nil, suspect: d.clock.suspect.Load(),
	}
	slots, oldest, fared := d.keeper.Slots(), oldestRequests(requests), d.metrics.rotations.all()
	out.slots = make([]slotFacts, 0, len(slots))
	for i, e := range d.ends.look(slots) {
		name, st := slots[i].Name(), slots[i].Status()
		at, asked := oldest[name]
		f := slotFacts{name: name, ready: st.Generation != nil, pending: secondsOrNone(st.PendingSince), request: secondsOrNone(at), asks: asked || st.Config.Managed, ends: e.ends}
		f.fared, f.tried = fared[name]
		if e.snapshot != nil {
			f.generation = float64(e.snapshot.Generation.Number)
		}
		out.slots = append(out.slots, f)
		out.writable = out.writable && st.Unsaved == nil
	}
	for _, t := range d.liveTunnels() {
		st := t.tunnel.Stats()
		out.tunnels = append(out.tunnels, tunnelFacts{t.name, float64(st.Connections), float64(st.Received), float64(st.Sent)})
	}
	return out
}

func (s *scrape) certificates(l *series) {
	for i := range s.slots {
		f := &s.slots[i]
		if f.leaf != 0 {
			l.add(f.leaf, "leaf", f.name)
		}
		if f.subca != 0 {
			l.add(f.subca, "subca", f.name)
		}
		if f.root != 0 {
			l.add(f.root, "root", f.name)
		}
	}
}

func (s *scrape) rotations(l *series) {
	for i := range s.slots {
		for _, o := range s.slots[i].fared.counts {
			l.add(o.n, o.reason, o.result, s.slots[i].name)
		}
	}
}

func (s *scrape) requests(l *series) {
	for i := range s.slots {
		if f := &s.slots[i]; f.asks {
			l.add(f.request, f.name)
		}
	}
}

// active: two CAs of one environment that expire soon are two conditions, but one series.
func (s *scrape) active(l *series) {
	type told struct {
		code     condition.Code
		severity condition.Severity
		subject  string
	}
	seen := make(map[told]bool, len(s.conditions))
	for i := range s.conditions {
		c := &s.conditions[i]
		if key := (told{c.Code, c.Severity, c.Subject}); !seen[key] {
			seen[key] = true
			l.add(1, string(c.Code), string(c.Severity), c.Subject)
		}
	}
}

func (s *scrape) waiting(l *series) {
	for sink, n := range s.pending {
		l.add(float64(n), sink)
	}
}

func (s *scrape) authorities(l *series) {
	eachTrust(s.environments, func(name string, state *trust.State) {
		// Two CAs of one name, before and after their renewal, are told apart by their fingerprint.
		for _, c := range state.Bundle().Certificates() {
			l.add(seconds(c.NotAfter), c.Subject.CommonName+" "+pki.Fingerprint(c)[:8], name)
		}
	})
}

func (s *scrape) lists(l *series) {
	eachTrust(s.environments, func(name string, state *trust.State) {
		next := map[string]time.Time{}
		for _, crl := range state.CRLs() { // fetched ones, too
			issuer := crl.IssuerCertificate().Subject.CommonName
			if at, ok := next[issuer]; !ok || crl.NextUpdate().Before(at) {
				next[issuer] = crl.NextUpdate()
			}
		}
		for issuer, at := range next {
			l.add(seconds(at), name, issuer)
		}
	})
}

func eachTrust(environments []*rotate.Environment, do func(name string, state *trust.State)) {
	for _, e := range environments {
		if state := e.Trust(); state != nil {
			do(e.Name(), state)
		}
	}
}

func (s *scrape) inSync(l *series) {
	for i := range s.services {
		l.add(bit(s.services[i].State == deliver.InSync), s.services[i].Config.Name)
	}
}

func (s *scrape) connections(l *series) {
	for _, t := range s.tunnels {
		l.add(t.connections, t.name)
	}
}

func (s *scrape) bytes(l *series) {
	for _, t := range s.tunnels {
		l.add(t.received, "in", t.name)
		l.add(t.sent, "out", t.name)
	}
}

// oldestRequests returns since when the oldest request of each slot waits.
// requests are those that wait, oldest first.
func oldestRequests(requests []admin.Request) map[string]time.Time {
	out := make(map[string]time.Time, len(requests))
	for _, r := range requests {
		if _, ok := out[r.Slot]; !ok {
			out[r.Slot] = r.Created
		}
	}
	return out
}

func secondsOrNone(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return seconds(t)
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
