package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/Netflix/bettertls/test-suites/certutil"
	"github.com/Netflix/bettertls/test-suites/nameconstraints"
	"github.com/Netflix/bettertls/test-suites/pathbuilding"
	cases "github.com/Netflix/bettertls/test-suites/test-case"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// throughTunnel is which of the cases of name constraints go through a tunnel as
// well: each of this many. Of path building all do.
const throughTunnel = 10

// sampled is which of the cases a Go test takes, where the race detector makes
// their keys thirty times slower: each of this many.
const sampled = 40

const naAddress = "the peer is called by an IP address; names are DNS names here; refused, as name_mismatch"

// betterTLS has Netflix's generators make the certificates, and judges each server
// as an outbound tunnel does.
func betterTLS(l *lab) ([]outcome, error) {
	anchor, key, err := certutil.GenerateSelfSignedCert("bettertls_trust_root")
	if err != nil {
		return nil, err
	}
	authority := &testpki.Authority{Cert: anchor, Key: key}
	bundle, err := trust.ParseBundle(trust.Source{Name: "root", Data: anchor.Raw})
	if err != nil {
		return nil, err
	}
	state, err := trust.NewState(trust.StateConfig{Bundle: bundle, Profile: trust.Private, Revocation: trust.Off})
	if err != nil {
		return nil, err
	}
	far := newFarEnd(l, authority)
	var out []outcome
	for _, p := range []cases.TestCaseProvider{nameconstraints.NewTestCaseProvider(), pathbuilding.NewTestCaseProvider()} {
		n, err := p.GetTestCaseCount()
		if err != nil {
			return nil, err
		}
		for i := uint(0); i < n; i += l.stride() {
			c, err := p.GetTestCase(i)
			if err != nil {
				return nil, err
			}
			served, err := c.GetCertificates(anchor, key)
			if err != nil {
				return nil, fmt.Errorf("%s %d: %w", p.Name(), i, err)
			}
			o := outcome{name: fmt.Sprintf("%s %d", p.Name(), i), want: expected(c), got: verifyServed(state, served, c.GetHostname())}
			if o.want == "" && o.got != nil && net.ParseIP(c.GetHostname()) != nil {
				o.na = naAddress
			}
			out = append(out, o)
			if p.Name() == "pathbuilding" || i%(throughTunnel*l.stride()) == 0 {
				o.name, o.got = o.name+" (tunnel)", far.connect(served, c.GetHostname())
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// expected returns what c asks for. Where BetterTLS is lenient, the stricter
// result is wanted for SANs, and a CN does not count beside or without them.
func expected(c cases.TestCase) trust.Reason {
	switch c.ExpectedResult() {
	case cases.EXPECTED_RESULT_PASS, cases.EXPECTED_RESULT_SOFT_PASS:
		return ""
	default:
		return anyReason
	}
}

func verifyServed(s *trust.State, served *tls.Certificate, name string) error {
	var chain []*x509.Certificate
	for _, der := range served.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return &refusal{trust.Malformed, err.Error()} // crypto/tls refuses it as well
		}
		chain = append(chain, c)
	}
	_, err := s.Verify(chain, trust.Request{Purpose: trust.ServerAuth, Peers: trust.Names(name), Now: time.Now()})
	return err
}

// farEnd is a TLS server behind outbound tunnels, one for each name it is called by.
type farEnd struct {
	host    *host
	address string
	serving atomic.Pointer[tls.Certificate]
	doors   map[string]*door
}

func newFarEnd(l *lab, root *testpki.Authority) *farEnd {
	f := &farEnd{doors: map[string]*door{}}
	f.host = newHost(l, root.CertPEM(), root.Issue(l, testpki.DNS("own.localhost")), nil)
	f.address = backend(l, &tls.Config{
		MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true, ClientAuth: tls.RequireAnyClientCert,
		// One case at a time: the certificate is set before it begins.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.serving.Load(), nil },
	}, true)
	return f
}

// connect goes through the tunnel to a server with the given certificates and
// returns why the tunnel refused it.
func (f *farEnd) connect(served *tls.Certificate, name string) error {
	d := f.doors[name]
	if d == nil {
		e := f.host.endpoint(rotate.EndpointConfig{Role: rotate.Client, Peers: trust.Names(name), ServerName: name, NoResumption: true})
		d = f.host.open(tunnel.Outbound, f.address, e, nil)
		f.doors[name] = d
	}
	f.serving.Store(served)
	c := f.host.l.dial(d.address)
	defer c.Close()
	through := greeted(c)
	if err := d.verdict(); err != nil || through {
		return err
	}
	return &refusal{trust.Protocol, "accepted, and nothing came through"}
}
