package main

import (
	"crypto/tls"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

const ownName = "pcs.thirdparty.nhs.uk"

// live is a host with an inbound tunnel, and a peer that may connect: revocation is
// required and the lists are files.
type live struct {
	l         *lab
	root, sub *testpki.Authority
	own, peer *testpki.Leaf
	second    *testpki.Authority // see twoRoots
	trusted   []byte
	profile   trust.Profile // "" is private
	g1        bool          // names are in the CN
	config    rotate.EndpointConfig
	host      *host
	backend   string
	door      *door
	client    *tls.Config // of the peer
}

// liveCase is one row: try is run in two new set-ups, without and with the hostile
// part, and returns why the peer, or what it tried, was refused.
type liveCase struct {
	name  string
	want  trust.Reason
	setup func(*live)
	try   func(v *live, bad bool) error
}

// Reasons of what is refused without a judgement.
const (
	fullHandshake trust.Reason = "full_handshake"   // a ticket was not honoured
	noRenegotiate trust.Reason = "no_renegotiation" // the connection ended
	cut           trust.Reason = "cut"              // an open connection was ended
)

func judgeLive(l *lab, k liveCase) outcome {
	try := func(bad bool) error {
		var got error
		if err := l.scope(func() error {
			v := newLive(l)
			if k.setup != nil {
				k.setup(v)
			}
			v.start()
			got = k.try(v, bad)
			return nil
		}); err != nil {
			return err
		}
		return got
	}
	if err := try(false); err != nil {
		l.Errorf("%s: its good twin is refused: %v", k.name, err)
	}
	return outcome{name: k.name, want: k.want, got: try(true)}
}

func newLive(l *lab) *live {
	v := &live{l: l, root: testpki.NewRoot(l)}
	v.sub = v.root.SubCA(l)
	v.own = v.sub.Issue(l, testpki.DNS(ownName))
	v.peer = v.sub.Issue(l, testpki.DNS(peerName))
	v.trusted = v.sub.BundlePEM()
	v.config = rotate.EndpointConfig{Role: rotate.Server, Peers: trust.Names(peerName), Late: true}
	return v
}

func (v *live) start() {
	v.host = newHost(v.l, v.trusted, v.own, func(h *host) {
		h.env.Revocation, h.env.NameFromCN = trust.Require, v.g1
		if v.profile != "" {
			h.env.Profile = v.profile
		}
		h.env.CRLs = []string{h.path("root.crl"), h.path("sub.crl")}
		h.write("root.crl", v.root.CRL(v.l))
		h.write("sub.crl", v.sub.CRL(v.l))
	})
	v.backend = backend(v.l, nil, true)
	v.door = v.open(v.config)
	v.client = v.as(v.peer)
}

// open opens an inbound tunnel.
func (v *live) open(c rotate.EndpointConfig) *door {
	return v.host.open(tunnel.Inbound, v.backend, v.host.endpoint(c), nil)
}

// as is the client that presents leaf, and can resume.
func (v *live) as(leaf *testpki.Leaf) *tls.Config {
	certificate := leaf.TLS()
	return &tls.Config{
		RootCAs: pool(v.root), ServerName: ownName, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil },
	}
}

// call connects to d, reads what the backend says and returns the tunnel's verdict,
// and whether the session was resumed.
func (v *live) call(d *door, c *tls.Config) (resumed bool, err error) {
	conn := v.l.dial(d.address)
	defer conn.Close()
	tc := tls.Client(conn, c)
	through := greeted(tc)
	resumed = tc.ConnectionState().DidResume
	if err := d.verdict(); err != nil || through {
		return resumed, err
	}
	return resumed, &refusal{trust.Protocol, "accepted, and nothing came through"}
}

func (v *live) try(c *tls.Config) error {
	_, err := v.call(v.door, c)
	return err
}

// revoke puts the peer on the list that is in force.
func (v *live) revoke() {
	v.host.write("sub.crl", v.sub.CRL(v.l, testpki.Revoke(v.peer.Cert.SerialNumber)))
	v.host.refresh()
}

