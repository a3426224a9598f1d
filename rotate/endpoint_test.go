package rotate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

func TestEndpointJudgesThePeer(t *testing.T) {
	roles(t, func(t *testing.T, role Role, version uint16) {
		b := newBench(t)
		b.pair(b.leaf())
		b.start()
		e := b.endpoint(EndpointConfig{Role: role, ServerName: "peer.nhs.uk"}, version)
		stranger := testpki.NewRoot(t, testpki.Name("Stranger"))
		past := testpki.Validity(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
		name := testpki.Name("peer.nhs.uk")
		for want, leaf := range map[trust.Reason]*testpki.Leaf{
			"":                  b.sub.Issue(t, name),
			trust.Expired:       b.sub.Issue(t, name, past),
			trust.NotListed:     b.sub.Issue(t, testpki.Name("else.nhs.uk")),
			trust.UnknownIssuer: stranger.Issue(t, name),
		} {
			v := b.visit(e, b.peer(leaf, version))
			err := v.serverErr
			if role == Client {
				err = v.clientErr
			}
			got := trust.ReasonOf(err)
			if got == trust.NameMismatch {
				got = trust.NotListed
			}
			if got != want || v.failed() != (want != "") {
				t.Errorf("reason %q, want %q; client %v, server %v", got, want, v.clientErr, v.serverErr)
			}
		}
		if role == Server {
			nobody := b.peer(b.leaf(), version)
			nobody.Certificates, nobody.GetClientCertificate = nil, nil
			if v := b.visit(e, nobody); v.serverErr == nil {
				t.Error("a client without a certificate was let in")
			}
		}
	})
}

func TestClientAlwaysSendsItsCertificate(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		b := newBench(t)
		own := b.leaf()
		b.pair(own)
		b.start()
		e := b.endpoint(EndpointConfig{Role: Client, ServerName: "peer.nhs.uk"}, version)
		peer := b.peer(b.sub.Issue(t, testpki.Name("peer.nhs.uk")), version)
		peer.ClientCAs = x509.NewCertPool()
		peer.ClientCAs.AddCert(testpki.NewRoot(t, testpki.Name("Stranger")).Cert)
		if v := b.good(e, peer, false); len(v.server.PeerCertificates) == 0 || !v.server.PeerCertificates[0].Equal(own.Cert) {
			t.Error("the certificate was not sent, as no acceptable CA matched")
		}
	})
}

func TestAcceptableCAs(t *testing.T) {
	past := testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))
	both(t, func(t *testing.T, version uint16) {
		b := newBench(t)
		g2 := testpki.NewRoot(t, testpki.Name("Root G2")).SubCA(t, testpki.Name("Authentication G2"))
		dead := b.root.SubCA(t, testpki.Name("Dead"), past)
		b.write("trust.pem", slices.Concat(b.sub.BundlePEM(), g2.BundlePEM(), dead.CertPEM()), 0o644)
		b.pair(b.leaf())
		b.start()
		asked := func(e *Endpoint) (names []string) {
			peer := b.peer(b.leaf(), version)
			leaf := b.sub.Issue(t, testpki.Name("peer.nhs.uk")).TLS()
			peer.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				for _, ca := range []*testpki.Authority{b.root, b.sub, g2, g2.Parent, dead} {
					if slices.ContainsFunc(r.AcceptableCAs, func(raw []byte) bool { return string(raw) == string(ca.Cert.RawSubject) }) {
						names = append(names, ca.Cert.Subject.CommonName)
					}
				}
				return &leaf, nil
			}
			b.good(e, peer, false)
			slices.Sort(names)
			return names
		}
		if got := asked(b.endpoint(EndpointConfig{}, version)); !slices.Equal(got, []string{"Authentication G2", b.sub.Cert.Subject.CommonName}) {
			t.Errorf("acceptable CAs %q, want the unexpired subCAs", got)
		}
		only := []string{pki.Fingerprint(g2.Cert)}
		if got := asked(b.endpoint(EndpointConfig{AcceptableCAs: only}, version)); !slices.Equal(got, []string{"Authentication G2"}) {
			t.Errorf("acceptable CAs %q, want the one named", got)
		}
		e := b.endpoint(EndpointConfig{AcceptableCAs: []string{"Nobody"}}, version)
		if _, err := e.TLS(); err == nil || !strings.Contains(err.Error(), `"Nobody"`) {
			t.Errorf("an unknown acceptable CA: %v", err)
		}
	})
}

func TestEndpointRefusesWhatCannotBe(t *testing.T) {
	b := newBench(t)
	b.start()
	for name, c := range map[string]EndpointConfig{
		"nobody":      {},
		"TLS 1.1":     {Peers: trust.AnyName(), MinVersion: tls.VersionTLS11},
		"maximum 1.1": {Peers: trust.AnyName(), MaxVersion: tls.VersionTLS11},
		"min > max":   {Peers: trust.AnyName(), MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12},
	} {
		if _, err := b.pcs().Endpoint(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestEndpointIsReadyWithItsSlot(t *testing.T) {
	b := newBench(t)
	b.start()
	e := b.endpoint(EndpointConfig{}, 0)
	if _, err := e.TLS(); !errors.Is(err, ErrNotReady) {
		t.Errorf("TLS of an empty slot: %v", err)
	}
	if _, err := e.Accepted(t.Context(), tls.ConnectionState{}); !errors.Is(err, ErrNotReady) {
		t.Errorf("Accepted of an empty slot: %v", err)
	}
	leaf := b.leaf()
	b.pair(leaf)
	b.serves(leaf)
	if c := config(t, e); c.MinVersion != tls.VersionTLS12 || c.MaxVersion != tls.VersionTLS12 {
		t.Errorf("versions %x to %x, want TLS 1.2 alone", c.MinVersion, c.MaxVersion)
	}
	e.Close()
	if _, err := e.TLS(); !errors.Is(err, ErrNotReady) {
		t.Errorf("TLS of a closed endpoint: %v", err)
	}
}

func TestTLSAllocatesNothing(t *testing.T) {
	b := newBench(t)
	b.pair(b.leaf())
	b.start()
	for _, role := range []Role{Server, Client} {
		e := b.endpoint(EndpointConfig{Role: role}, tls.VersionTLS12)
		if n := testing.AllocsPerRun(1000, func() { _, _ = e.TLS() }); n != 0 {
			t.Errorf("role %d: %v allocations for each connection", role, n)
		}
	}
}

// VerifyPeerCertificate is skipped on resumed sessions; one line alone may switch
// the standard check off.
func TestSourceUsesNoVerifyPeerCertificate(t *testing.T) {
	insecure := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
		if err != nil {
			return nil //nolint:nilerr // somebody writes it
		}
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			switch {
			case !ok:
			case id.Name == "VerifyPeerCertificate":
				t.Errorf("%s uses VerifyPeerCertificate", path)
			case id.Name == "InsecureSkipVerify" && filepath.Dir(path) == filepath.Join("..", "rotate"):
				insecure++
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if insecure != 1 {
		t.Errorf("InsecureSkipVerify is set %d times in this package, want once", insecure)
	}
}
