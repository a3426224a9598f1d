package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// lateWait is how long a TLS 1.3 server is given to refuse our certificate, which
// it does only after the handshake is over for us.
const lateWait = 500 * time.Millisecond

// farEnd is what a server showed of itself, and what came of the handshake.
type farEnd struct {
	state   tls.ConnectionState
	shown   []*x509.Certificate // what it presented, also where it was refused
	asked   bool                // for a certificate
	names   [][]byte            // of the CAs that it takes certificates of, DER
	own     *tls.Certificate    // what we sent
	verdict trust.Verdict
	err     error // of the handshake, or the verdict
	judged  bool  // err is the verdict
	said    error // what a TLS 1.3 server said afterwards
}

// meet makes a handshake as the tunnel makes it, and sends nothing over it. It uses
// no session of the tunnel and leaves none, so that the server shows all of itself.
func meet(ctx context.Context, conn net.Conn, e Endpoint) *farEnd {
	f := &farEnd{}
	base, err := e.TLS()
	if err != nil {
		f.err = err
		return f
	}
	c := base.Clone() // keeps the VerifyConnection that judges
	c.ClientSessionCache, c.SessionTicketsDisabled = nil, true
	send, verify := base.GetClientCertificate, base.VerifyConnection
	c.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		f.asked, f.names = true, r.AcceptableCAs
		var err error
		f.own, err = send(r)
		return f.own, err
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		f.shown = cs.PeerCertificates
		return verify(cs)
	}
	tc := tls.Client(conn, c)
	if f.err = tc.HandshakeContext(ctx); f.err != nil {
		return f
	}
	f.state = tc.ConnectionState()
	f.verdict, f.err = e.Accepted(ctx, f.state)
	f.judged = true
	if f.state.Version == tls.VersionTLS13 {
		f.said = late(tc)
	}
	return f
}

// late waits a moment for the alert of a server that did not like our certificate.
// A server that closes in order, or speaks first, has not said no.
func late(tc *tls.Conn) error {
	_ = tc.SetReadDeadline(time.Now().Add(lateWait)) // fails on a closed connection only, as the read then does
	_, err := tc.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// farSoon is when the certificate of a far end is near its end. It is for others to renew.
const farSoon = 30 * 24 * time.Hour

// judge says what was found.
func (f *farEnd) judge(w wired, what string, r *report) {
	var refusal *trust.VerifyError
	switch {
	case errors.As(f.err, &refusal) && f.judged && w.Wired.Config.Audit:
		r.warn(w.name(), hintOr(f.err, "mend that before policy: enforce"), "%s would be refused by policy: enforce: %v", what, f.err)
	case errors.As(f.err, &refusal):
		r.fail(w.name(), hintOr(f.err, "see the page Reading a refusal of the manual"), "%s shows %s, and is refused: %v", what, f.who(), f.err)
		return
	case f.err != nil && byPeer(f.err):
		f.refused(w, what, f.err, r)
		return
	case errors.Is(f.err, context.DeadlineExceeded):
		r.fail(w.name(), "is it TLS that listens there? openssl s_client -connect "+w.Wired.Config.Forward.Address, "%s takes the connection, and does not complete a handshake in time", what)
		return
	case f.err != nil:
		r.fail(w.name(), "is it TLS that listens there, and does it offer a version and a suite of the tunnel? openssl s_client -connect "+w.Wired.Config.Forward.Address, "%s: the handshake failed: %v", what, f.err)
		return
	case f.said != nil:
		f.refused(w, what, f.said, r)
		return
	default:
		sure := "the handshake completed"
		if f.state.Version == tls.VersionTLS13 {
			sure += "; the server has not said no"
		}
		r.ok(w.name(), "%s: %s: %s, %s, %s, until %s", what, sure, tls.VersionName(f.state.Version), tls.CipherSuiteName(f.state.CipherSuite), f.who(), stamp(f.state.PeerCertificates[0].NotAfter))
	}
	f.mutual(w, what, r)
	if len(f.shown) == 0 {
		return
	}
	if left := f.shown[0].NotAfter.Sub(w.Now); left > 0 && left <= farSoon {
		r.warn(w.name(), "tell whoever runs it", "%s: its certificate ends in %s, on %s", what, days(left), stamp(f.shown[0].NotAfter))
	}
}

// refused says that the server does not take our certificate.
func (f *farEnd) refused(w wired, what string, err error, r *report) {
	why := err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		why = "it closed the connection, and did not say why"
	}
	if !f.asked {
		r.fail(w.name(), "does it offer a version and a suite of the tunnel? openssl s_client -connect "+w.Wired.Config.Forward.Address, "%s ended the handshake before it asked for a certificate: %s", what, why)
		return
	}
	next := "is our certificate of its environment, known to it and not revoked? Ask whoever runs it"
	if !f.namesUs(w) {
		next = "ask whoever runs it to take certificates of our issuer, or get one of a CA that it names"
	}
	r.fail(w.name(), next, "%s refuses our certificate, of %s: %s; it %s", what, f.issuer(w), why, f.takes())
}

