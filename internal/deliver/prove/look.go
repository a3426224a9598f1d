package prove

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/pki"
)

const (
	lookLimit = 5 * time.Second // one look, both versions of TLS

	// How long a server is waited for that refuses us after the handshake: at least, as a
	// multiple of what the handshake took, by which a busy host shows, and at most.
	refusalWait    = 100 * time.Millisecond
	refusalPatient = 10
	refusalMost    = time.Second

	receiveMax = 1 << 20 // bytes of one connection; crypto/tls takes chains of up to 256 KiB
)

// Seen is what a service served.
type Seen struct {
	Address    string              // that was asked; of a name, one of its addresses
	ServerName string              // that was asked for; "" for none
	Chain      []*x509.Certificate // as it was sent; the first is the leaf. Nil if it was not seen, or not proved to be the service's
	At         time.Time
	also       []Seen // at the other addresses of a name, which [Match] judges as well
}

// Look makes one full handshake, or, where the address is a name, one with each of its
// addresses that takes a connection; what it returns is for [Match]. The error is a
// *failure.Error: unreachable, handshake_failed, refused_us, the last with what was
// seen, or interrupted where ctx is cancelled. It takes 5 seconds at most, and 5 more to
// look up a name. A nil id shows no certificate; of a service that has certificates with
// several kinds of key, that with the kind of id is seen.
func Look(ctx context.Context, p config.Probe, id *pki.Identity) (Seen, error) {
	var leaf *x509.Certificate
	if id != nil {
		leaf = id.Leaf()
	}
	t := newTarget(p, id, leaf)
	return t.look(ctx, true)
}

// A looker looks at one address of a service.
type looker struct {
	probe     config.Probe
	identity  *pki.Identity
	version   uint16        // tried first: what the service took last
	suites    []uint16      // of TLS 1.2, tried first; nil for all
	dialLimit time.Duration // to connect
	absent    bool          // at the last look nobody took the connection
}

// look makes one full handshake; late says whether a refusal after it is waited for.
func (l *looker) look(parent context.Context, late bool) (Seen, error) {
	ctx, cancel := context.WithTimeout(parent, lookLimit)
	defer cancel()
	m, err := l.meetIn(ctx, l.version, late)
	if m.versionRefused(err) {
		other := uint16(tls.VersionTLS12)
		if l.version == tls.VersionTLS12 {
			other = tls.VersionTLS13
		}
		first := err
		m, err = l.meetIn(ctx, other, late)
		switch refused := m.versionRefused(err); {
		case refused && hungUp(first) && hungUp(err): // said once
		case refused:
			err = fmt.Errorf("in %s: %w; in %s: %w", tls.VersionName(l.version), plain(first), tls.VersionName(other), plain(err))
		case m.chain != nil:
			l.version = other
		}
	}
	l.absent = errors.As(err, new(*dialError))
	seen := l.seen()
	if err == nil || m.asked {
		seen.Chain = m.chain
	}
	if err == nil {
		return seen, nil
	}
	return seen, l.explain(parent, m, err)
}

// seen is what was seen now, without a certificate.
func (l *looker) seen() Seen {
	return Seen{Address: l.probe.Address, ServerName: serverName(l.probe), At: time.Now()}
}

// meetIn is meet, where TLS 1.2 first has the suites of the wanted kind of key. A service
// that has no such certificate shows the one it has.
func (l *looker) meetIn(ctx context.Context, version uint16, late bool) (*meeting, error) {
	if version != tls.VersionTLS12 || l.suites == nil {
		return l.meet(ctx, &meeting{version: version}, late)
	}
	m, err := l.meet(ctx, &meeting{version: version, suites: l.suites}, late)
	if m.versionRefused(err) && !isAlert(err, alertProtocolVersion) {
		m, err = l.meet(ctx, &meeting{version: version}, late)
	}
	return m, err
}

