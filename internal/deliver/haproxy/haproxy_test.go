package haproxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
)

// mutual starts a HAProxy that asks its clients for certificates, with a first leaf.
func mutual(t *testing.T, a *authority, global string, args ...string) (*server, *testpki.Leaf) {
	s, first := newServer(t), a.leaf()
	crt := s.write("combined.pem", combined(first, a))
	ca := s.write("trust.pem", a.sub.BundlePEM())
	crl := s.write("crl.pem", a.lists())
	s.start(fmt.Sprintf("crt %s ca-file %s crl-file %s verify optional no-tls-tickets", crt, ca, crl), global, "", args...)
	return s, first
}

// TestUpdateAll: certificate, CAs and CRLs in one update; a client whose certificate it revokes is refused afterwards, and one of
// a new CA is not.
func TestUpdateAll(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	s, first := mutual(t, a, "")
	s.serves(first)
	peer, other, second := a.leaf(), b.leaf(), a.leaf()
	if _, err := served(s.address, peer, a); err != nil {
		t.Fatalf("the peer is refused before it is revoked: %v", err)
	}
	if _, err := served(s.address, other, b); err == nil {
		t.Fatal("a peer of another CA is accepted")
	}
	files := []File{
		{Path: s.path("crl.pem"), Kind: CRL, Data: append(a.lists(peer), b.lists()...)},
		{Path: s.path("trust.pem"), Kind: CA, Data: append(a.sub.BundlePEM(), b.sub.BundlePEM()...)},
		{Path: s.path("combined.pem"), Kind: Cert, Data: combined(second, a)},
	}
	if err := Update(ctxFor(t), s.socket, files); err != nil {
		t.Fatal(err)
	}
	s.serves(second)
	s.quiet()
	if _, err := served(s.address, peer, a); err == nil {
		t.Error("a revoked peer is accepted")
	}
	if _, err := served(s.address, other, b); err != nil {
		t.Errorf("a peer of the new CA is refused: %v", err)
	}
	if _, err := served(s.address, a.leaf(), a); err != nil {
		t.Errorf("a good peer is refused: %v", err)
	}
}

// TestRefused: what HAProxy, or we, refuse changes nothing, leaves no transaction and quotes no file.
func TestRefused(t *testing.T) {
	a := newAuthority(t)
	s, first := mutual(t, a, "")
	peer := a.leaf() // the new CRLs revoke it
	second, third := a.leaf(), a.leaf()
	mismatch := append(chainOf(second, a), testpki.EncodeKey(third.Key)...)
	garbled := bytes.Replace(combined(second, a), []byte("\nMII"), []byte("\nAAA"), 1)
	large := bytes.Repeat(a.sub.BundlePEM(), 40)
	for _, c := range []struct {
		name   string
		file   File
		reason string
		words  []string
	}{
		{"key of another certificate", File{"combined.pem", Cert, mismatch}, failure.ReloadFailed, []string{"commit cert", "inconsistencies between private key and certificate"}},
		{"no key", File{"combined.pem", Cert, chainOf(second, a)}, failure.ReloadFailed, []string{"must contain at least a certificate and a private key"}},
		{"broken certificate", File{"combined.pem", Cert, garbled}, failure.ReloadFailed, []string{"set cert", "unable to load certificate"}},
		{"broken CRL", File{"crl.pem", CRL, testpki.EncodeCRL([]byte("no DER"))}, failure.ReloadFailed, []string{"set crl-file", "Invalid payload"}},
		{"no PEM", File{"combined.pem", Cert, []byte("garbage\n")}, failure.ReloadFailed, []string{"not PEM"}},
		{"empty", File{"combined.pem", Cert, nil}, failure.ReloadFailed, []string{"not PEM, or empty"}},
		{"DER", File{"combined.pem", Cert, second.Cert.Raw}, failure.ReloadFailed, []string{"not PEM"}},
		{"not loaded", File{"other.pem", Cert, combined(second, a)}, failure.ReloadFailed, []string{"does not have cert", "combined.pem", "crt " + s.path("other.pem")}},
		{"a CRL for CAs", File{"trust.pem", CA, a.lists()}, failure.ReloadFailed, []string{`PEM block "X509 CRL"`}},
		{"CAs for a CRL", File{"crl.pem", CRL, a.sub.BundlePEM()}, failure.ReloadFailed, []string{`PEM block "CERTIFICATE"`}},
		{"a key for CAs", File{"trust.pem", CA, testpki.EncodeKey(second.Key)}, failure.ReloadFailed, []string{`"PRIVATE KEY"`}},
		{"larger than the buffer", File{"trust.pem", CA, large}, failure.ReloadFailed, []string{"tune.bufsize", "16384", "reload through the unit"}},
		{"odd path", File{"a b.pem", Cert, combined(second, a)}, failure.ReloadFailed, []string{"this path"}},
		{"two commands in a path", File{"combined.pem;shutdown sessions server", Cert, combined(second, a)}, failure.ReloadFailed, []string{"this path"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.file.Path = s.path(c.file.Path)
			files := []File{c.file}
			for _, good := range []File{{s.path("trust.pem"), CA, a.sub.BundlePEM()}, {s.path("crl.pem"), CRL, a.lists(peer)}} {
				if good.Kind != c.file.Kind {
					files = append(files, good)
				}
			}
			err := Update(ctxFor(t), s.socket, files)
			refused(t, err, c.reason, [][]byte{c.file.Data, combined(second, a)}, c.words...)
			if strings.Contains(err.Error(), "already has") {
				t.Errorf("something was changed: %v", err)
			}
			s.serves(first)
			s.quiet()
			if _, err := served(s.address, peer, a); err != nil {
				t.Errorf("the CRLs were changed: %v", err)
			}
		})
	}
}

