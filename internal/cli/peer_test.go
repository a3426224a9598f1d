package cli

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// peerPKI is what both sides of a handshake need, as files.
type peerPKI struct {
	dir    string
	server *testpki.Leaf
	root   *testpki.Authority
}

func (p *peerPKI) file(name string) string { return filepath.Join(p.dir, name) }

func newPeerPKI(t *testing.T) *peerPKI {
	t.Helper()
	p := &peerPKI{dir: t.TempDir(), root: testpki.NewRoot(t, testpki.Name("Peer Root"))}
	sub := p.root.SubCA(t, testpki.Name("Peer Authentication"))
	p.server = sub.Issue(t, testpki.Name("server.nhs.uk"), testpki.NoSAN(), testpki.KeyType("rsa-2048"))
	client := sub.Issue(t, testpki.DNS("client.nhs.uk"))
	stranger := testpki.NewRoot(t, testpki.Name("Stranger")).Issue(t, testpki.DNS("stranger.nhs.uk"))
	for name, data := range map[string][]byte{
		"server.pem": p.server.CertPEM(), "server.key": p.server.KeyPEM(), "sub.pem": p.server.ChainPEM(), "bundle.pem": sub.BundlePEM(),
		"root.pem": p.root.CertPEM(), "client.pem": client.FullChainPEM(), "client.key": client.KeyPEM(),
		"stranger.pem": stranger.CertPEM(), "stranger.key": stranger.KeyPEM(),
	} {
		testpki.WriteFile(t, p.file(name), data, 0o600)
	}
	return p
}

// serveOpenSSL starts openssl s_server and returns its address.
func serveOpenSSL(t *testing.T, p *peerPKI, args ...string) string {
	t.Helper()
	path := testprogram.Need(t, "openssl")
	args = append([]string{"s_server", "-accept", "127.0.0.1:0", "-www", "-cert", p.file("server.pem"), "-key", p.file("server.key"),
		"-cert_chain", p.file("sub.pem")}, args...)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if a, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
				address <- a
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	t.Cleanup(func() { cancel(); <-read; _ = cmd.Wait() })
	select {
	case a := <-address:
		return a
	case <-read:
		t.Fatal("openssl s_server ended")
	case <-time.After(20 * time.Second):
		t.Fatal("openssl s_server does not listen")
	}
	return ""
}

