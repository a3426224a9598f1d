package fetch

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// tinyproxy starts the real thing on a loopback port, and returns its URL. It asks
// nobody called blocked.example.
func tinyproxy(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("tinyproxy")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("tinyproxy is not installed: CI must have it")
		}
		t.Skip("tinyproxy is not installed")
	}
	for range 5 { // between our look at a free port and its own somebody may take it
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		_, port, _ := net.SplitHostPort(address)
		_ = l.Close()
		dir := t.TempDir()
		write(t, filepath.Join(dir, "filter"), "^blocked\\.example$\n")
		config := filepath.Join(dir, "tinyproxy.conf")
		write(t, config, fmt.Sprintf("Port %s\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 30\nMaxClients 10\nLogLevel Info\nFilter %q\nViaProxyName \"tinyproxy\"\n", port, filepath.Join(dir, "filter")))
		cmd := exec.Command(program, "-d", "-c", config)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = cmd.Stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		started, drained := make(chan bool, 1), make(chan struct{})
		var said strings.Builder
		go func() {
			defer close(drained)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				fmt.Fprintln(&said, lines.Text())
				if strings.Contains(lines.Text(), "Accepting connections") {
					started <- true
				}
			}
			close(started)
		}()
		stop := func() {
			_ = cmd.Process.Kill()
			<-drained
			_ = cmd.Wait()
		}
		select {
		case up := <-started:
			if up {
				t.Cleanup(func() {
					stop()
					if t.Failed() {
						t.Logf("tinyproxy said:\n%s", said.String())
					}
				})
				return "http://" + address
			}
		case <-time.After(patience):
		}
		stop()
		t.Logf("tinyproxy on port %s did not start:\n%s", port, said.String())
	}
	t.Fatal("tinyproxy does not start")
	return ""
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestTinyproxy asks through a real proxy. localhost is listed by name only, so what
// connects to it is the proxy: a direct connection is refused.
func TestTinyproxy(t *testing.T) {
	proxy := tinyproxy(t)
	via := make(chan string, 9)
	port, asked := counted(t, func(w http.ResponseWriter, r *http.Request) {
		via <- r.Header.Get("Via")
		switch r.URL.Path {
		case "/known":
			w.WriteHeader(http.StatusNotModified)
		case "/out":
			http.Redirect(w, r, "http://127.0.0.1/", http.StatusFound)
		case "/large":
			_, _ = w.Write(make([]byte, limit+1))
		default:
			w.Header().Set("ETag", "e")
			_, _ = io.WriteString(w, "through")
		}
	})
	base := "http://localhost:" + port
	config := Config{Hosts: []string{"localhost:" + port, "blocked.example"}, MaxBytes: limit}
	_, _, err := get(t, client(t, config, here), base+"/", Known{})
	refused(t, err, PrivateAddress)

	config.Proxy = proxy
	c := client(t, config)
	answer, body, err := get(t, c, base+"/", Known{})
	if err != nil || body != "through" || answer.ETag != "e" {
		t.Fatalf("%+v, %q, %v", answer, body, err)
	}
	if v := <-via; !strings.Contains(v, "tinyproxy") {
		t.Errorf("it came by %q", v)
	}
	if answer, _, err := get(t, c, base+"/known", Known{ETag: "e"}); err != nil || !answer.Unchanged {
		t.Errorf("conditional: %+v, %v", answer, err)
	}
	_, _, err = get(t, c, base+"/large", Known{})
	refused(t, err, TooLarge, "hint: crl.max_size")
	_, _, err = get(t, c, base+"/out", Known{})
	refused(t, err, Redirect, "127.0.0.1")
	before := asked.Load()
	_, _, err = get(t, c, "http://127.0.0.1:"+port+"/", Known{})
	refused(t, err, NotPermitted)
	_, _, err = get(t, c, "http://blocked.example/", Known{})
	refused(t, err, Status, "403", "hint: crl.proxy")
	if asked.Load() != before {
		t.Error("the server was asked for what is not permitted")
	}
}