// A meeting is one connection, and what came of it.
type meeting struct {
	conn     *counted
	version  uint16
	suites   []uint16 // nil for all
	chain    []*x509.Certificate
	asked    bool  // for our certificate; by then it has proved its own key
	unsuited error // it takes no certificates of our kind of key
	began    bool  // TLS was spoken
	finished bool  // the handshake was over for us
}

// meet dials, speaks until TLS may begin, and makes the handshake in one version. What
// comes of it is written to m, which it returns.
func (l *looker) meet(ctx context.Context, m *meeting, late bool) (*meeting, error) {
	dialing, cancel := context.WithTimeout(ctx, l.dialLimit)
	defer cancel()
	raw, err := dial(dialing, l.probe.Address)
	if err != nil {
		return m, err
	}
	defer raw.Close()
	m.conn = raw
	// A cancelled context ends what is being read or written in plaintext, and late.
	defer context.AfterFunc(ctx, raw.expire)()
	if err := begin(l.probe.Protocol, raw); err != nil {
		return m, err
	}
	begun := time.Now()
	conn := tls.Client(raw, m.config(serverName(l.probe), l.identity, l.probe.Protocol))
	m.began = true
	if err := conn.HandshakeContext(ctx); err != nil {
		return m, err
	}
	m.finished = true
	if late {
		wait := min(max(refusalWait, refusalPatient*time.Since(begun)), refusalMost)
		err = m.refusal(ctx, conn, l.probe.Protocol, wait)
	}
	_ = conn.Close() // with a close_notify, which is the last that is sent
	return m, err
}

// config is for one connection over which nothing is sent and nothing believed.
func (m *meeting) config(serverName string, id *pki.Identity, protocol string) *tls.Config {
	c := &tls.Config{
		// The one place: a service is not judged here but seen. VerifyConnection takes
		// what it serves, and Match compares that, byte by byte, with what was delivered.
		InsecureSkipVerify: true,
		MinVersion:         m.version,
		MaxVersion:         m.version,
		CipherSuites:       m.suites,
		ServerName:         serverName,
		VerifyConnection: func(cs tls.ConnectionState) error {
			m.chain = cs.PeerCertificates
			return nil
		},
		// Called after the service has proved its key, in both versions: after the
		// signed ServerKeyExchange, or after CertificateVerify and Finished.
		GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			m.asked = true
			if id == nil {
				return &tls.Certificate{}, nil
			}
			kinds := *r
			kinds.AcceptableCAs = nil
			m.unsuited = kinds.SupportsCertificate(id.TLS())
			// Sent whatever CAs it names: crypto/tls would silently send none.
			return id.TLS(), nil
		},
	}
	if m.version == tls.VersionTLS13 {
		c.ClientSessionCache = tickets{m.conn, protocol}
	}
	return c
}

// tickets is told that a TLS 1.3 server sent a session ticket: it took our certificate.
// Tickets are asked for to be told, and never used.
type tickets struct {
	conn     *counted
	protocol string
}

