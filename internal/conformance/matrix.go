package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// matrixCase is a client of NHS's provider suite (SPINE.md, 2). On a resumed
// connection it is good first, and turn makes it what it is.
type matrixCase struct {
	name  string
	want  trust.Reason
	leaf  func(*live) *testpki.Leaf // on a fresh connection; nil presents none
	turn  func(*live)               // nil: there is nothing to resume
	short bool                      // the client's certificate ends within seconds
}

func matrixCases() []matrixCase {
	valid := func(v *live) *testpki.Leaf { return v.peer }
	ended := testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	return []matrixCase{
		{"valid", "", valid, func(*live) {}, false},
		{"expired", trust.Expired, func(v *live) *testpki.Leaf { return v.issue(v.sub, peerName, ended) },
			func(v *live) { time.Sleep(time.Until(v.peer.Cert.NotAfter) + time.Millisecond) }, true},
		{"wrong FQDN", trust.NotListed, func(v *live) *testpki.Leaf { return v.issue(v.sub, "somebody.else.nhs.uk") }, func(v *live) {
			v.config.Peers = trust.Names("somebody.else.nhs.uk")
			v.l.check(v.door.tunnel.Update(tunnel.Config{Direction: tunnel.Inbound, Endpoint: v.host.endpoint(v.config),
				Listen: []tunnel.Listen{{Network: "tcp", Address: "127.0.0.1:0"}}, Forward: tunnel.Forward{Network: "tcp", Address: v.backend}}))
		}, false},
		{"wrong authority", trust.UnknownIssuer, func(v *live) *testpki.Leaf {
			return v.issue(testpki.NewRoot(v.l, testpki.Name("Foreign Root")).SubCA(v.l, testpki.Name("Foreign SubCA")), peerName)
		}, func(v *live) { v.distrust() }, false},
		{"revoked", trust.Revoked, func(v *live) *testpki.Leaf { v.revoke(); return v.peer }, (*live).revoke, false},
		{"missing", trust.NoCertificate, nil, nil, false},
	}
}

// issue issues a client's certificate as the profile has it: in G1 without SAN.
func (v *live) issue(ca *testpki.Authority, name string, o ...testpki.Option) *testpki.Leaf {
	o = append(o, testpki.Name(name), testpki.DNS(name), testpki.KeyType("rsa-2048"))
	if v.g1 {
		o = append(o, testpki.NoSAN())
	}
	return ca.Issue(v.l, o...)
}

// nullMD5 is TLS_RSA_WITH_NULL_MD5, which crypto/tls does not even name.
const nullMD5 = 0x0001

func providerMatrix(l *lab) ([]outcome, error) {
	var out []outcome
	for _, profile := range []trust.Profile{trust.NHSG1, trust.NHSG2} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			setup := matrixSetup(profile, version)
			where := fmt.Sprintf("%s, %s, ", profile, tls.VersionName(version))
			for _, k := range matrixCases() {
				out = append(out, matrixOutcome(l, where+"fresh: "+k.name, k.want, setup, func(v *live) error {
					return v.try(v.fresh(k))
				}))
				if k.turn == nil {
					continue
				}
				resumed := func(v *live) {
					setup(v)
					if k.name == "wrong authority" {
						twoRoots(v)
						v.peer = v.issue(v.second, peerName)
					}
					if k.short {
						v.peer = v.issue(v.sub, peerName, testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(2*time.Second)))
					}
				}
				out = append(out, matrixOutcome(l, where+"resumed: "+k.name, k.want, resumed, func(v *live) error {
					return again(k.turn)(v, true)
				}))
			}
		}
		for _, suite := range []uint16{nullMD5, tls.TLS_RSA_WITH_AES_128_CBC_SHA256} {
			name := map[uint16]string{nullMD5: "NULL-MD5"}[suite]
			out = append(out, matrixOutcome(l, string(profile)+", "+cmp.Or(name, "AES128-SHA256"), trust.Protocol, matrixSetup(profile, tls.VersionTLS12), func(v *live) error {
				if !v.answered(suite, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) || reasonOf(v.door.verdict()) != trust.Protocol {
					v.l.Fatalf("not even a good suite is taken")
				}
				if v.answered(suite) {
					return nil
				}
				return v.door.verdict()
			}))
		}
	}
	published, err := publishedMatrix(l)
	return append(out, published...), err
}

