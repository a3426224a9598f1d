package deliver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// A list that revokes the slot's own certificate is delivered all the same: a service
// that refuses that certificate is right to, and must refuse the others on the list too.
func TestOwnCertificateRevoked(t *testing.T) {
	r := newRig(t)
	r.write("sub.crl", r.sub.CRL(t, testpki.Number(1)), 0o644)
	err := r.keeper.Apply(t.Context(), rotate.Plan{
		Environments: []rotate.EnvironmentConfig{{Name: "live", Trust: []string{r.path("trust.pem")}, CRLs: []string{r.path("sub.crl")}, Revocation: trust.Prefer, Poll: 50 * time.Millisecond}},
		Slots:        []rotate.SlotConfig{{Name: "pcs", Environment: "live", Files: rotate.Files{Certificate: r.path("pcs.crt"), Key: r.path("pcs.key")}, Poll: 50 * time.Millisecond, Settle: time.Second}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := newProgram(r, "web")
	p.checksClients()
	r.startWith(r.options(), p.service("web", func(c *config.Service) {
		c.Files = append(c.Files, config.ServiceFile{Format: "crl-pem", Name: "crl.pem", Mode: 0o644})
	}))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	was := r.status("web").Proved.Digest
	own := r.keeper.Slot("pcs").Snapshot().Generation.Identity.Leaf()
	peer := r.sub.Issue(t, testpki.DNS("compromised.thirdparty.nhs.uk"))
	r.write("sub.crl", r.sub.CRL(t, testpki.Number(2), testpki.Revoke(own.SerialNumber), testpki.Revoke(peer.Cert.SerialNumber)), 0o644)
	r.meanwhile("the new list", func() bool { return r.status("web").State != Held }, func() bool {
		st := r.status("web")
		return st.State == InSync && st.Proved.Digest != was
	})
	for _, c := range []*x509.Certificate{own, peer.Cert} {
		if is, err := p.lists(c.SerialNumber); !is || err != nil {
			t.Errorf("%s is on the list that is in place: %v, %v", c.Subject, is, err)
		}
	}
	if n := len(r.told(EventRolledBack)); n != 0 {
		t.Errorf("%d roll backs", n)
	}
	// Nor does a later look take the refusal for a failure.
	for range 2 {
		looked := r.status("web").Looked
		r.meanwhile("another look", func() bool { return r.status("web").State == InSync }, func() bool { return r.status("web").Looked.After(looked) })
	}
}

// lists reports whether a certificate is on the list that is in place.
func (p *program) lists(serial *big.Int) (bool, error) {
	data, err := os.ReadFile(p.dir + "/current/crl.pem")
	if err != nil {
		return false, err
	}
	contents, err := pki.Parse(data, nil)
	if err != nil {
		return false, err
	}
	for _, der := range contents.CRLs {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(serial) == 0 }) {
			return true, nil
		}
	}
	return false, nil
}

// checksClients runs it as one that serves what the slot has, asks for a certificate,
// and takes none that is on the list in place, as Apache, HAProxy and stunnel do.
func (p *program) checksClients() {
	p.Helper()
	var err error
	if p.listener, err = net.Listen("tcp", p.address); err != nil {
		p.Fatal(err)
	}
	conf := &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.ofSlot(), nil },
		VerifyConnection: func(cs tls.ConnectionState) error {
			if is, err := p.lists(cs.PeerCertificates[0].SerialNumber); is || err != nil && !errors.Is(err, os.ErrNotExist) {
				return errors.Join(errors.New("revoked"), err)
			}
			return nil
		}}
	go func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				s := tls.Server(c, conf)
				_ = s.Handshake()
				_, _ = s.Read(make([]byte, 1))
			}()
		}
	}(p.listener)
}
