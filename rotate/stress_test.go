package rotate

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// Readers use what the slot serves while it rotates 500 times and its trust
// changes all the while.
func TestNeverHalfOfTwoGenerations(t *testing.T) {
	rotations := 500
	if testing.Short() {
		rotations = 50
	}
	b := newBench(t)
	leaves := make([]*testpki.Leaf, rotations)
	known := map[string]bool{}
	for i := range leaves {
		leaves[i] = b.leaf()
		known[string(leaves[i].Cert.Raw)] = true
	}
	b.pair(leaves[0])
	b.start()
	server := b.endpoint(EndpointConfig{}, tls.VersionTLS12)
	client := b.endpoint(EndpointConfig{Role: Client, ServerName: "peer.nhs.uk"}, tls.VersionTLS13)
	peer := b.sub.Issue(t, testpki.Name("peer.nhs.uk"))

	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var looks, handshakes atomic.Int64
	for range 2 {
		group.Go(func() {
			var r reader
			for ctx.Err() == nil {
				if err := r.look(b.pcs(), server, client); err != nil {
					t.Error(err)
					return
				}
				looks.Add(1)
			}
		})
	}
	group.Go(func() {
		for ctx.Err() == nil {
			for _, e := range []*Endpoint{server, client} {
				v := b.visit(e, b.peer(peer, e.config.MinVersion))
				if v.failed() || !known[string(shown(v, e.config.Role))] {
					t.Errorf("handshake: client %v, server %v", v.clientErr, v.serverErr)
					return
				}
				handshakes.Add(1)
			}
		}
	})
	group.Go(func() { // endpoints come and go
		for ctx.Err() == nil {
			e, err := b.pcs().Endpoint(EndpointConfig{Peers: trust.AnyName()})
			if err != nil {
				t.Error(err)
				return
			}
			e.Close()
			time.Sleep(time.Millisecond)
		}
	})
	group.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			b.put("trust.pem", append(fmt.Appendf(nil, "%d\n", i), b.sub.BundlePEM()...), 0o644)
			time.Sleep(3 * time.Millisecond)
		}
	})
	for _, l := range leaves[1:] {
		b.pair(l)
		b.serves(l)
	}
	stop()
	group.Wait()
	t.Logf("%d looks, %d handshakes, %d states of trust", looks.Load(), handshakes.Load(), b.pcs().Snapshot().Trust.Sequence())
	if got := b.count(EventRotated); got != rotations {
		t.Errorf("rotated %d times, want %d", got, rotations)
	}
}

// reader remembers what it saw, as nothing may go backward.
type reader struct{ sequence, number uint64 }

func (r *reader) look(s *Slot, server, client *Endpoint) error {
	snap := s.Snapshot()
	id := snap.Generation.Identity
	if !id.Signer().Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(id.Leaf().PublicKey) {
		return fmt.Errorf("the key of generation %d is not for its certificate", snap.Generation.Number)
	}
	if seq := snap.Trust.Sequence(); seq < r.sequence {
		return fmt.Errorf("trust went back from %d to %d", r.sequence, seq)
	}
	if snap.Generation.Number < r.number {
		return fmt.Errorf("generation went back from %d to %d", r.number, snap.Generation.Number)
	}
	r.sequence, r.number = snap.Trust.Sequence(), snap.Generation.Number
	if c := snap.configs[server]; !c.config.Certificates[0].Leaf.Equal(id.Leaf()) || c.config.Certificates[0].PrivateKey != id.Signer() {
		return fmt.Errorf("the server configuration of generation %d is of another", snap.Generation.Number)
	}
	own, err := snap.configs[client].config.GetClientCertificate(nil)
	if err != nil || !own.Leaf.Equal(id.Leaf()) {
		return fmt.Errorf("the client configuration of generation %d is of another: %w", snap.Generation.Number, err)
	}
	return nil
}
