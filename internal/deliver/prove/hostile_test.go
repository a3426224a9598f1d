package prove

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
)

// serve has a server of one's own on a loopback port. Each connection is closed when its
// function returns, and all when the test ends.
func serve(t testing.TB, each func(n int, c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, each)
	return l.Addr().String()
}

// serveOn is serve with a listener.
func serveOn(t testing.TB, l net.Listener, each func(n int, c net.Conn)) {
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { _ = c.Close() })
			go func() {
				defer stop()
				defer c.Close()
				each(n, c)
			}()
		}
	}()
}

// hang waits until the other side goes.
func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// forever writes the same over and over.
func forever(c net.Conn, said string) {
	go hang(c)
	for {
		if _, err := io.WriteString(c, strings.Repeat(said, 100)); err != nil {
			return
		}
	}
}

// drip writes a byte at a time.
func drip(c net.Conn, said string) {
	for {
		for i := range len(said) {
			if _, err := io.WriteString(c, said[i:i+1]); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// after says something once it was spoken to.
func after(c net.Conn, said string) {
	if _, err := c.Read(make([]byte, 4096)); err == nil {
		_, _ = io.WriteString(c, said)
		hang(c)
	}
}

const ldapYes = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"

func TestHostile(t *testing.T) {
	t.Parallel()
	id := identity(t, testpki.NewRoot(t).SubCA(t).Issue(t, testpki.DNS(ownName)))
	smtp := func(said string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.WriteString(c, "220 mail ESMTP\r\n")
			r := bufio.NewReader(c)
			_, _ = r.ReadString('\n')
			_, _ = io.WriteString(c, "250-mail\r\n250 STARTTLS\r\n")
			_, _ = r.ReadString('\n')
			_, _ = io.WriteString(c, said)
			hang(c)
		}
	}
	const fine, tries, tls12 = time.Minute, 300 * time.Millisecond, "\x16\x03\x03"
	hello := tls12 + "\x00\x50\x02\x00\x00\x4c\x03\x03" // the begin of a ServerHello
	for name, tc := range map[string]struct {
		protocol string
		server   func(net.Conn)
		limit    time.Duration // fine: it ends by itself
		reason   string
		text     string
	}{
		"silent":               {"tls", hang, tries, failure.Unreachable, "does not answer"},
		"silent postgres":      {"postgres", hang, tries, failure.Unreachable, "does not answer"},
		"silent ldap":          {"ldap", hang, tries, failure.Unreachable, "does not answer"},
		"silent smtp":          {"smtp", hang, tries, failure.Unreachable, "does not answer"},
		"drips":                {"tls", func(c net.Conn) { drip(c, hello) }, tries, failure.HandshakeFailed, "not complete in time"},
		"drips smtp":           {"smtp", func(c net.Conn) { drip(c, "220-a\r\n") }, tries, failure.HandshakeFailed, "not complete in time"},
		"drips ldap":           {"ldap", func(c net.Conn) { drip(c, "\x30\x82\x0f\xff\x02\x01\x01\x00") }, tries, failure.HandshakeFailed, "not complete in time"},
		"hangs after hello":    {"tls", func(c net.Conn) { after(c, hello) }, tries, failure.HandshakeFailed, "not complete in time"},
		"hangs before TLS":     {"postgres", func(c net.Conn) { after(c, "S") }, tries, failure.HandshakeFailed, "not complete in time"},
		"endless":              {"tls", func(c net.Conn) { forever(c, "hello\r\n") }, fine, failure.HandshakeFailed, "does not speak TLS"},
		"endless records":      {"tls", func(c net.Conn) { forever(c, tls12+"\x00\x01\x00") }, fine, failure.HandshakeFailed, "tls: "},
		"endless empty":        {"tls", func(c net.Conn) { forever(c, tls12+"\x00\x00") }, fine, failure.HandshakeFailed, "tls: "},
		"endless postgres":     {"postgres", func(c net.Conn) { forever(c, "S") }, fine, failure.HandshakeFailed, "before TLS"},
		"endless banner":       {"smtp", func(c net.Conn) { forever(c, "220-hello\r\n") }, fine, failure.HandshakeFailed, "more than 100 lines"},
		"endless line":         {"smtp", func(c net.Conn) { forever(c, "220-hello") }, fine, failure.HandshakeFailed, "more than 1024 bytes"},
		"endless ldap":         {"ldap", func(c net.Conn) { forever(c, "0000") }, fine, failure.HandshakeFailed, "not that of an LDAP server"},
		"ldap of 4 GiB":        {"ldap", func(c net.Conn) { after(c, "\x30\x84\xff\xff\xff\xff") }, fine, failure.HandshakeFailed, "not that of an LDAP server"},
		"ldap without length":  {"ldap", func(c net.Conn) { after(c, "\x30\x80\x02\x01\x01") }, fine, failure.HandshakeFailed, "not that of an LDAP server"},
		"resets":               {"tls", func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); _ = c.(*net.TCPConn).SetLinger(0) }, fine, failure.HandshakeFailed, "reset the connection"},
		"closes":               {"tls", func(net.Conn) {}, fine, failure.HandshakeFailed, "the connection"},
		"closes smtp":          {"smtp", func(net.Conn) {}, fine, failure.HandshakeFailed, "closed the connection"},
		"ends half way":        {"tls", func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); _, _ = io.WriteString(c, hello) }, fine, failure.HandshakeFailed, "closed the connection"},
		"HTTP":                 {"tls", func(c net.Conn) { after(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, fine, failure.HandshakeFailed, `begins with "HTTP/"`},
		"HTTP for postgres":    {"postgres", func(c net.Conn) { after(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, fine, failure.HandshakeFailed, `"H"`},
		"HTTP for ldap":        {"ldap", func(c net.Conn) { after(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, fine, failure.HandshakeFailed, "not that of an LDAP server"},
		"SSH for smtp":         {"smtp", func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n"); hang(c) }, fine, failure.HandshakeFailed, `"SSH-2.0-x"`},
		"alert":                {"tls", func(c net.Conn) { after(c, "\x15\x03\x03\x00\x02\x02\x70") }, fine, failure.HandshakeFailed, "unrecognized name"},
		"no version":           {"tls", func(c net.Conn) { after(c, "\x15\x03\x03\x00\x02\x02\x46") }, fine, failure.HandshakeFailed, "in TLS 1.3"},
		"postgres without TLS": {"postgres", func(c net.Conn) { after(c, "N") }, fine, failure.HandshakeFailed, "ssl is off"},
		"postgres is full":     {"postgres", func(c net.Conn) { after(c, "E\x00\x00\x00\x10too many") }, fine, failure.HandshakeFailed, "an error"},
		"ldap says no":         {"ldap", func(c net.Conn) { after(c, "\x30\x0f\x02\x01\x01\x78\x0a\x0a\x01\x02\x04\x00\x04\x03\x1b[m") }, fine, failure.HandshakeFailed, `code 2: "\x1b[m"`},
		"smtp says no":         {"smtp", smtp("454 not now\r\n"), fine, failure.HandshakeFailed, `454: "not now"`},
		"smtp is busy":         {"smtp", func(c net.Conn) { _, _ = io.WriteString(c, "421 busy\r\n"); hang(c) }, fine, failure.HandshakeFailed, `421: "busy"`},
		"smtp of two codes":    {"smtp", func(c net.Conn) { _, _ = io.WriteString(c, "220-a\r\n250 b\r\n"); hang(c) }, fine, failure.HandshakeFailed, "not that of an SMTP server"},
		"injects postgres":     {"postgres", func(c net.Conn) { after(c, "S"+tls12) }, fine, failure.HandshakeFailed, "before TLS"},
		"injects ldap":         {"ldap", func(c net.Conn) { after(c, ldapYes+tls12) }, fine, failure.HandshakeFailed, "before TLS"},
		"injects smtp":         {"smtp", smtp("220 go\r\n250 more\r\n"), fine, failure.HandshakeFailed, "before TLS"},
		"injects a command": {"smtp", func(c net.Conn) {
			_, _ = io.WriteString(c, "220 mail\r\n")
			after(c, "250-mail\r\n250 STARTTLS\r\n220 go\r\n")
		}, fine, failure.HandshakeFailed, "before TLS"},
		"smtp without TLS": {"smtp", func(c net.Conn) {
			_, _ = io.WriteString(c, "220 mail\r\n")
			after(c, "250-mail\r\n250 STARTTLSX\r\n")
		}, fine, failure.HandshakeFailed, "does not offer STARTTLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := probe(serve(t, func(_ int, c net.Conn) { tc.server(c) }), tc.protocol)
			ctx, cancel := context.WithTimeout(t.Context(), tc.limit)
			defer cancel()
			begun := time.Now()
			seen, err := Look(ctx, p, id)
			is(t, err, tc.reason, tc.text)
			if len(seen.Chain) > 0 || seen.At.Before(begun) {
				t.Errorf("seen %d certificates at %s", len(seen.Chain), seen.At)
			}
			if took := time.Since(begun); took > patience {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for address, text := range map[string]string{
		h.freeAddress():               "connection refused",
		"unix:" + h.path("no.socket"): "no such file",
	} {
		for _, protocol := range []string{config.ProbeTLS, config.ProbeSMTP} {
			h.refuses(probe(address, protocol), h.own, failure.Unreachable, text)
		}
	}
}

// Somebody who gave up does not wait for a server that says nothing.
func TestCancelled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, protocol := range []string{config.ProbeTLS, config.ProbePostgres, config.ProbeLDAP, config.ProbeSMTP} {
		ctx, cancel := context.WithCancel(t.Context())
		p := probe(serve(t, func(_ int, c net.Conn) {
			if protocol != config.ProbeSMTP {
				_, _ = c.Read(make([]byte, 1))
			}
			cancel()
			hang(c)
		}), protocol)
		begun := time.Now()
		_, err := Prove(ctx, p, h.want(h.own))
		is(t, err, failure.Interrupted, "canceled")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v is not context.Canceled", err)
		}
		if took := time.Since(begun); took > lookLimit {
			t.Errorf("%s: it took %s to give up", protocol, took)
		}
	}
}

func TestSMTP(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	greeted := make(chan string, 100)
	server := func(config *tls.Config) string {
		return serve(t, func(_ int, c net.Conn) {
			_, _ = io.WriteString(c, "220-mail.example ESMTP\r\n220 at your service\r\n")
			r := bufio.NewReader(c)
			hello, _ := r.ReadString('\n')
			_, _ = fmt.Fprintf(c, "250-mail.example\r\n250-SIZE 1000\r\n250-starttls\r\n250 HELP\r\n")
			command, _ := r.ReadString('\n')
			greeted <- hello + command
			_, _ = io.WriteString(c, "220 go ahead\r\n")
			conn := tls.Server(c, config)
			_, err := io.Copy(io.Discard, conn)
			if err != nil && config.ClientAuth == tls.NoClientCert {
				t.Errorf("the server: %v", err)
			}
		})
	}
	h.proves(probe(server(&tls.Config{Certificates: []tls.Certificate{h.own.TLS()}}), config.ProbeSMTP), h.own)
	if said := <-greeted; said != "EHLO [127.0.0.1]\r\nSTARTTLS\r\n" {
		t.Errorf("it said %q", said)
	}
	refuses := func(version uint16) *tls.Config {
		return &tls.Config{MinVersion: version, MaxVersion: version, ClientAuth: tls.RequireAndVerifyClientCert, Certificates: []tls.Certificate{h.own.TLS()}}
	}
	h.refuses(probe(server(refuses(tls.VersionTLS12)), config.ProbeSMTP), h.own, failure.RefusedUs, "certificate")
	h.refusesLate(probe(server(refuses(tls.VersionTLS13)), config.ProbeSMTP), h.own)
}