// Get returns no session: every handshake is a full one.
func (tickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// Put ends the wait for a refusal.
func (t tickets) Put(string, *tls.ClientSessionState) {
	if !judgesLate(t.protocol) {
		t.conn.expire()
	}
}

// judgesLate reports whether servers of a protocol may refuse us after a handshake that
// the TLS library ended well: slapd with GnuTLS closes the connection then.
func judgesLate(protocol string) bool { return protocol == config.ProbeLDAP }

// refusal waits a moment for a server that says no after the handshake, or closes
// where that is the same.
func (m *meeting) refusal(ctx context.Context, conn *tls.Conn, protocol string, wait time.Duration) error {
	if !m.asked || m.version == tls.VersionTLS12 && !judgesLate(protocol) {
		return nil
	}
	_ = conn.SetReadDeadline(time.Now().Add(wait)) // fails on a closed connection only, as the read then does
	defer context.AfterFunc(ctx, m.conn.expire)()  // after that, or the deadline would hide it
	_, err := conn.Read(make([]byte, 1))
	switch {
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		return ctx.Err()
	case hungUp(err) && !judgesLate(protocol) && !reset(err):
		return nil // it may just have nothing to say
	case endedByPeer(err):
		return err
	}
	return nil
}

// RFC 8446, Section 6.
const (
	alertHandshakeFailure     tls.AlertError = 40
	alertProtocolVersion      tls.AlertError = 70
	alertInsufficientSecurity tls.AlertError = 71
)

// versionRefused reports whether the server may take us in another version of TLS: before
// it showed a certificate it sent an alert of the kinds that say so, or just hung up.
// Servers of TLS 1.3 alone send protocol_version, or handshake_failure as no suite of 1.2
// is theirs; slapd with GnuTLS closes the connection.
func (m *meeting) versionRefused(err error) bool {
	if err == nil || m.chain != nil || !m.began {
		return false
	}
	if hungUp(err) {
		return true
	}
	for _, code := range []tls.AlertError{alertHandshakeFailure, alertProtocolVersion, alertInsufficientSecurity} {
		if isAlert(err, code) {
			return true
		}
	}
	return false
}

// isAlert reports whether the peer sent an alert of this code. The type that crypto/tls
// has for alerts of a peer is not exported; its text is that of tls.AlertError.
func isAlert(err error, code tls.AlertError) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && op.Err.Error() == code.Error()
}

// serverName is the name that is asked for; "" for none.
func serverName(p config.Probe) string {
	name := p.ServerName
	if name == "" && !strings.HasPrefix(p.Address, unixPrefix) {
		name, _, _ = net.SplitHostPort(p.Address) // checked by the configuration; "" otherwise
	}
	host, _, _ := strings.Cut(name, "%") // the zone of an IPv6 address
	if net.ParseIP(host) != nil {
		return "" // RFC 6066, Section 3: an address is no name
	}
	return strings.TrimSuffix(name, ".")
}

// explain says why a look failed.
func (l *looker) explain(parent context.Context, m *meeting, err error) error {
	var known *failure.Error
	var network *dialError
	where := place(l.probe)
	timedOut := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case errors.Is(parent.Err(), context.Canceled):
		return failure.New(failure.Interrupted, "", "handshake with %s: %w", where, context.Canceled)
	case errors.As(err, &network):
		return failure.New(failure.Unreachable, network.advice(), "connect to %s: %w", where, network.cause())
	case timedOut && m.conn.received() == 0:
		return failure.New(failure.Unreachable, "does it hang? Look at its log; is the protocol of the probe right?",
			"handshake with %s: it takes the connection, and does not answer", where)
	case m.unsuited != nil:
		return failure.New(failure.RefusedUs, "let it take certificates with another kind of key, or request one with a kind that it takes",
			"handshake with %s: it takes no certificate with our kind of key, %s: %w", where, pki.DescribeKey(l.identity.Leaf().PublicKey), m.unsuited)
	case m.asked && !timedOut && l.identity == nil && (m.finished || endedByPeer(err)):
		return failure.New(failure.RefusedUs, "does the slot have an identity? The service takes nobody without a certificate", "handshake with %s: it asks for a certificate, and there is none to show: %w", where, plain(err))
	case m.asked && !timedOut && (m.finished || endedByPeer(err)):
		return failure.New(failure.RefusedUs, "does it know the CA that issued our certificate, and its CRLs? Its log says why",
			"handshake with %s: it refuses our certificate: %w", where, plain(err))
	case timedOut:
		return failure.New(failure.HandshakeFailed, "is the protocol of the probe right? Look at its log",
			"handshake with %s: it is not complete in time", where)
	case errors.As(err, &known):
		return failure.New(known.Reason, known.Advice, "handshake with %s: %w", where, known.Err)
	}
	return failure.New(failure.HandshakeFailed, advice(err), "handshake with %s: %w", where, plain(err))
}

// place names what is looked at in an error.
func place(p config.Probe) string {
	if p.ServerName == "" {
		return p.Address
	}
	return p.Address + " (" + p.ServerName + ")"
}
