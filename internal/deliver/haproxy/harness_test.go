package haproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const patience = 20 * time.Second

// authority is a root with a subCA, whose leaves the tests deliver.
type authority struct {
	t         *testing.T
	root, sub *testpki.Authority
}

func newAuthority(t *testing.T) *authority {
	root := testpki.NewRoot(t)
	return &authority{t: t, root: root, sub: root.SubCA(t)}
}

func (a *authority) leaf() *testpki.Leaf {
	return a.sub.Issue(a.t, testpki.DNS("host.example"))
}

func chainOf(l *testpki.Leaf, a *authority) []byte {
	return testpki.EncodeCerts(l.Cert, a.sub.Cert)
}

func combined(l *testpki.Leaf, a *authority) []byte {
	return append(chainOf(l, a), testpki.EncodeKey(l.Key)...)
}

// lists returns the CRLs of the root and of the subCA, which revokes leaves.
func (a *authority) lists(revoked ...*testpki.Leaf) []byte {
	var opts []testpki.CRLOption
	for _, l := range revoked {
		opts = append(opts, testpki.Revoke(l.Cert.SerialNumber))
	}
	return append(testpki.EncodeCRL(a.sub.CRL(a.t, opts...)), testpki.EncodeCRL(a.root.CRL(a.t))...)
}

// server is a running HAProxy.
type server struct {
	t       *testing.T
	dir     string
	socket  string
	address string
	cmd     *exec.Cmd
	log     *bytes.Buffer
	ended   chan struct{}
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *server) write(name string, data []byte) string {
	s.t.Helper()
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func newServer(t *testing.T) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "hap") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &server{t: t, dir: dir, socket: filepath.Join(dir, "admin.sock"), log: &bytes.Buffer{}}
}

// freeAddress returns a loopback address that the kernel chose.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// start runs HAProxy; bind is what follows "bind ADDRESS ssl", global and more are lines of their sections.
func (s *server) start(bind, global, more string, args ...string) {
	s.t.Helper()
	program := testprogram.Need(s.t, "haproxy")
	s.address = freeAddress(s.t)
	config := s.write("haproxy.cfg", []byte(fmt.Sprintf(`global
  stats socket %s mode 600 level admin expose-fd listeners
  stats timeout 30s
  %s
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend f
  bind %s ssl %s
  http-request return status 200 content-type text/plain lf-string "%%[ssl_c_verify]"
%s`, s.socket, global, s.address, bind, more)))
	s.cmd = exec.Command(program, append([]string{"-f", config, "-db"}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	s.t.Cleanup(func() {
		select {
		case <-s.ended:
			s.t.Errorf("HAProxy ended by itself: %v\n%s", s.cmd.ProcessState, s.log)
		default:
		}
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.ended:
		case <-time.After(patience):
			_ = s.cmd.Process.Kill()
			<-s.ended
		}
	})
	s.until("HAProxy listens", func() bool {
		select {
		case <-s.ended:
			s.t.Fatalf("HAProxy ended: %s", s.log)
		default:
		}
		conn, err := net.Dial("unix", s.socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (s *server) until(what string, done func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("never: %s", what)
		}
	}
}

// say sends a command by hand, and returns the answer.
func (s *server) say(command string) string {
	s.t.Helper()
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		s.t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(answer)
}

// quiet fails the test if a transaction is open.
func (s *server) quiet() {
	s.t.Helper()
	for _, kind := range []Kind{Cert, CA, CRL} {
		if answer := s.say("show ssl " + string(kind)); strings.Contains(answer, "# transaction") {
			s.t.Errorf("a transaction is left: %s", answer)
		}
	}
}

// served returns the leaf that an address shows, of a client that has an identity unless it is nil.
func served(address string, client *testpki.Leaf, a *authority) (*x509.Certificate, error) {
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "host.example"}
	if client != nil {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{client.Cert.Raw, a.sub.Cert.Raw}, PrivateKey: client.Key}}
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil { // in TLS 1.3 a refusal comes after the handshake
		return nil, err
	}
	if _, err := io.ReadAll(conn); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func (s *server) serves(want *testpki.Leaf) {
	s.t.Helper()
	got, err := served(s.address, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if !got.Equal(want.Cert) {
		s.t.Errorf("HAProxy serves serial %d, want %d", got.SerialNumber, want.Cert.SerialNumber)
	}
}

func ctxFor(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	return ctx
}

// refused fails the test unless err has a reason, a hint and each of the words, and no line of the secrets.
func refused(t *testing.T, err error, reason string, secrets [][]byte, words ...string) {
	t.Helper()
	var f *failure.Error
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a *failure.Error", err)
	}
	text := f.Error() + " | " + f.Hint()
	if f.Reason != reason {
		t.Errorf("reason %s, want %s: %s", f.Reason, reason, text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in: %s", word, text)
		}
	}
	for _, secret := range secrets {
		for line := range bytes.Lines(secret) {
			if line = bytes.TrimSpace(line); len(line) > 0 && strings.Contains(text, string(line)) {
				t.Errorf("the error holds a line of a file: %s", text)
			}
		}
	}
	if len(text) > 1500 {
		t.Errorf("an error of %d bytes", len(text))
	}
	t.Logf("%s: %s", f.Reason, text)
}
