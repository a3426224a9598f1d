package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// tlsService serves a leaf until the test ends. A client must show a certificate if asks.
func tlsService(w *ward, leaf *testpki.Leaf, asks bool) string {
	w.t.Helper()
	c := &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}, MaxVersion: tls.VersionTLS12}
	if asks {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		c.ClientCAs.AddCert(w.root.Cert)
		c.ClientCAs.AddCert(w.sub.Cert)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = tls.Server(conn, c).HandshakeContext(w.t.Context())
			}()
		}
	}()
	return l.Addr().String()
}

// TestServiceProbe: what a service serves, as the daemon sees it. The identity of the slot is shown to it.
func TestServiceProbe(t *testing.T) {
	w := newWard(t)
	was, stranger := w.issue(fqdn), w.issue("stranger.nhs.uk")
	at := tlsService(w, w.leaf, true)
	trustOnly := []config.ServiceFile{{Format: "trust-pem", Name: "ca.pem"}}
	leaf := []config.ServiceFile{{Format: "combined", Name: "a.pem"}}
	none := w.deadAddress()
	plain := w.listen()
	for _, tc := range []struct {
		name, address string
		state         deliver.State
		proved        *testpki.Leaf
		files         []config.ServiceFile
		want          string
	}{
		{"proved", at, deliver.InSync, w.leaf, leaf, `ok SERVICE service nginx: ` + at + ` serves what was proved, until 20`},
		{"proved since", at, deliver.InSync, was, leaf, `ok SERVICE service nginx: ` + at + ` serves what was proved, until 20`},
		{"the one that is held", at, deliver.Held, was, leaf, `fail SERVICE service nginx: ` + at + ` serves "CN=.*" \(serial [0-9a-f]+\), which is not what was proved`},
		{"the one before", tlsService(w, was, false), deliver.Held, was, leaf, `ok SERVICE service nginx: .* serves what was proved`},
		{"another", tlsService(w, stranger, false), deliver.InSync, w.leaf, leaf, `fail SERVICE service nginx: .* serves .*stranger.nhs.uk.*, which is not what was proved`},
		{"another, while it is delivered", tlsService(w, was, false), deliver.Delivering, stranger, leaf, `ok SERVICE service nginx: .* answers; what it should serve is being delivered`},
		{"its own", tlsService(w, stranger, false), deliver.InSync, w.leaf, trustOnly, `ok SERVICE service nginx: .* answers; it has a certificate of its own`},
		{"nobody there", none, deliver.InSync, w.leaf, leaf, `fail SERVICE service nginx: connect to ` + none + `: .*refused`},
		{"no TLS there", plain, deliver.InSync, w.leaf, leaf, `fail SERVICE service nginx: handshake with ` + plain},
		{"no daemon", none, "", w.leaf, leaf, ``},
	} {
		later(w, func(in *Inside) {
			c := config.Service{Name: "nginx", Slot: "pcs", Files: tc.files, Probes: []config.Probe{{Address: tc.address, Protocol: config.ProbeTLS, Stable: 1, Within: long}}}
			r := &report{code: Service}
			serviceProbe(t.Context(), served{Inside: *in, service: c, stands: deliver.Status{State: tc.state, Proved: deliver.Version{Leaf: pki.Fingerprint(tc.proved.Cert)}}}, r)
			if tc.want == "" && len(r.lines) == 0 {
				return
			}
			if len(r.lines) != 1 || len(matching(r.lines, tc.want)) != 1 || tc.want == "" || strings.HasPrefix(tc.want, "fail") && r.lines[0].Hint == "" {
				t.Errorf("%s:\n%swant %s", tc.name, text(r.lines), tc.want)
			}
		})
		w.examine()
	}
}

// TestServicesOfDaemon: what the daemon hands over is what is examined, in its section.
func TestServicesOfDaemon(t *testing.T) {
	w := newWard(t)
	later(w, func(in *Inside) {
		in.Services = []deliver.Status{{Config: config.Service{Name: "nginx", Slot: "pcs", Directory: "/nonexistent", Reload: config.Reload{Kind: config.ReloadNone}}, State: deliver.InSync}}
	})
	lines := w.examine()
	if n := len(matching(lines, "(ok|warn|fail) SERVICE service nginx")); n != 3 || lines[len(lines)-1].Code != Service {
		t.Errorf("%d lines:\n%s", n, text(lines))
	}
}
