package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// resultCut is the result of a refusal that came after the handshake, beside those of
// package tunnel.
const resultCut = "cut"

// fault is one peer that was refused, would have been, or was cut.
type fault struct {
	tunnel   string
	outbound bool
	result   string
	reason   string
	remote   net.Addr
	leaf     *x509.Certificate // that the peer presented; nil if nothing is known of it
	err      error
}

// key says which faults are alike.
func (f *fault) key() refusalKey {
	k := refusalKey{source: sourceKey{f.tunnel, sourceOf(f.remote)}, result: f.result, reason: f.reason}
	if f.leaf != nil {
		k.serial, k.issuer = serialOf(f.leaf), string(f.leaf.RawIssuer[:min(len(f.leaf.RawIssuer), maxNameShown)])
	}
	return k
}

// peer is the address of the other side; "" behind a unix socket.
func (f *fault) peer() string {
	if f.remote == nil || f.remote.Network() == "unix" {
		return ""
	}
	return f.remote.String()
}

// describe names everything that an operator needs to know. All of it is bounded.
func (f *fault) describe() admin.Refusal {
	r := admin.Refusal{Tunnel: f.tunnel, Peer: f.peer(), Result: f.result, Reason: f.reason, Rule: ruleOf(f.reason), Message: f.message(), Hint: f.hint()}
	if f.leaf != nil {
		r.Name, r.Serial, r.Issuer = nameOf(f.leaf), serialOf(f.leaf), issuerOf(f.leaf)
	}
	return r
}

// message is the sentence without the word for its reason.
func (f *fault) message() string {
	var refusal *trust.VerifyError
	switch {
	case errors.As(f.err, &refusal):
		return clipTo(refusal.Detail, maxTextShown)
	case f.err != nil:
		return clipTo(f.err.Error(), maxTextShown)
	}
	return ""
}

// hint is the next action: never empty for a reason that the program knows.
func (f *fault) hint() string {
	if f.reason == string(trust.Protocol) {
		if hint := protocolHint(f.err, f.outbound); hint != "" {
			return hint
		}
	}
	if hint := pki.Hint(f.err); hint != "" {
		return clipTo(hint, maxTextShown)
	}
	if limit, ok := limits[f.reason]; ok {
		return limit.hint
	}
	return trust.Reason(f.reason).Hint()
}

func ruleOf(reason string) string {
	if limit, ok := limits[reason]; ok {
		return limit.rule
	}
	return trust.Reason(reason).Rule()
}

// limits explains the reasons of package tunnel. It is constant data; nothing writes to it.
var limits = map[string]struct{ rule, hint string }{
	tunnel.LimitAllowFrom:   {"allow_from", "if this address may connect, add its network to the tunnel's allow_from"},
	tunnel.LimitAllowUsers:  {"allow_users", "if this user may use the identity, add the name to the tunnel's allow_users"},
	tunnel.LimitConnections: {"connections, limits.connections", "see who holds connections open; set timeouts.idle, or raise the limit and with it LimitNOFILE of the unit"},
	tunnel.LimitPerSource:   {"limits.per_source", "one address has as many handshakes under way as it may: a flood, or many peers behind one address; then raise limits.per_source"},
	tunnel.LimitHandshakes:  {"limits.handshakes", "more handshakes wait than the processors can do in time: a flood, which allow_from keeps out, or too small a host"},
	tunnel.NotReady:         {"slot", "the slot of the tunnel serves nothing: spinecert status says why"},
}

// protocolHint says what can be done about a handshake that came to nothing. What
// crypto/tls says only in words is looked for as words: at worst the hint is the usual one.
func protocolHint(err error, outbound bool) string {
	var op *net.OpError
	words := ""
	if err != nil {
		words = err.Error()
	}
	switch {
	case errors.As(err, &op) && op.Op == "remote error", strings.Contains(words, "the peer refused"):
		return "the peer does not accept our certificate, or what we offer: compare the environments, and ask it for its reason"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "the peer was too slow, or something on the way swallows packets; see timeouts.handshake"
	case strings.Contains(words, "unsupported versions"), strings.Contains(words, "protocol version not supported"), strings.Contains(words, "unsupported protocol version"):
		return "both sides must offer a common version; Spine's is TLS 1.2, see tls.min_version and tls.max_version"
	case strings.Contains(words, "no cipher suite supported"), strings.Contains(words, "unconfigured cipher suite"):
		return "both sides must offer a common cipher suite; see tls.cipher_suites"
	case strings.Contains(words, "does not look like a TLS handshake"):
		return "the other side does not speak TLS on this port"
	case isHangUp(err):
		if outbound {
			return "the far side hung up: see its log; it may refuse our address, our certificate or the server name"
		}
		return "the peer hung up: a port scan or health check does this; a real peer has the reason in its log"
	}
	return ""
}

