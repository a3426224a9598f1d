package daemon

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/trust"
)

// metrics are the counters of the daemon, and its registry. What is a fact about
// the present is not counted but read at scrape, see facts.go. docs/metrics.md
// lists every series; a test holds one against the other.
type metrics struct {
	registry *prometheus.Registry

	latency    prometheus.Histogram
	handshakes *prometheus.CounterVec
	cut        *prometheus.CounterVec
	fromCN     *prometheus.CounterVec
	unchecked  *prometheus.CounterVec
	unlogged   *prometheus.CounterVec
	crlFetches *prometheus.CounterVec
	deliveries *prometheus.CounterVec
	rollbacks  *prometheus.CounterVec
	reloaded   prometheus.Gauge
	lostEvents prometheus.Counter
	watchLost  *prometheus.CounterVec
	alertsSent *prometheus.CounterVec
	build      prometheus.Gauge

	rotations rotations // its series are those of facts.go
}

const namespace = "spinecert"

func newMetrics(version string) *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		handshakes: vec("tunnel_handshakes_total", "TLS handshakes of a tunnel by result (accepted, refused, audited, limited, failed) and reason.", "tunnel", "result", "reason"),
		cut:        vec("tunnel_connections_cut_total", "Open connections that the daemon ended, by reason.", "tunnel", "reason"),
		fromCN:     vec("peer_name_from_cn_total", "Accepted peers whose name was read from the common name, as they have no SAN.", "tunnel"),
		unchecked:  vec("peers_accepted_unchecked_total", "Accepted peers whose revocation could not be checked, by reason.", "tunnel", "reason"),
		unlogged:   vec("refusal_lines_suppressed_total", "Refusals and cuts that the log does not name one by one, as there were too many.", "tunnel"),
		crlFetches: vec("crl_fetches_total", "Requests for a CRL by result: fetched, unchanged, failed (no answer) or refused (a bad one).", "environment", "result"),
		deliveries: vec("service_deliveries_total", "Deliveries to a service by result: proved, failed (each cause once), rolled_back.", "service", "result"),
		rollbacks:  vec("service_rollbacks_total", "Times that a service was taken back to what was proved before.", "service"),
		alertsSent: vec("alerts_sent_total", "Messages to a sink of alerts by result: sent, failed (it is tried again) or dropped (given up, as too many waited).", "sink", "result"),
		watchLost:  vec("watch_failures_total", "Times that the kernel's file events could not be relied on; the poll goes on.", "kind"),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "rotation_latency_seconds",
			Help:    "From the first sign of a change to the publication of the generation made of it.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30, 300}}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "config_last_reload_successful",
			Help: "1 if the configuration on disk was in force when it was last read, else 0."}),
		lostEvents: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "events_lost_total",
			Help: "Log and audit events given up because log or disk did not take them fast enough."}),
	}
	m.reloaded.Set(1)
	m.build = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info", Help: "Always 1; its labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}})
	m.build.Set(1)
	m.registry.MustRegister(m.own()...)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// own returns the collectors whose series docs/metrics.md lists, with facts.
func (m *metrics) own() []prometheus.Collector {
	return []prometheus.Collector{m.latency, m.handshakes, m.cut, m.fromCN, m.unchecked,
		m.unlogged, m.crlFetches, m.deliveries, m.rollbacks,
		m.reloaded, m.lostEvents, m.watchLost, m.alertsSent, m.build}
}

// handshake counts one handshake.
func (m *metrics) handshake(name string, h tunnel.Handshake) {
	m.handshakes.WithLabelValues(name, string(h.Result), h.Reason).Inc()
	if h.Result != tunnel.Accepted {
		return
	}
	if h.Verdict.NameSource == "cn" {
		m.fromCN.WithLabelValues(name).Inc()
	}
	switch h.Verdict.Revocation {
	case trust.RevocationUnavailable:
		m.unchecked.WithLabelValues(name, string(h.Verdict.Unchecked)).Inc()
	case trust.RevocationOff:
		m.unchecked.WithLabelValues(name, "revocation_off").Inc()
	}
}

// forgetSlot, forgetEnvironment, forgetTunnel and forgetService end the series of what left the configuration.
func (m *metrics) forgetSlot(name string) {
	m.rotations.forget(name)
}

func (m *metrics) forgetEnvironment(name string) {
	m.crlFetches.DeletePartialMatch(prometheus.Labels{"environment": name})
}

func (m *metrics) forgetTunnel(name string) {
	l := prometheus.Labels{"tunnel": name}
	for _, v := range []*prometheus.CounterVec{m.handshakes, m.cut, m.fromCN, m.unchecked, m.unlogged} {
		v.DeletePartialMatch(l)
	}
}

func (m *metrics) forgetService(name string) {
	l := prometheus.Labels{"service": name}
	m.deliveries.DeletePartialMatch(l)
	m.rollbacks.DeletePartialMatch(l)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