func TestVerifyOpenSSL(t *testing.T) {
	p := newPeerPKI(t)
	demand := []string{"-Verify", "2", "-verify_return_error", "-CAfile", p.file("bundle.pem")}
	client := []string{"--cert", p.file("client.pem"), "--key", p.file("client.key")}
	stranger := []string{"--cert", p.file("stranger.pem"), "--key", p.file("stranger.key")}
	tests := []struct {
		name    string
		server  []string
		args    []string
		asks    bool
		refused bool
	}{
		{"asks for nothing", nil, nil, false, false},
		{"asks and gets nothing", demand, nil, true, true},
		{"asks and gets ours", demand, client, true, false},
		{"asks and gets a stranger's", demand, stranger, true, true},
		{"asks, but does not insist", []string{"-verify", "2", "-CAfile", p.file("bundle.pem")}, nil, true, false},
	}
	for flag, version := range map[string]string{"-tls1_2": "TLS 1.2", "-tls1_3": "TLS 1.3"} {
		for _, tt := range tests {
			t.Run(version+" "+tt.name, func(t *testing.T) {
				address := serveOpenSSL(t, p, append([]string{flag}, tt.server...)...)
				args := append([]string{"--trust", p.file("root.pem"), "--name", "server.nhs.uk", address}, tt.args...)
				exit, r, fault := verifyJSON(t, args...)
				if exit != exitDone || r.Verdict != verdictAccepted || r.Name.Source != "cn" || len(r.Chain) != 3 || r.Purpose != "server" {
					t.Fatalf("exit %d, %+v, %+v", exit, r, fault)
				}
				if r.Peer.Version != version || r.Peer.Suite == "" || r.Peer.Asks != tt.asks || (r.Peer.Refusal != "") != tt.refused {
					t.Errorf("peer %+v, want asks %v, refuses us %v", r.Peer, tt.asks, tt.refused)
				}
				if want := "CN=Peer Authentication"; tt.asks && (len(r.Peer.AcceptableCAs) != 2 || !strings.Contains(strings.Join(r.Peer.AcceptableCAs, " "), want)) {
					t.Errorf("acceptable CAs %q, want %q among them", r.Peer.AcceptableCAs, want)
				}
				_, out, _ := run(t, append([]string{"verify"}, args...)...)
				if !strings.HasPrefix(out, "accepted\n") || !strings.Contains(out, version+", TLS_") || strings.Contains(out, "it refused us") != tt.refused {
					t.Errorf("text:\n%s", out)
				}
			})
		}
	}
	t.Run("refused", func(t *testing.T) {
		address := serveOpenSSL(t, p, demand...)
		for reason, args := range map[string][]string{
			"unknown_issuer": {"--trust", p.file("stranger.ca"), "--name", "server.nhs.uk"},
			"name_mismatch":  {"--trust", p.file("root.pem")}, // the expected name is the address
			"expired":        {"--trust", p.file("root.pem"), "--name", "server.nhs.uk", "--at", "2999-01-01"},
		} {
			testpki.WriteFile(t, p.file("stranger.ca"), testpki.NewRoot(t).CertPEM(), 0o600)
			exit, r, fault := verifyJSON(t, append(args, address)...)
			if exit != exitJudged || r.Reason != reason || r.Peer == nil || len(r.Chain) != 2 || fault.Hint == "" {
				t.Errorf("%s: exit %d, %+v, %+v", reason, exit, r, fault)
			}
		}
	})
	t.Run("old versions only", func(t *testing.T) {
		address := serveOpenSSL(t, p, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
		exit, r, fault := verifyJSON(t, "--trust", p.file("root.pem"), address)
		if exit != exitFailed || r.Verdict != verdictNone || fault.Code != "protocol" {
			t.Errorf("exit %d, %+v, %+v", exit, r, fault)
		}
	})
}

// serveOnce answers connections with what handle does to each.
func serveOnce(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// TestVerifyPeerCloses has a TLS 1.3 peer that ends every connection in order: to
// who has shown a certificate that is no refusal.
func TestVerifyPeerCloses(t *testing.T) {
	p := newPeerPKI(t)
	address := serveOnce(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { chain := p.server.TLS(); return &chain, nil }})
		_ = s.Handshake()
		_ = s.Close()
	})
	for want, args := range map[string][]string{
		"": {"--cert", p.file("client.pem"), "--key", p.file("client.key")},
		"it closed the connection, and did not say why": nil,
	} {
		exit, r, fault := verifyJSON(t, append(args, "--trust", p.file("root.pem"), "--name", "server.nhs.uk", address)...)
		if exit != exitDone || r.Peer.Refusal != want {
			t.Errorf("exit %d, peer %+v, %+v; want refusal %q", exit, r.Peer, fault, want)
		}
	}
}

// TestVerifyStolenChain has a peer that shows a chain whose key it does not
// have: the chain is good, but not the peer's, so that there is nothing to accept.
func TestVerifyStolenChain(t *testing.T) {
	p := newPeerPKI(t)
	keys := map[string]crypto.Signer{
		"another key":      testpki.NewKey(t, "rsa-2048"),
		"hangs up in time": mute{p.server.Key},
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, ask := range []tls.ClientAuthType{tls.NoClientCert, tls.RequireAnyClientCert} {
			for name, key := range keys {
				chain := p.server.TLS()
				chain.PrivateKey, chain.Leaf = key, nil
				address := serveOnce(t, func(c net.Conn) {
					_ = tls.Server(c, &tls.Config{MinVersion: version, MaxVersion: version, ClientAuth: ask,
						GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &chain, nil }}).Handshake()
				})
				exit, r, fault := verifyJSON(t, "--trust", p.file("root.pem"), "--name", "server.nhs.uk", address)
				if exit != exitFailed || r.Verdict != verdictNone || r.Reason != "protocol" || fault.Code != "protocol" {
					t.Errorf("%s, %v, %s: exit %d, %+v, %+v", tls.VersionName(version), ask, name, exit, r, fault)
				}
			}
		}
	}
}

