package cli

import (
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
	"syscall"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// refusalWait is how long a TLS 1.3 peer is given to refuse our certificate,
// which it does only after the handshake is over for us.
const refusalWait = 500 * time.Millisecond

// peerSeen is what a peer showed of itself.
type peerSeen struct {
	address       string
	version       uint16
	suite         uint16
	chain         []*x509.Certificate
	staple        []byte // the OCSP response it stapled, if any
	asked         bool   // for a certificate; by then it has proved its own key
	acceptableCAs []string
	refused       error // of us, after it had shown its chain
}

// peerFacts is the key peer of the result of verify.
type peerFacts struct {
	Address       string   `json:"address"`
	Version       string   `json:"version"`
	Suite         string   `json:"suite"`
	Asks          bool     `json:"asks_for_certificate"`
	AcceptableCAs []string `json:"acceptable_cas"`
	Refusal       string   `json:"refusal,omitempty"` // why it ended the handshake after showing its chain
}

func (s *peerSeen) facts() *peerFacts {
	f := &peerFacts{Address: s.address, Asks: s.asked, AcceptableCAs: list(s.acceptableCAs)}
	if s.version != 0 {
		f.Version, f.Suite = tls.VersionName(s.version), tls.CipherSuiteName(s.suite)
	}
	if s.refused != nil {
		f.Refusal = s.refused.Error()
		if errors.Is(s.refused, io.EOF) {
			f.Refusal = "it closed the connection, and did not say why"
		}
	}
	return f
}

// meet makes a handshake with a peer to see its chain. The error is a failure
// with exit status 1: of the network, or with the reason protocol where TLS
// failed before the peer had proved that the chain is its own.
func meet(ctx context.Context, address, serverName string, identity *pki.Identity) (*peerSeen, error) {
	seen := &peerSeen{address: address}
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, unreachable(address, err)
	}
	defer raw.Close()
	conn := tls.Client(raw, seen.config(serverName, identity))
	err = conn.HandshakeContext(ctx)
	switch {
	case err == nil:
		seen.refused = seen.lateRefusal(conn, identity != nil)
		return seen, nil
	case seen.asked && endedByPeer(err):
		seen.refused = err
		return seen, nil
	}
	code := string(trust.Protocol)
	if ctx.Err() != nil {
		code = codeTimeout
	}
	f := failed(code, fmt.Errorf("handshake with %s: %w", address, err))
	f.hint = "TLS 1.2 and 1.3 are offered; is it TLS that listens there? openssl s_client -connect " + address
	return seen, f
}

// config is for one connection over which nothing is ever sent or believed.
func (s *peerSeen) config(serverName string, identity *pki.Identity) *tls.Config {
	return &tls.Config{
		// The one place: verify must see a chain before it judges it, with
		// trust.State, and says so whatever comes out. crypto/tls would end the
		// handshake first, and knows no name in a CN.
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS12,
		MaxVersion:         tls.VersionTLS13,
		ServerName:         serverName,
		VerifyConnection: func(cs tls.ConnectionState) error {
			s.version, s.suite, s.chain, s.staple = cs.Version, cs.CipherSuite, cs.PeerCertificates, cs.OCSPResponse
			return nil
		},
		// Called after the peer has proved its key, in both versions: after the
		// signed ServerKeyExchange, or after CertificateVerify and Finished.
		GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			s.asked, s.acceptableCAs = true, distinguishedNames(r.AcceptableCAs)
			if identity == nil {
				return &tls.Certificate{}, nil
			}
			// Sent whatever CAs it names: crypto/tls would silently send none.
			return identity.TLS(), nil
		},
	}
}

// lateRefusal waits a moment for the alert of a TLS 1.3 peer that did not like
// our certificate, or the lack of one. A peer that was shown one and closes in
// order may just have nothing to say: that is no refusal.
func (s *peerSeen) lateRefusal(conn *tls.Conn, shown bool) error {
	if !s.asked || s.version != tls.VersionTLS13 {
		return nil
	}
	_ = conn.SetReadDeadline(time.Now().Add(refusalWait)) // fails on a closed connection only, as the read then does
	_, err := conn.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || shown && errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// endedByPeer tells a peer that hangs up or sends an alert from what we found
// wrong ourselves.
func endedByPeer(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func unreachable(address string, err error) *exitError {
	code := codeUnreachable
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		code = codeTimeout
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	f := failed(code, fmt.Errorf("connect to %s: %w", address, err))
	f.hint = "is the address right, and is there a route (HSCN) and a firewall rule for it?"
	return f
}

// distinguishedNames reads the names of a CertificateRequest.
func distinguishedNames(raw [][]byte) []string {
	out := []string{}
	for _, der := range raw {
		var rdns pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
			out = append(out, "(malformed name)")
			continue
		}
		out = append(out, rdns.String())
	}
	return out
}