// TestBufferSize: a command one byte below HAProxy's buffer is taken, one of its size is never sent, as HAProxy 2.6 aborts itself.
func TestBufferSize(t *testing.T) {
	a := newAuthority(t)
	for _, buffer := range []int{0, 20000} {
		t.Run(fmt.Sprint(buffer), func(t *testing.T) {
			global, size := "", usualBuffer
			if buffer > 0 {
				global, size = fmt.Sprintf("tune.bufsize %d", buffer), buffer
			}
			s, _ := mutual(t, a, global)
			file := File{Path: s.path("trust.pem"), Kind: CA}
			comments := size - len(setCommand(file)) - len(".crt\n") - len(a.sub.BundlePEM()) - len("\n")
			fill := func(n int) []byte {
				lines := strings.Repeat("#"+strings.Repeat("x", 98)+"\n", n/100-1)
				return append([]byte(lines+"#"+strings.Repeat("x", n-len(lines)-2)+"\n"), a.sub.BundlePEM()...)
			}
			file.Data = fill(comments)
			refused(t, Update(ctxFor(t), s.socket, []File{file}), failure.ReloadFailed, nil, "tune.bufsize", fmt.Sprint(size))
			file.Data = fill(comments - 1)
			if err := Update(ctxFor(t), s.socket, []File{file}); err != nil {
				t.Error(err)
			}
			s.quiet()
		})
	}
}

