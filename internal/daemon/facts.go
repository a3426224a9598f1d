package daemon

import (
	"crypto/x509"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// facts collects at scrape what is true at present, as timestamps and counts.
type facts struct{ d *Daemon }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

// The descriptions are constant; they are variables because Go has no constant structs.
var (
	descReady       = desc("slot_ready", "1 if the slot serves an identity, else 0.", "slot")
	descGeneration  = desc("slot_generation", "Number of the generation that the slot serves; 0 is none.", "slot")
	descPending     = desc("slot_pending_since_timestamp_seconds", "Since when the slot's source is not what it serves; 0 if it is.", "slot")
	descNotAfter    = desc("certificate_not_after_timestamp_seconds", "End of the certificates that the slot serves and of their root.", "slot", "position")
	descCANotAfter  = desc("environment_ca_not_after_timestamp_seconds", "End of each CA of the environment's bundle.", "environment", "ca")
	descCRLNext     = desc("crl_next_update_timestamp_seconds", "When the issuer's CRL is due for renewal; the earliest, if it has several.", "environment", "issuer")
	descConnections = desc("tunnel_connections", "Open connections of the tunnel.", "tunnel")
	descBytes       = desc("tunnel_bytes_total", "Bytes of plaintext received from (in) and sent to (out) TLS peers.", "tunnel", "direction")
	descRequest     = desc("request_pending_since_timestamp_seconds", "Since when the slot's oldest request waits for its certificate; 0 if none does.", "slot")
	descWritable    = desc("state_writable", "1 if the state directory took the last line of the audit file and the generation that every slot serves, else 0.")
	descCondition   = desc("condition_active", "1 for each condition that is active; see docs/metrics.md for the codes.", "condition", "severity", "subject")
)

// Describe implements prometheus.Collector.
func (f facts) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descReady, descGeneration, descPending, descNotAfter, descCANotAfter, descCRLNext,
		descConnections, descBytes, descRequest, descWritable, descCondition} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f facts) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, s := range f.d.keeper.Slots() {
		slotFacts(s, gauge)
	}
	for _, e := range f.d.keeper.Environments() {
		environmentFacts(e, gauge)
	}
	for _, t := range f.d.liveTunnels() {
		st := t.tunnel.Stats()
		gauge(descConnections, float64(st.Connections), t.name)
		ch <- prometheus.MustNewConstMetric(descBytes, prometheus.CounterValue, float64(st.Received), t.name, "in")
		ch <- prometheus.MustNewConstMetric(descBytes, prometheus.CounterValue, float64(st.Sent), t.name, "out")
	}
	writable := f.d.audit.failing() == nil
	oldest := f.d.oldestRequests()
	for _, s := range f.d.keeper.Slots() {
		st := s.Status()
		writable = writable && st.Unsaved == nil
		if at, ok := oldest[s.Name()]; ok || st.Config.Managed {
			gauge(descRequest, secondsOrNone(at), s.Name())
		}
	}
	gauge(descWritable, bit(writable))
	// Two CAs of one environment that expire soon are two conditions, but one
	// series: a second of its kind would make the whole scrape fail.
	told := map[[3]string]bool{}
	for _, c := range f.d.conditions(time.Now()) {
		if key := [3]string{c.Code, c.Severity, c.Subject}; !told[key] {
			told[key] = true
			gauge(descCondition, 1, c.Code, c.Severity, c.Subject)
		}
	}
}

func slotFacts(s *rotate.Slot, gauge func(*prometheus.Desc, float64, ...string)) {
	st := s.Status()
	gauge(descReady, bit(st.Generation != nil), s.Name())
	since := 0.0
	if !st.PendingSince.IsZero() {
		since = seconds(st.PendingSince)
	}
	gauge(descPending, since, s.Name())
	snap := s.Snapshot()
	if snap == nil {
		gauge(descGeneration, 0, s.Name())
		return
	}
	gauge(descGeneration, float64(snap.Generation.Number), s.Name())
	id := snap.Generation.Identity
	gauge(descNotAfter, seconds(id.Leaf().NotAfter), s.Name(), "leaf")
	last := id.Leaf()
	if chain := id.Chain(); len(chain) > 0 {
		end := chain[0].NotAfter
		for _, c := range chain {
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
		last = chain[len(chain)-1]
		gauge(descNotAfter, seconds(end), s.Name(), "subca")
	}
	if root := rootOf(last, snap); root != nil {
		gauge(descNotAfter, seconds(root.NotAfter), s.Name(), "root")
	}
}

func rootOf(c *x509.Certificate, snap *rotate.Snapshot) *x509.Certificate {
	for _, root := range snap.Trust.Bundle().Roots() {
		if string(root.RawSubject) == string(c.RawIssuer) && root.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			return root
		}
	}
	return nil
}

func environmentFacts(e *rotate.Environment, gauge func(*prometheus.Desc, float64, ...string)) {
	state := e.Trust()
	if state == nil {
		return
	}
	// Two CAs of one name, before and after their renewal, are told apart by their fingerprint.
	for _, c := range state.Bundle().Certificates() {
		gauge(descCANotAfter, seconds(c.NotAfter), e.Name(), c.Subject.CommonName+" "+pki.Fingerprint(c)[:8])
	}
	next := map[string]time.Time{}
	for _, crl := range state.CRLs() {
		issuer := crl.IssuerCertificate().Subject.CommonName
		if at, ok := next[issuer]; !ok || crl.NextUpdate().Before(at) {
			next[issuer] = crl.NextUpdate()
		}
	}
	for issuer, at := range next {
		gauge(descCRLNext, seconds(at), e.Name(), issuer)
	}
}

// oldestRequests returns since when the oldest request of each slot waits.
func (d *Daemon) oldestRequests() map[string]time.Time {
	out := map[string]time.Time{}
	requests, _ := d.manager.Requests() // oldest first; what cannot be read is told elsewhere
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