// mutual says what is odd about how the server asks for our certificate.
func (f *farEnd) mutual(w wired, what string, r *report) {
	switch {
	case !f.asked:
		r.warn(w.name(), "is it the right address and port? Spine asks for a certificate", "%s does not ask for a certificate: it does not know who we are", what)
	case !f.namesUs(w):
		r.warn(w.name(), "ask whoever runs it; it may refuse what is sent", "%s %s, and not %s, which issued our certificate", what, f.takes(), f.issuer(w))
	default:
		r.ok(w.name(), "%s %s", what, f.takes())
	}
}

// who is the name of the server's certificate.
func (f *farEnd) who() string {
	if len(f.shown) == 0 {
		return "no certificate"
	}
	names, _ := pki.Names(f.shown[0])
	const most = 3
	if over := len(names) - most; over > 0 {
		names = append(names[:most:most], fmt.Sprintf("and %d more", over))
	}
	if len(names) == 0 {
		return quote(f.shown[0])
	}
	return strings.Join(names, " ")
}

// takes says whose certificates the server asks for.
func (f *farEnd) takes() string {
	if len(f.names) == 0 {
		return "asks for a certificate, of any CA"
	}
	const most = 5
	var all []string
	for _, der := range f.names[:min(len(f.names), most)] {
		all = append(all, distinguished(der))
	}
	if over := len(f.names) - most; over > 0 {
		all = append(all, fmt.Sprintf("and %d more", over))
	}
	return "asks for a certificate of " + strings.Join(all, ", ")
}

// distinguished reads a name of a CertificateRequest.
func distinguished(der []byte) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return "(malformed name)"
	}
	var name pkix.Name
	name.FillFromRDNSequence(&rdns)
	return pki.QuoteName(name)
}

// namesUs reports whether the server asks for certificates of an issuer of ours: of
// the leaf, or above it.
func (f *farEnd) namesUs(w wired) bool {
	if len(f.names) == 0 {
		return true
	}
	for _, c := range f.chain(w) {
		for _, name := range f.names {
			if bytes.Equal(name, c.RawIssuer) {
				return true
			}
		}
	}
	return false
}

// issuer is who issued our leaf.
func (f *farEnd) issuer(w wired) string {
	if chain := f.chain(w); len(chain) > 0 {
		return pki.QuoteName(chain[0].Issuer)
	}
	return "nobody"
}

// chain is what we sent, else what the slot would send.
func (f *farEnd) chain(w wired) []*x509.Certificate {
	if f.own != nil && f.own.Leaf != nil {
		out := []*x509.Certificate{f.own.Leaf}
		for _, der := range f.own.Certificate[1:] {
			if c, err := x509.ParseCertificate(der); err == nil {
				out = append(out, c)
			}
		}
		return out
	}
	for _, s := range w.Slots {
		if snap := s.Snapshot(); snap != nil && s.Name() == w.Wired.Config.Slot {
			id := snap.Generation.Identity
			return id.Certificates()
		}
	}
	return nil
}

// byPeer tells a peer that hangs up or sends an alert from what we found wrong ourselves.
func byPeer(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