// TestWays: the ways in which HAProxy loads files.
func TestWays(t *testing.T) {
	a := newAuthority(t)
	for _, c := range []struct {
		name   string
		files  []string // relative; a key when it ends in .key, combined when it ends in .pem, else the chain
		global string
		bind   func(s *server) string
	}{
		{"combined", []string{"x.pem"}, "", func(s *server) string { return "crt " + s.path("x.pem") }},
		{"blank lines", []string{"blank.pem"}, "", func(s *server) string { return "crt " + s.path("blank.pem") }},
		{"key beside", []string{"x.crt.key", "x.crt"}, "", func(s *server) string { return "crt " + s.path("x.crt") }},
		{"key beside, other ending", []string{"full.chain.key", "full.chain"}, "", func(s *server) string { return "crt " + s.path("full.chain") }},
		{"combined as .crt", []string{"c.crt"}, "", func(s *server) string { return "crt " + s.path("c.crt") }},
		{"key beside, extension removed", []string{"x.key", "x.crt"}, "ssl-load-extra-del-ext", func(s *server) string { return "crt " + s.path("x.crt") }},
		{"directory", []string{"d/x.pem"}, "", func(s *server) string { return "crt " + s.path("d") }},
		{"directory with a slash", []string{"d/x.pem"}, "", func(s *server) string { return "crt " + s.path("d") + "/" }},
		{"crt-base", []string{"x.pem"}, "", func(*server) string { return "crt x.pem" }},
		{"crt-list", []string{"x.pem"}, "", func(s *server) string {
			return "crt-list " + s.write("list.txt", []byte(s.path("x.pem")+" [alpn http/1.1] host.example\n"))
		}},
		{"current link", []string{"current/x.pem"}, "", func(s *server) string { return "crt " + s.path("current/x.pem") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, first, second := newServer(t), a.leaf(), a.leaf()
			content := func(name string, l *testpki.Leaf) []byte {
				switch {
				case strings.HasPrefix(name, "blank"):
					return bytes.ReplaceAll(combined(l, a), []byte("-----BEGIN"), []byte("\r\n\n \t\n\n-----BEGIN"))
				case strings.HasSuffix(name, ".key"):
					return testpki.EncodeKey(l.Key)
				case strings.HasSuffix(name, ".pem"), name == "c.crt":
					return combined(l, a)
				}
				return chainOf(l, a)
			}
			if err := os.Mkdir(s.path("set-1"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("set-1", s.path("current")); err != nil {
				t.Fatal(err)
			}
			var files []File
			for _, name := range c.files {
				s.write(name, content(name, first))
				files = append(files, File{Path: s.path(name), Kind: Cert, Data: content(name, second)})
			}
			global := c.global
			if c.name == "crt-base" {
				global = "crt-base " + s.dir
			}
			s.start(c.bind(s), global, "")
			s.serves(first)
			if err := Update(ctxFor(t), s.socket, files); err != nil {
				t.Fatal(err, "\n", s.say("show ssl cert"))
			}
			s.serves(second)
			s.quiet()
		})
	}
}

// TestSeveral: of several certificates one is refused: none is changed. And good ones all are.
func TestSeveral(t *testing.T) {
	a := newAuthority(t)
	s, one, two := newServer(t), a.leaf(), a.leaf()
	second := freeAddress(t)
	s.start("crt "+s.write("one.pem", combined(one, a)), "", fmt.Sprintf("listen g\n  bind %s ssl crt %s\n  http-request return status 200\n", second, s.write("two.pem", combined(two, a))))
	one2, two2 := a.leaf(), a.leaf()
	err := Update(ctxFor(t), s.socket, []File{{s.path("one.pem"), Cert, combined(one2, a)}, {s.path("two.pem"), Cert, bytes.Replace(combined(two2, a), []byte("\nMII"), []byte("\nAAA"), 1)}})
	refused(t, err, failure.ReloadFailed, nil, "two.pem")
	s.serves(one)
	s.quiet()

	// A key of another certificate shows only at the commit, when the first is changed.
	err = Update(ctxFor(t), s.socket, []File{{s.path("one.pem"), Cert, combined(one2, a)}, {s.path("two.pem"), Cert, append(chainOf(two2, a), testpki.EncodeKey(one2.Key)...)}})
	refused(t, err, failure.ReloadFailed, nil, "commit cert", "two.pem", "already has the new "+s.path("one.pem"))
	s.serves(one2)
	s.quiet()

	if err := Update(ctxFor(t), s.socket, []File{{s.path("one.pem"), Cert, combined(one, a)}, {s.path("two.pem"), Cert, combined(two2, a)}}); err != nil {
		t.Fatal(err)
	}
	s.serves(one)
	if got, err := served(second, nil, nil); err != nil || !got.Equal(two2.Cert) {
		t.Errorf("the second frontend serves another certificate, or none: %v", err)
	}
}

// TestBackend: the certificate that HAProxy shows to a server, and the CAs and CRLs that it judges it by.
func TestBackend(t *testing.T) {
	a := newAuthority(t)
	var peer atomic.Value
	upstream := a.leaf()
	backend := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer.Store(r.TLS.PeerCertificates[0].SerialNumber.String())
	})}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{{Certificate: [][]byte{upstream.Cert.Raw, a.sub.Cert.Raw}, PrivateKey: upstream.Key}}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = backend.Serve(listener) }()
	t.Cleanup(func() { _ = backend.Close() })
	s, first, second, front := newServer(t), a.leaf(), a.leaf(), freeAddress(t)
	crt, ca, crl := s.write("client.pem", combined(first, a)), s.write("trust.pem", a.sub.BundlePEM()), s.write("crl.pem", a.lists())
	s.start("crt "+s.write("front.pem", combined(a.leaf(), a)), "", fmt.Sprintf(`listen out
  bind %s
  server up %s ssl verify required crt %s ca-file %s crl-file %s sni str(host.example) no-ssl-reuse
`, front, listener.Addr(), crt, ca, crl))
	get := func() int {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get("http://" + front + "/")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	if code := get(); code != 200 || peer.Load() != first.Cert.SerialNumber.String() {
		t.Fatalf("before: status %d, peer %v", code, peer.Load())
	}
	if err := Update(ctxFor(t), s.socket, []File{{crt, Cert, combined(second, a)}, {ca, CA, a.sub.BundlePEM()}, {crl, CRL, a.lists()}}); err != nil {
		t.Fatal(err)
	}
	backend.SetKeepAlivesEnabled(false)
	s.until("HAProxy shows the new certificate", func() bool { return get() == 200 && peer.Load() == second.Cert.SerialNumber.String() })
	if err := Update(ctxFor(t), s.socket, []File{{crl, CRL, a.lists(upstream)}}); err != nil {
		t.Fatal(err)
	}
	s.until("HAProxy refuses the revoked server", func() bool { return get() == 503 })
}