// TestTinyproxyTLS has https go through CONNECT, and the server prove who it is.
func TestTinyproxyTLS(t *testing.T) {
	proxy := tinyproxy(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "through") }))
	certificate, roots := localhost(t)
	s.Config.ErrorLog = quiet()
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.StartTLS()
	t.Cleanup(s.Close)
	base := "https://localhost:" + portOf(t, s.URL)
	c := client(t, Config{Hosts: []string{"localhost:" + portOf(t, s.URL)}, Proxy: proxy, TLS: true})
	_, _, err := get(t, c, base, Known{})
	refused(t, err, BadTLS, "unknown authority")
	c.roots = roots
	if _, body, err := get(t, c, base, Known{}); err != nil || body != "through" {
		t.Errorf("%q, %v", body, err)
	}
	c = client(t, Config{Hosts: []string{"blocked.example"}, Proxy: proxy, TLS: true})
	_, _, err = get(t, c, "https://blocked.example/", Known{})
	refused(t, err, Status, "403", "CONNECT")
}

// quiet is the log of a server whose failed handshakes are meant to fail.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// localhost returns a certificate of localhost and the pool it is trusted by.
func localhost(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestHostileProxy has a proxy that answers as it likes.
func TestHostileProxy(t *testing.T) {
	var asked atomic.Int32
	for name, test := range map[string]struct {
		answer, address, reason, text string
	}{
		"wants a password":       {"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n", "http://crl.example/", Status, "hint: password"},
		"wants one of CONNECT":   {"HTTP/1.1 407 x\r\n\r\n", "https://crl.example/", Status, "407 Proxy Authentication Required to CONNECT"},
		"redirects CONNECT":      {"HTTP/1.1 302 x\r\nLocation: http://crl.example/\r\n\r\n", "https://crl.example/", Status, "302"},
		"takes CONNECT by a 204": {"HTTP/1.1 204 x\r\n\r\n", "https://crl.example/", Status, "204"},
		"no TLS behind CONNECT":  {"HTTP/1.1 200 x\r\n\r\n", "https://crl.example/", BadTLS, ""},
		"endless CONNECT":        {"HTTP/1.1 200 x\r\nA: " + strings.Repeat("a", 4*maxHeader), "https://crl.example/", Truncated, ""},
		"redirects inward":       {"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1/\r\n\r\n", "http://crl.example/", Redirect, "127.0.0.1"},
		"closes":                 {"", "http://crl.example/", Truncated, ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked.Store(0)
			port := raw(t, func(conn net.Conn) {
				asked.Add(1)
				_, _ = io.WriteString(conn, test.answer)
			})
			c := client(t, Config{Hosts: []string{"crl.example"}, Proxy: "http://127.0.0.1:" + port, TLS: true})
			_, _, err := get(t, c, test.address, Known{})
			refused(t, err, test.reason, test.text)
			if n := asked.Load(); n != 1 {
				t.Errorf("the proxy was asked %d times", n)
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + l.Addr().String()
	_ = l.Close()
	_, _, err = get(t, client(t, Config{Hosts: []string{"crl.example"}, Proxy: gone}), "http://crl.example/", Known{})
	refused(t, err, Unreachable, "connect to the proxy", "hint: crl.proxy")
}

// TestStuckProxy has CONNECT and the handshake behind it end with the context.
func TestStuckProxy(t *testing.T) {
	for _, answer := range []string{"", "HTTP/1.1 200 x\r\n\r\n"} {
		ctx, cancel := context.WithCancel(t.Context())
		hungUp := make(chan error, 1)
		port := raw(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, answer)
			cancel()
			_, err := io.Copy(io.Discard, conn)
			hungUp <- err
		})
		c := client(t, Config{Hosts: []string{"crl.example"}, Proxy: "http://127.0.0.1:" + port, TLS: true})
		_, err := c.Get(ctx, "https://crl.example/", Known{}, io.Discard)
		refused(t, err, Canceled, "no answer")
		if err := <-hungUp; errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the client did not hang up")
		}
	}
}
