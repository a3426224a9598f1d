package main

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

func pool(ca *testpki.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

// until waits until ok holds.
func until(l *lab, what string, ok func() bool) {
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			l.Fatalf("waited in vain until %s", what)
		}
	}
}

// Tickets that outlive what they were given for, with TLS 1.2 and 1.3.
func ticketCases() []liveCase {
	var out []liveCase
	for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
		speak := func(v *live) { v.config.MinVersion, v.config.MaxVersion = version, version }
		two := func(v *live) { speak(v); twoRoots(v) }
		out = append(out,
			liveCase{name + ": a ticket of an older generation", fullHandshake, speak, again(func(v *live) {
				next := v.sub.Issue(v.l, testpki.DNS(ownName))
				v.host.write("own.key", next.KeyPEM())
				v.host.write("own.crt", next.FullChainPEM())
				v.l.check(v.host.keeper.Rotate(v.l.Context(), "own", rotate.Order{}))
			})},
			liveCase{name + ": a ticket of another tunnel", fullHandshake, speak, again(func(v *live) { v.door = v.open(v.config) })},
			liveCase{name + ": a ticket after revocation", trust.Revoked, speak, again((*live).revoke)},
			liveCase{name + ": a ticket after its CA went", trust.UnknownIssuer, two, again(func(v *live) { v.distrust() })},
			liveCase{name + ": a ticket after the peer was taken off the list", trust.NotListed, speak, again(func(v *live) {
				v.config.Peers = trust.Names("somebody.else.nhs.uk")
				v.door = v.open(v.config)
			})},
		)
	}
	slices.SortFunc(out, func(a, b liveCase) int { return slices.Compare([]byte(a.name), []byte(b.name)) })
	return out
}

// again connects twice with one session cache; between, with bad, change happens.
func again(change func(*live)) func(*live, bool) error {
	return func(v *live, bad bool) error {
		if err := v.try(v.client); err != nil {
			return err
		}
		if bad {
			change(v)
		}
		resumed, err := v.call(v.door, v.client)
		if err == nil && !resumed {
			return &refusal{fullHandshake, "the session was not resumed"}
		}
		return err
	}
}

// twoRoots has the peer below a root of its own, which the host trusts as well.
func twoRoots(v *live) {
	v.second = testpki.NewRoot(v.l, testpki.Name("Second Root"))
	v.peer = v.second.Issue(v.l, testpki.DNS(peerName))
	v.trusted = slices.Concat(v.trusted, v.second.CertPEM())
	v.config.Revocation = trust.Off
}

// distrust takes what twoRoots trusts away, on word.
func (v *live) distrust() {
	v.host.write("trust.pem", v.sub.BundlePEM())
	v.l.check(v.host.keeper.Accept(v.l.Context(), "test", rotate.Order{}))
}

// Files that turn bad while peers come and go.
func materialCases() []liveCase {
	list := func(name string, of func(*live) []byte) func(*live) {
		return func(v *live) { v.host.write(name, of(v)) }
	}
	return []liveCase{
		{"a list of the CA with an older number", trust.Revoked, nil, func(v *live, bad bool) error {
			v.host.write("sub.crl", v.sub.CRL(v.l, testpki.Number(50), testpki.Revoke(v.peer.Cert.SerialNumber)))
			v.host.refresh()
			next := testpki.Number(51)
			if bad {
				next = testpki.Number(49)
			}
			v.host.write("sub.crl", v.sub.CRL(v.l, next))
			v.host.refresh()
			return v.try(v.client)
		}},
		{"a list of the CA with an older date", trust.Revoked, nil, func(v *live, bad bool) error {
			v.host.write("sub.crl", v.sub.CRL(v.l, testpki.Number(50), testpki.ThisUpdate(time.Now().Add(-30*time.Minute)), testpki.Revoke(v.peer.Cert.SerialNumber)))
			v.host.refresh()
			at := time.Now().Add(-20 * time.Minute)
			if bad {
				at = time.Now().Add(-40 * time.Minute)
			}
			v.host.write("sub.crl", v.sub.CRL(v.l, testpki.Number(51), testpki.ThisUpdate(at)))
			v.host.refresh()
			return v.try(v.client)
		}},
		{"half a bundle", "source_incoherent", nil, material(list("trust.pem", func(v *live) []byte { return v.trusted[:len(v.trusted)-40] }))},
		{"an empty bundle", "source_incoherent", nil, material(list("trust.pem", func(*live) []byte { return nil }))},
		{"a bundle that lost its subCA", rotate.RuleTrustShrink, nil, material(list("trust.pem", func(v *live) []byte { return v.root.CertPEM() }))},
		{"a leaf among the roots", trust.PathLength, nil, material(list("trust.pem", func(v *live) []byte { return slices.Concat(v.trusted, v.peer.CertPEM()) }))},
		{"a key among the roots", trust.Malformed, nil, material(list("trust.pem", func(v *live) []byte { return slices.Concat(v.trusted, v.peer.KeyPEM()) }))},
		{"the list of a stranger in the file", trust.CRLInvalid, nil, material(list("sub.crl", func(v *live) []byte {
			return testpki.NewRoot(v.l, testpki.Name("Foreign Root")).CRL(v.l)
		}))},
		{"half a list in the file", "source_incoherent", nil, material(list("sub.crl", func(v *live) []byte { der := v.sub.CRL(v.l); return der[:len(der)-20] }))},
	}
}

// material spoils a file. The refusal is the environment's, and the peer that is
// good must be served all the same, by what is in force.
func material(spoil func(*live)) func(*live, bool) error {
	return func(v *live, bad bool) error {
		if bad {
			spoil(v)
		} else {
			v.host.write("trust.pem", slices.Concat(v.trusted, []byte("\n")))
		}
		v.host.refresh()
		if err := v.try(v.client); err != nil {
			v.l.Fatalf("a good peer is refused: %v", err)
		}
		if r := v.host.keeper.Environments()[0].Status().Refusal; r != nil {
			return &refusal{trust.Reason(r.Reason), r.Error()}
		}
		return nil
	}
}