// TestTransactions: leftovers of ours are taken over, those of others are waited for and left alone.
func TestTransactions(t *testing.T) {
	a := newAuthority(t)
	s, first, second := newServer(t), a.leaf(), a.leaf()
	ours, theirs := s.write("ours.pem", combined(first, a)), s.write("theirs.pem", combined(a.sub.Issue(t, testpki.DNS("other.example")), a))
	s.start("crt "+ours+" crt "+theirs, "", "")
	open := func(path string) { s.say("set ssl cert " + path + " <<\n" + string(combined(a.leaf(), a))) }

	open(ours)
	if err := Update(ctxFor(t), s.socket, []File{{ours, Cert, combined(second, a)}}); err != nil {
		t.Fatal(err)
	}
	s.quiet()
	s.serves(second)

	open(theirs)
	refused(t, Update(ctxFor(t), s.socket, []File{{ours, Cert, combined(first, a)}}), failure.ReloadFailed, nil, theirs, "another transaction", "abort ssl cert "+theirs)
	if !strings.Contains(s.say("show ssl cert"), "*"+theirs) {
		t.Error("a transaction of somebody else's was ended")
	}
	s.serves(second)

	var wait sync.WaitGroup
	wait.Go(func() {
		if err := Update(ctxFor(t), s.socket, []File{{ours, Cert, combined(first, a)}}); err != nil {
			t.Error(err)
		}
	})
	// HAProxy says no to whoever asks while it does something for another, and here that is the update.
	s.until("the transaction has ended", func() bool { return strings.Contains(s.say("abort ssl cert "+theirs), "aborted") })
	wait.Wait()
	s.serves(first)
}

// TestConcurrent: updates of several certificates at once end up each in its own place.
func TestConcurrent(t *testing.T) {
	a := newAuthority(t)
	s := newServer(t)
	const many = 8
	var more strings.Builder
	var addresses, paths []string
	for i := range many {
		addresses = append(addresses, freeAddress(t))
		paths = append(paths, s.write(fmt.Sprintf("c%d.pem", i), combined(a.leaf(), a)))
		fmt.Fprintf(&more, "listen l%d\n  bind %s ssl crt %s\n  http-request return status 200\n", i, addresses[i], paths[i])
	}
	s.start("crt "+s.write("front.pem", combined(a.leaf(), a)), "", more.String())
	var wait sync.WaitGroup
	for i := range many {
		wait.Go(func() {
			for range 5 {
				next := a.leaf()
				if err := Update(ctxFor(t), s.socket, []File{{paths[i], Cert, combined(next, a)}}); err != nil {
					t.Error(err)
					return
				}
				if got, err := served(addresses[i], nil, nil); err != nil || !got.Equal(next.Cert) {
					t.Errorf("%s: another certificate, or none: %v", paths[i], err)
				}
			}
		})
	}
	wait.Wait()
	s.quiet()
}
