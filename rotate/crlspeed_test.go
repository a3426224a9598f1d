package rotate

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// BenchmarkLanding is what a new list costs the run loop, and a review each open
// connection, with 10,000 slots and 1,000 partitions of one CA.
func BenchmarkLanding(b *testing.B) {
	const slots, partitions = 10_000, 1_000
	root := testpki.NewRoot(b)
	sub := root.SubCA(b)
	bundle, err := trust.ParseBundle(trust.Source{Name: "trust.pem", Data: sub.BundlePEM()})
	if err != nil {
		b.Fatal(err)
	}
	list := func(i int) *crlList {
		address := fmt.Sprintf("http://crl.nhs.uk/%d.crl", i)
		crl, err := trust.ReadCRL(sub.CRL(b, testpki.IDP(address)), address, bundle.Certificates())
		if err != nil {
			b.Fatal(err)
		}
		return &crlList{address: address, crl: crl, origin: CRLOfPeer, asked: true}
	}
	e := newEnvironment(New(Options{}), EnvironmentConfig{Name: "test"})
	for i := range partitions {
		l := list(i)
		e.lists[l.address] = l
	}
	state, err := trust.NewState(trust.StateConfig{Environment: "test", Profile: trust.NHSG2, Bundle: bundle, Revocation: trust.Require})
	if err != nil {
		b.Fatal(err)
	}
	e.state.Store(state.WithCRLs(e.allCRLs(bundle), 1))
	e.sequence = 1
	leaf := sub.Issue(b, testpki.Name("pcs.nhs.uk"), testpki.CDP("http://crl.nhs.uk/7.crl"))
	g, now := &Generation{Identity: identity(b, leaf)}, time.Now()
	for i := range slots {
		s := newSlot(SlotConfig{Name: fmt.Sprint(i)})
		s.env = e
		s.swap(g, e.state.Load(), now)
		e.keeper.slots[s.name] = s
	}
	again := []*crlList{list(7), list(7)}
	b.Run("publish", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			e.lists[again[0].address] = again[i%2]
			e.publishCRLs(e.keeper, now)
		}
	})
	b.Run("review", func(b *testing.B) {
		chain := append([]*x509.Certificate{leaf.Cert}, leaf.Chain...)
		r := trust.Request{Purpose: trust.ClientAuth, Peers: trust.AnyName(), Revocation: trust.Prefer, Now: now}
		v, err := e.state.Load().Verify(chain, r)
		if err != nil {
			b.Fatal(err)
		}
		for i := 0; b.Loop(); i++ {
			e.lists[again[0].address] = again[i%2]
			e.sequence++
			next := e.state.Load().WithCRLs(e.allCRLs(bundle), e.sequence)
			for range slots {
				if _, err := next.Review(chain, v, r, false); err != nil {
					b.Fatal(err)
				}
			}
			e.state.Store(next)
			if v, err = next.Review(chain, v, r, false); err != nil {
				b.Fatal(err)
			}
		}
	})
}