// mute is a key that signs nothing: its server ends the handshake with an alert
// after it has shown the chain.
type mute struct{ crypto.Signer }

func (mute) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no key")
}

func TestVerifyNoTLS(t *testing.T) {
	p := newPeerPKI(t)
	tests := map[string]struct {
		handle func(net.Conn)
		code   string
	}{
		"plain text":      {func(c net.Conn) { _, _ = c.Write([]byte("220 mail ready\r\n")) }, "protocol"},
		"closes at once":  {func(net.Conn) {}, "protocol"},
		"says nothing":    {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "timeout"},
		"drops half-way":  {func(c net.Conn) { _, _ = c.Read(make([]byte, 64)) }, "protocol"},
		"an alert at all": {func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40}) }, "protocol"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			exit, r, fault := verifyJSON(t, "--timeout", "500ms", "--trust", p.file("root.pem"), serveOnce(t, tt.handle))
			if exit != exitFailed || r.Verdict != verdictNone || fault.Code != tt.code || fault.Hint == "" {
				t.Errorf("exit %d, %+v, %+v", exit, r, fault)
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if exit, _, fault := verifyJSON(t, "--trust", p.file("root.pem"), l.Addr().String()); exit != exitFailed || fault.Code != codeUnreachable {
		t.Errorf("nobody there: exit %d, %+v", exit, fault)
	}
}

func TestVerifyOwnIdentity(t *testing.T) {
	p := newPeerPKI(t)
	for name, args := range map[string][]string{
		"another key":    {"--cert", p.file("client.pem"), "--key", p.file("server.key")},
		"no key":         {"--cert", p.file("client.pem"), "--key", p.file("none")},
		"no certificate": {"--cert", p.file("client.key"), "--key", p.file("client.key")},
	} {
		exit, out, errs := run(t, append([]string{"verify", "--trust", p.file("root.pem"), "127.0.0.1:9"}, args...)...)
		if exit != exitFailed || out != "" || !strings.HasPrefix(errs, "error: own identity: ") {
			t.Errorf("%s: exit %d, %q, %q", name, exit, out, errs)
		}
	}
}

func TestServerName(t *testing.T) {
	p := newPeerPKI(t)
	asked := make(chan string, 1)
	address := serveOnce(t, func(c net.Conn) {
		chain := p.server.TLS()
		_ = tls.Server(c, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			asked <- h.ServerName
			return &chain, nil
		}}).Handshake()
	})
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"":              {address},
		"server.nhs.uk": {"--name", "server.nhs.uk", address},
		"other.nhs.uk":  {"--name", "server.nhs.uk", "--sni", "other.nhs.uk", address},
		"localhost":     {"localhost:" + port},
	} {
		verifyJSON(t, append([]string{"--trust", p.file("root.pem")}, args...)...)
		if got := <-asked; got != want {
			t.Errorf("%v: asks for %q, want %q", args, got, want)
		}
	}
}

func FuzzDistinguishedNames(f *testing.F) {
	f.Add(testpki.NewRoot(f).Cert.RawSubject)
	f.Fuzz(func(t *testing.T, der []byte) {
		if got := distinguishedNames([][]byte{der}); len(got) != 1 {
			t.Errorf("%d names for one", len(got))
		}
	})
}
