package sandbox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// fakeCRLs are the CRLs of the fake daemon: it asks every few milliseconds for those
// that it has heard of, and ends the connections of whoever is on one.
type fakeCRLs struct {
	mode  string
	trust *fakeTrust

	mu      sync.Mutex
	lists   map[string]*x509.RevocationList // by address; nil: not had yet
	revoked map[string]bool                 // serial numbers
	open    map[*fakeConn]bool
}

type fakeConn struct {
	serial string
	ends   [2]net.Conn
}

var errFakeRevoked = errors.New("revoked")

func newFakeCRLs(mode string, trust *fakeTrust) *fakeCRLs {
	return &fakeCRLs{mode: mode, trust: trust, lists: map[string]*x509.RevocationList{}, revoked: map[string]bool{}, open: map[*fakeConn]bool{}}
}

func (f *fakeCRLs) run(ctx context.Context) {
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Timeout: 200 * time.Millisecond}
	tags := map[string]string{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.trust.mu.Lock()
		known := f.trust.inForce
		f.trust.mu.Unlock()
		f.mu.Lock()
		for _, c := range known {
			f.hear(c)
		}
		var addresses []string
		for address := range f.lists {
			addresses = append(addresses, address)
		}
		f.mu.Unlock()
		for _, address := range addresses {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
			if err != nil || f.mode == fakeDeaf {
				continue
			}
			request.Header.Set("If-None-Match", tags[address])
			response, err := client.Do(request)
			if err != nil {
				continue
			}
			der, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if crl, err := x509.ParseRevocationList(der); err == nil {
				tags[address] = response.Header.Get("ETag")
				f.take(address, crl)
			}
		}
	}
}

// take puts a list in force and ends connections.
func (f *fakeCRLs) take(address string, crl *x509.RevocationList) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.lists[address]; last != nil && crl.Number.Cmp(last.Number) <= 0 && f.mode != fakeSimple {
		return
	}
	f.lists[address] = crl
	next := map[string]bool{}
	for _, l := range f.lists {
		if l == nil {
			continue
		}
		for _, e := range l.RevokedCertificateEntries {
			next[e.SerialNumber.Text(16)] = true
		}
	}
	news := len(next) > len(f.revoked)
	f.revoked = next
	for c := range f.open {
		if f.mode != fakeLazy && f.revoked[c.serial] || f.mode == fakeWild && news {
			c.ends[0].Close()
			c.ends[1].Close()
		}
	}
}

// hear makes the lists known that a certificate names.
func (f *fakeCRLs) hear(c *x509.Certificate) {
	for _, address := range c.CRLDistributionPoints {
		if _, ok := f.lists[address]; !ok {
			f.lists[address] = nil
		}
	}
}

// judging adds revocation to what a configuration demands of a peer.
func (f *fakeCRLs) judging(config *tls.Config) *tls.Config {
	config = config.Clone()
	inner := config.VerifyConnection
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := inner(cs); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		leaf := cs.PeerCertificates[0]
		f.hear(leaf)
		if f.revoked[leaf.SerialNumber.Text(16)] && (f.mode != fakeTrusting || !cs.DidResume) {
			return errFakeRevoked
		}
		return nil
	}
	return config
}

// admit finishes the handshake and enters the connection.
func (f *fakeCRLs) admit(near, far net.Conn) (done func(), err error) {
	secure, ok := near.(*tls.Conn)
	if !ok {
		secure = far.(*tls.Conn)
	}
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	c := &fakeConn{serial: secure.ConnectionState().PeerCertificates[0].SerialNumber.Text(16), ends: [2]net.Conn{near, far}}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[c] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.open, c)
	}, nil
}
