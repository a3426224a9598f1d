package daemon

import (
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// facts gathers at scrape what is true at present, as timestamps and counts.
type facts struct{ d *Daemon }

// families are the names of what facts gathers.
type families struct {
	ready, generation, pending, notAfter, caNotAfter, crlNext, connections, bytes, inSync, request, writable, clock, condition *family
}

// fact is constant; it is a variable because Go has no constant structs.
var fact = families{
	ready:       gauges("slot_ready", "1 if the slot serves an identity, else 0.", "slot"),
	generation:  gauges("slot_generation", "Number of the generation that the slot serves; 0 is none.", "slot"),
	pending:     gauges("slot_pending_since_timestamp_seconds", "Since when the slot's source is not what it serves; 0 if it is.", "slot"),
	notAfter:    gauges("certificate_not_after_timestamp_seconds", "End of the certificates that the slot serves and of their root.", "position", "slot"),
	caNotAfter:  gauges("environment_ca_not_after_timestamp_seconds", "End of each CA of the environment's bundle.", "ca", "environment"),
	crlNext:     gauges("crl_next_update_timestamp_seconds", "When the issuer's CRL is due for renewal; the earliest, if it has several.", "environment", "issuer"),
	connections: gauges("tunnel_connections", "Open connections of the tunnel.", "tunnel"),
	bytes: &family{namespace + "_tunnel_bytes_total", "Bytes of plaintext received from (in) and sent to (out) TLS peers.",
		dto.MetricType_COUNTER, []string{"direction", "tunnel"}},
	inSync:    gauges("service_in_sync", "1 if the service was seen to serve what its slot has, else 0.", "service"),
	request:   gauges("request_pending_since_timestamp_seconds", "Since when the slot's oldest request waits for its certificate; 0 if none does.", "slot"),
	writable:  gauges("state_writable", "1 if the state directory took the last line of the audit file and the generation that every slot serves, else 0."),
	clock:     gauges("clock_suspect", "1 while the wall clock of the host cannot be believed, else 0."),
	condition: gauges("condition_active", "1 for each condition that is active; see docs/metrics.md for the codes.", "condition", "severity", "subject"),
}

func (f *families) all() []*family {
	return []*family{f.ready, f.generation, f.pending, f.notAfter, f.caNotAfter, f.crlNext, f.connections, f.bytes, f.inSync, f.request, f.writable, f.clock, f.condition}
}

func (f facts) collect(g *gathering) {
	now := time.Now()
	requests, _ := f.d.manager.RequestStatus(now) // what cannot be read is told by the log
	oldest := oldestRequests(requests)
	writable := f.d.audit.failing() == nil
	roots := f.d.roots.look()
	for _, s := range f.d.keeper.Slots() {
		st, slot := s.Status(), []*dto.LabelPair{label("slot", s.Name())} // of many series
		slotFacts(s, st, roots, g, slot)
		writable = writable && st.Unsaved == nil
		if at, ok := oldest[s.Name()]; ok || st.Config.Managed {
			g.add(fact.request, secondsOrNone(at), slot...)
		}
	}
	f.d.roots.keep(roots)
	for _, e := range f.d.keeper.Environments() {
		environmentFacts(e, g)
	}
	for _, t := range f.d.liveTunnels() {
		st, name := t.tunnel.Stats(), label("tunnel", t.name)
		g.add(fact.connections, float64(st.Connections), name)
		g.add(fact.bytes, float64(st.Received), g.common("direction", "in"), name)
		g.add(fact.bytes, float64(st.Sent), g.common("direction", "out"), name)
	}
	services := f.d.services.Status()
	for _, st := range services {
		g.add(fact.inSync, bit(st.State == deliver.InSync), label("service", st.Config.Name))
	}
	g.add(fact.writable, bit(writable))
	g.add(fact.clock, bit(f.d.clock.suspect.Load()))
	// Two CAs of one environment that expire soon are two conditions, but one series.
	told := make(map[[3]string]bool, len(requests))
	for _, c := range f.d.conditions(now, requests, services) {
		if key := [3]string{c.Code, c.Severity, c.Subject}; !told[key] {
			told[key] = true
			g.add(fact.condition, 1, g.common("condition", c.Code), g.common("severity", c.Severity), label("subject", c.Subject))
		}
	}
}

func slotFacts(s *rotate.Slot, st *rotate.SlotStatus, roots *rootLook, g *gathering, slot []*dto.LabelPair) {
	g.add(fact.ready, bit(st.Generation != nil), slot...)
	g.add(fact.pending, secondsOrNone(st.PendingSince), slot...)
	snap := s.Snapshot()
	if snap == nil {
		g.add(fact.generation, 0, slot...)
		return
	}
	g.add(fact.generation, float64(snap.Generation.Number), slot...)
	id := snap.Generation.Identity
	g.add(fact.notAfter, seconds(id.Leaf().NotAfter), g.common("position", "leaf"), slot[0])
	last := id.Leaf()
	if chain := id.Chain(); len(chain) > 0 {
		end := chain[0].NotAfter
		for _, c := range chain {
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
		last = chain[len(chain)-1]
		g.add(fact.notAfter, seconds(end), g.common("position", "subca"), slot[0])
	}
	if root := roots.of(last, snap.Trust.Bundle()); root != nil {
		g.add(fact.notAfter, seconds(root.NotAfter), g.common("position", "root"), slot[0])
	}
}

func environmentFacts(e *rotate.Environment, g *gathering) {
	state := e.Trust()
	if state == nil {
		return
	}
	environment := label("environment", e.Name())
	// Two CAs of one name, before and after their renewal, are told apart by their fingerprint.
	for _, c := range state.Bundle().Certificates() {
		g.add(fact.caNotAfter, seconds(c.NotAfter), label("ca", c.Subject.CommonName+" "+pki.Fingerprint(c)[:8]), environment)
	}
	next := map[string]time.Time{}
	for _, crl := range state.CRLs() { // fetched ones, too
		issuer := crl.IssuerCertificate().Subject.CommonName
		if at, ok := next[issuer]; !ok || crl.NextUpdate().Before(at) {
			next[issuer] = crl.NextUpdate()
		}
	}
	for issuer, at := range next {
		g.add(fact.crlNext, seconds(at), environment, label("issuer", issuer))
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