// refused tells of a fault: it is remembered, and where there is room for a line, it
// is logged and written to the audit file. It must not block.
func (d *Daemon) refused(f *fault, told told, now time.Time) {
	tunnels := d.tunnelCount()
	r, news := d.recent.note(f.key(), f.peer(), now, f.describe, func() bool {
		return told.audit.allow(now) && d.auditAll(f.result).allow(f.tunnel, tunnels, now)
	})
	if news > 0 {
		d.keepAudit(d.auditOfRefusal(r, f.leaf, news, now))
	}
	if !told.log.allow(now) {
		d.metrics.unlogged.WithLabelValues(f.tunnel).Inc()
		return
	}
	text := errorText(r, f.err) // now: what waits for the log must not hold certificates
	level := slog.LevelWarn
	if f.hungUp() {
		level = slog.LevelInfo
	}
	d.post(func() { d.recordRefusal(r, text, level) })
}

// hungUp reports whether somebody connected to us and went away before a handshake, as port scans and the health checks of
// load balancers do every few seconds.
func (f *fault) hungUp() bool {
	return f.result == string(tunnel.Failed) && !f.outbound && isHangUp(f.err)
}

func isHangUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// handOver has work done by another goroutine, in order: a review that cuts connections
// waits for nothing that is told of them. It does the work itself where too much waits.
func (d *Daemon) handOver(work func()) {
	select {
	case d.handed <- work:
	default:
		work()
	}
}

// auditAll is the budget of all tunnels for one kind of line.
func (d *Daemon) auditAll(result string) *sharedBudget {
	if result == resultCut {
		return d.auditCuts
	}
	return d.auditRefusals
}

// The events of refusals in the audit file.
const (
	eventRefused    = "peer_refused"
	eventAudited    = "peer_audited"
	eventCut        = "connection_cut"
	eventSuppressed = "refusals_suppressed"
)

// viaTunnel is how a peer caused something.
const viaTunnel = "tunnel"

func (d *Daemon) auditOfRefusal(r admin.Refusal, leaf *x509.Certificate, count uint64, now time.Time) auditLine {
	event := eventRefused
	switch r.Result {
	case resultCut:
		event = eventCut
	case string(tunnel.Audited):
		event = eventAudited
	}
	l := auditLine{Time: now, Event: event, Reason: r.Reason, Actor: actor{UID: d.uid, PID: d.pid, Via: viaTunnel},
		Tunnel: r.Tunnel, Peer: r.Peer, Name: r.Name, Serial: r.Serial, Issuer: r.Issuer, Rule: r.Rule, Message: r.Message, Hint: r.Hint}
	if leaf != nil {
		l.Digest = pki.Fingerprint(leaf)
	}
	if count > 1 {
		l.Count = count
	}
	return l
}

// recordRefusal writes a refusal to the log, with the whole error.
func (d *Daemon) recordRefusal(r admin.Refusal, whole string, level slog.Level) {
	event, text := "handshake_"+r.Result, "peer not accepted"
	switch r.Result {
	case resultCut:
		event, text = eventCut, "open connection cut"
	case string(tunnel.Audited):
		text = "peer would not be accepted; it is, as the policy of the tunnel is audit"
	}
	attrs := []slog.Attr{slog.String("tunnel", r.Tunnel), slog.String("reason", r.Reason)}
	for _, a := range []slog.Attr{slog.String("peer", r.Peer), slog.String("name", r.Name), slog.String("serial", r.Serial), slog.String("issuer", r.Issuer),
		slog.String("rule", r.Rule), slog.String("error", whole), slog.String("hint", r.Hint)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	d.writeLine(event, level, text, attrs)
}

// errorText is the whole error, the word for its reason included.
func errorText(r admin.Refusal, err error) string {
	switch {
	case err != nil:
		return clipTo(err.Error(), maxErrorShown)
	case r.Result == string(tunnel.Limited) && r.Message == "":
		return "limit " + r.Reason
	}
	return r.Message
}

// tellSuppressed says how many lines of refusals were not written, once a window.
func (d *Daemon) tellSuppressed(now time.Time) {
	tell := func(name string, t told) {
		if n := t.log.suppressed(now); n > 0 {
			d.record1(eventSuppressed, slog.LevelWarn, "more refusals than are logged one by one; all are counted", slog.String("tunnel", name), slog.Uint64("suppressed", n),
				slog.String("hint", "spinecert status --refusals shows the last ones"))
		}
		if n := t.audit.suppressed(now); n > 0 {
			d.keepAudit(auditLine{Time: now, Event: eventSuppressed, Tunnel: name, Count: n, Actor: actor{UID: d.uid, PID: d.pid, Via: viaTunnel}})
		}
	}
	for _, t := range d.everyTunnel() {
		tell(t.name, t.tally.refusals)
		tell(t.name, t.tally.cuts)
	}
	if p := d.pages.peers; p != nil {
		tell(webName, p.refusals)
		tell(webName, p.cuts)
	}
	for _, b := range []*sharedBudget{d.auditRefusals, d.auditCuts} {
		if n := b.suppressed(now); n > 0 {
			d.keepAudit(auditLine{Time: now, Event: eventSuppressed, Count: n, Actor: actor{UID: d.uid, PID: d.pid, Via: viaTunnel}})
		}
	}
}

// refusals answers status --refusals.
func (d *Daemon) refusals(context.Context) []admin.Refusal { return d.recent.list() }