// Handshakes.
func handshakeCases() []liveCase {
	return []liveCase{
		{"a client without a certificate", trust.NoCertificate, nil, func(v *live, bad bool) error {
			if bad {
				v.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
			}
			return v.try(v.client)
		}},
		{"a certificate of another PKI", trust.UnknownIssuer, nil, func(v *live, bad bool) error {
			if bad {
				other := testpki.NewRoot(v.l, testpki.Name("Foreign Root")).SubCA(v.l, testpki.Name("Foreign SubCA"))
				v.client = v.as(other.Issue(v.l, testpki.DNS(peerName)))
			}
			return v.try(v.client)
		}},
		{"the peer's certificate without its key", trust.Protocol, nil, func(v *live, bad bool) error {
			if bad {
				stolen := *v.peer
				stolen.Key = testpki.NewKey(v.l, "ecdsa-p256")
				v.client = v.as(&stolen)
			}
			return v.try(v.client)
		}},
		{"a chain over the limit in bytes", trust.TooLarge, nil, func(v *live, bad bool) error {
			if bad {
				long := *v.peer
				for range 300 { // over 64 KiB and 32 KiB of framing
					long.Chain = append(long.Chain, v.sub.Cert)
				}
				v.client = v.as(&long)
			}
			return v.try(v.client)
		}},
		{"TLS 1.1", trust.Protocol, nil, func(v *live, bad bool) error {
			if bad {
				v.client.MinVersion, v.client.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			}
			return v.try(v.client)
		}},
		{"TLS 1.3 where 1.2 is the most", trust.Protocol, nil, func(v *live, bad bool) error {
			if bad {
				v.client.MinVersion = tls.VersionTLS13
			}
			return v.try(v.client)
		}},
		{"HTTP on a TLS port", trust.Protocol, nil, func(v *live, bad bool) error {
			if bad {
				return v.shout("GET / HTTP/1.1\r\nHost: pcs\r\n\r\n")
			}
			return v.try(v.client)
		}},
		{"a peer that connects and says nothing", trust.Protocol, nil, func(v *live, bad bool) error {
			if bad {
				v.door = v.host.open(tunnel.Inbound, v.backend, v.host.endpoint(v.config), func(c *tunnel.Config) { c.Handshake = 100 * time.Millisecond })
				return v.shout("")
			}
			return v.try(v.client)
		}},
		{"renegotiation", noRenegotiate, nil, renegotiate},
		{"a lenient tunnel's verdict on a strict one", trust.CRLUnavailable, nil, func(v *live, bad bool) error {
			alone := v.root.SubCA(v.l, testpki.Name("Without List"))
			v.client = v.as(alone.Issue(v.l, testpki.DNS(peerName), testpki.CDP(subList)))
			v.host.write("trust.pem", slices.Concat(v.trusted, alone.CertPEM()))
			if !bad {
				v.host.write("sub.crl", slices.Concat(testpki.EncodeCRL(v.sub.CRL(v.l)), testpki.EncodeCRL(alone.CRL(v.l))))
			}
			v.host.refresh()
			lenient := v.config
			lenient.Revocation = trust.Off
			for range 2 { // the second time it is remembered
				if _, err := v.call(v.open(lenient), v.client); err != nil {
					return err
				}
			}
			return v.try(v.client)
		}},
		{"an open connection of a peer that is revoked", cut, nil, func(v *live, bad bool) error {
			v.linger()
			conn := v.l.dial(v.door.address)
			defer conn.Close()
			if _, err := tls.Client(conn, v.client).Write([]byte("still here")); err != nil {
				return err
			}
			if err := v.door.verdict(); err != nil {
				return err
			}
			until(v.l, "the connection is open", func() bool { return len(v.door.tunnel.Connections()) == 1 })
			if bad {
				v.revoke()
			}
			if _, ended := v.door.tunnel.Review(false); ended > 0 {
				return &refusal{cut, "the review ended it"}
			}
			return nil
		}},
		{"a server of another name", trust.NameMismatch, nil, outbound(func(v *live) *testpki.Leaf { return v.sub.Issue(v.l, testpki.DNS("other.nhs.uk")) })},
		{"a server with a client's certificate", trust.WrongPurpose, nil, outbound(func(v *live) *testpki.Leaf {
			return v.sub.Issue(v.l, testpki.DNS(peerName), testpki.EKU(2))
		})},
		{"a server that was revoked", trust.Revoked, nil, outbound(func(v *live) *testpki.Leaf { v.revoke(); return v.peer })},
		{"a server of another PKI", trust.UnknownIssuer, nil, outbound(func(v *live) *testpki.Leaf {
			return testpki.NewRoot(v.l, testpki.Name("Foreign Root")).Issue(v.l, testpki.DNS(peerName))
		})},
	}
}

// linger opens the door anew, to a backend that does not end.
func (v *live) linger() {
	v.backend = backend(v.l, nil, false)
	v.door = v.open(v.config)
}

// shout sends text to the door as it is.
func (v *live) shout(text string) error {
	conn := v.l.dial(v.door.address)
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	return v.door.verdict()
}

// outbound has the tunnel connect to the peer as a server, or to what other makes.
func outbound(other func(*live) *testpki.Leaf) func(*live, bool) error {
	return func(v *live, bad bool) error {
		leaf := v.peer
		if bad {
			leaf = other(v)
		}
		far := backend(v.l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{leaf.TLS()}, ClientAuth: tls.RequireAnyClientCert}, true)
		e := v.host.endpoint(rotate.EndpointConfig{Role: rotate.Client, Peers: trust.Names(peerName), ServerName: peerName, Late: true})
		d := v.host.open(tunnel.Outbound, far, e, nil)
		conn := v.l.dial(d.address)
		defer conn.Close()
		through := greeted(conn)
		if err := d.verdict(); err != nil || through {
			return err
		}
		return errors.New("accepted, and nothing came through")
	}
}

// renegotiate has openssl ask for a new handshake inside an open connection.
func renegotiate(v *live, bad bool) error {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		return &missing{"openssl is not installed", true}
	}
	v.linger()
	v.host.write("peer.crt", v.peer.FullChainPEM())
	v.host.write("peer.key", v.peer.KeyPEM())
	v.host.write("root.pem", v.root.CertPEM())
	ctx := v.l.Context()
	c := exec.CommandContext(ctx, openssl, "s_client", "-connect", v.door.address, "-tls1_2", "-servername", ownName,
		"-cert", v.host.path("peer.crt"), "-key", v.host.path("peer.key"), "-cert_chain", v.host.path("peer.crt"), "-CAfile", v.host.path("root.pem"))
	orders, err := c.StdinPipe() // it stays open: at its end openssl leaves, whatever comes
	v.l.check(err)
	order := "Q\n" // ends the connection
	if bad {
		order = "R\n" // renegotiates
	}
	go func() { _, _ = io.WriteString(orders, order) }()
	out, _ := c.CombinedOutput() // how it ends is in its words
	if err := v.door.verdict(); err != nil {
		return err
	}
	// It is sent an alert, which it does not always read before the end. Were it
	// served, it would stay until ctx ends.
	if strings.Contains(string(out), "RENEGOTIATING") && ctx.Err() == nil {
		return &refusal{noRenegotiate, "the connection ended"}
	}
	return nil
}