func matrixOutcome(l *lab, name string, want trust.Reason, setup func(*live), try func(*live) error) outcome {
	o := outcome{name: name, want: want}
	err := l.scope(func() error {
		v := newLive(l)
		setup(v)
		v.start()
		o.got = try(v)
		return nil
	})
	if err != nil {
		l.Errorf("%s: %v", name, err)
	}
	return o
}

func matrixSetup(profile trust.Profile, version uint16) func(*live) {
	return func(v *live) {
		v.profile, v.g1 = profile, profile == trust.NHSG1
		v.own = v.sub.Issue(v.l, testpki.DNS(ownName), testpki.KeyType("rsa-2048"))
		v.peer = v.issue(v.sub, peerName)
		v.config.MinVersion, v.config.MaxVersion = version, version
	}
}

// fresh is the client of k.
func (v *live) fresh(k matrixCase) *tls.Config {
	if k.leaf != nil {
		return v.as(k.leaf(v))
	}
	v.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	return v.client
}

// publishedMatrix judges the two endpoint certificates that were published by the
// bundles that were, at a time when they were valid.
func publishedMatrix(l *lab) ([]outcome, error) {
	const (
		live, ptl          = "live-bundle.pem", "int-bundle.pem"
		liveLeaf, ptlLeaf  = "leaf-g1-live-bars-proxy.pem", "leaf-g1-int-api.pem"
		livePeer, ptlPeer  = "bars-proxy.spineservices.nhs.uk", "int.api.service.nhs.uk"
		naRevoked          = "a list of the NHS's CAs can only be made by them"
		required, unlisted = trust.Require, trust.Off
	)
	then, today := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	dir, err := shared("spine", "ca")
	if err != nil {
		return []outcome{{name: "published certificates", na: err.Error()}}, nil //nolint:nilerr // said as what does not apply
	}
	load := func(name string) []byte {
		data, err := os.ReadFile(dir + "/" + name)
		l.check(err)
		return data
	}
	var out []outcome
	for _, k := range []struct {
		name, bundle, leaf, peer string
		mode                     trust.Mode
		at                       time.Time
		want                     trust.Reason
	}{
		{"live, valid", live, liveLeaf, livePeer, unlisted, then, ""},
		{"INT, valid", ptl, ptlLeaf, ptlPeer, unlisted, then, ""},
		{"live, expired", live, liveLeaf, livePeer, unlisted, today, trust.Expired},
		{"INT, expired", ptl, ptlLeaf, ptlPeer, unlisted, today, trust.Expired},
		{"live, wrong FQDN", live, liveLeaf, "proxy.national.ncrs.nhs.uk", unlisted, then, trust.NotListed},
		{"INT, wrong FQDN", ptl, ptlLeaf, livePeer, unlisted, then, trust.NotListed},
		{"live in INT", ptl, liveLeaf, livePeer, unlisted, then, trust.WrongEnvironment},
		{"INT in live", live, ptlLeaf, ptlPeer, unlisted, then, trust.WrongEnvironment},
		{"live, no list at hand", live, liveLeaf, livePeer, required, then, trust.CRLUnavailable},
		{"INT, no list at hand", ptl, ptlLeaf, ptlPeer, required, then, trust.CRLUnavailable},
		{"live, missing", live, "", livePeer, unlisted, then, trust.NoCertificate},
	} {
		bundle, err := trust.ParseBundle(trust.Source{Name: k.bundle, Data: load(k.bundle)})
		l.check(err)
		var chain []*x509.Certificate
		if k.leaf != "" {
			chain, err = pki.ParseCertificates(load(k.leaf))
			l.check(err)
		}
		s, err := trust.NewState(trust.StateConfig{Bundle: bundle, Profile: trust.NHSG1, NameFromCN: true, Revocation: k.mode})
		l.check(err)
		r := trust.Request{Purpose: trust.ClientAuth, Peers: trust.Names(k.peer), Now: k.at}
		_, got := s.Verify(chain, r)
		if _, again := s.Verify(chain, r); reasonOf(again) != reasonOf(got) { // as on a resumed connection
			l.Errorf("%s: first %v, then %v", k.name, got, again)
		}
		out = append(out, outcome{name: "published " + k.name, want: k.want, got: got})
	}
	return append(out, outcome{name: "published live, revoked", na: naRevoked}, outcome{name: "published INT, revoked", na: naRevoked}), nil
}
