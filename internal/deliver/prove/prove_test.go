package prove

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
)

// small is a host with keys that are quick.
func small(t testing.TB) (sub *testpki.Authority, own, next *testpki.Leaf) {
	t.Helper()
	sub = testpki.NewRoot(t, testpki.Name("Test Root")).SubCA(t, testpki.Name("Test Sub"))
	return sub, sub.Issue(t, testpki.DNS(ownName)), sub.Issue(t, testpki.DNS(ownName))
}

// showing serves the leaf that choose returns for connection n; nil is silence.
func showing(t testing.TB, choose func(n int) *testpki.Leaf) string {
	return serve(t, func(n int, c net.Conn) {
		leaf := choose(n)
		if leaf == nil {
			hang(c)
			return
		}
		hang(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}}))
	})
}

// The count begins anew after each that does not match.
func TestRow(t *testing.T) {
	t.Parallel()
	_, own, next := small(t)
	var shown atomic.Int64
	address := showing(t, func(n int) *testpki.Leaf {
		shown.Add(1)
		if n == 0 || n == 3 || n == 6 {
			return own // of an old worker
		}
		return next
	})
	seen, err := Prove(t.Context(), probe(address, config.ProbeTLS), wants(t, next))
	if err != nil || !seen.Chain[0].Equal(next.Cert) || seen.Address != address || seen.ServerName != "" {
		t.Errorf("%v, seen %+v", err, seen)
	}
	if n := shown.Load(); n != 10 {
		t.Errorf("proved after %d handshakes, want 10", n)
	}
}

// An old worker that answers every third time, for ever.
func TestOldWorkerStays(t *testing.T) {
	t.Parallel()
	_, own, next := small(t)
	p := probe(showing(t, func(n int) *testpki.Leaf {
		if n%3 == 2 {
			return own
		}
		return next
	}), config.ProbeTLS)
	p.Within = 500 * time.Millisecond
	seen, err := Prove(t.Context(), p, wants(t, next))
	is(t, err, failure.WrongCertificate, "handshakes in 500ms matched")
	if len(seen.Chain) == 0 || !seen.Chain[0].Equal(own.Cert) {
		t.Error("what was seen with the error is not what was wrong")
	}
}

// What was wrong before the time was over counts, not that the last look was cut short.
func TestHangsAtTheEnd(t *testing.T) {
	t.Parallel()
	_, own, next := small(t)
	p := probe(showing(t, func(n int) *testpki.Leaf {
		if n == 0 {
			return own
		}
		return nil
	}), config.ProbeTLS)
	p.Within = time.Second
	_, err := Prove(t.Context(), p, wants(t, next))
	is(t, err, failure.WrongCertificate, "0 of 2 handshakes in 1s matched")
}

func TestNoTime(t *testing.T) {
	t.Parallel()
	_, own, _ := small(t)
	p := probe(showing(t, func(int) *testpki.Leaf { return own }), config.ProbeTLS)
	p.Within, p.Stable = 500*time.Millisecond, 1000
	_, err := Prove(t.Context(), p, wants(t, own))
	is(t, err, failure.Timeout, "1000 in a row")
}

// A server of TLS 1.3 alone refuses one connection, and is remembered. One that asks
// and sends no ticket is waited for once.
func TestVersionIsRemembered(t *testing.T) {
	t.Parallel()
	_, own, _ := small(t)
	var met atomic.Int64
	address := serve(t, func(_ int, c net.Conn) {
		met.Add(1)
		hang(tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true, Certificates: []tls.Certificate{own.TLS()}}))
	})
	if _, err := Prove(t.Context(), probe(address, config.ProbeTLS), wants(t, own)); err != nil {
		t.Fatal(err)
	}
	if n := met.Load(); n != 4 {
		t.Errorf("%d connections, want one that is refused and three", n)
	}
}

// A refusal that comes after the handshake is waited for in a proof too.
func TestRefusedLate(t *testing.T) {
	t.Parallel()
	_, own, _ := small(t)
	p := probe(serve(t, func(_ int, c net.Conn) {
		hang(tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), Certificates: []tls.Certificate{own.TLS()}}))
	}), config.ProbeTLS)
	p.Within = time.Second
	var err error
	for range 20 { // a busy host may be too slow for the wait
		if _, err = Prove(t.Context(), p, wants(t, own)); err != nil {
			break
		}
	}
	is(t, err, failure.RefusedUs, "refuses our certificate")
}

func TestReceivesNoMore(t *testing.T) {
	t.Parallel()
	conn, err := dial(t.Context(), serve(t, func(_ int, c net.Conn) { forever(c, "hello") }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := io.Copy(io.Discard, conn); !errors.Is(err, errTalkative) || n > 2*receiveMax {
		t.Errorf("%d bytes: %v", n, err)
	}
}

// No connection resumes the session of another, also where the server would.
func TestNothingIsResumed(t *testing.T) {
	t.Parallel()
	_, own, _ := small(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := &tls.Config{MinVersion: version, MaxVersion: version, ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{own.TLS()}}
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if cs.DidResume || len(cs.PeerCertificates) != 2 {
				t.Errorf("resumed: %t, %d certificates", cs.DidResume, len(cs.PeerCertificates))
			}
			return nil
		}
		address := serve(t, func(_ int, conn net.Conn) {
			server := tls.Server(conn, c)
			if n, _ := server.Read(make([]byte, 1)); n > 0 {
				t.Error("something was sent")
			}
		})
		for range 3 {
			if _, err := Look(t.Context(), probe(address, config.ProbeTLS), identity(t, own)); err != nil {
				t.Error(err)
			}
		}
	}
}

// A ticket says that we are taken, but not of slapd, which judges after it was sent.
func TestTicketOfLDAP(t *testing.T) {
	t.Parallel()
	for protocol, want := range map[string]bool{config.ProbeLDAP: true, config.ProbeTLS: false} {
		conn, err := dial(t.Context(), serve(t, func(_ int, c net.Conn) { forever(c, "hello") }))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		tickets{conn, protocol}.Put("", nil)
		if _, err := conn.Read(make([]byte, 1)); (err == nil) != want {
			t.Errorf("%s: after a ticket a read ends with %v", protocol, err)
		}
	}
}

func TestServerName(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ address, name, want string }{
		{"127.0.0.1:443", "", ""},
		{"[::1]:443", "", ""},
		{"[fe80::1%eth0]:443", "", ""},
		{"unix:/run/x:y.sock", "", ""},
		{"localhost:443", "", "localhost"},
		{"pcs.nhs.uk.:443", "", "pcs.nhs.uk"},
		{"127.0.0.1:443", ownName, ownName},
		{"unix:/run/x.sock", ownName, ownName},
		{"localhost:443", ownName, ownName},
		{"localhost:443", "10.0.0.1", ""},
	} {
		if got := serverName(config.Probe{Address: tc.address, ServerName: tc.name}); got != tc.want {
			t.Errorf("%s with %q asks for %q, want %q", tc.address, tc.name, got, tc.want)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	root := testpki.NewRoot(t, testpki.Name("Root"))
	upper := root.SubCA(t, testpki.Name("Upper"))
	sub := upper.SubCA(t, testpki.Name("Sub"))
	leaf, other, stranger := sub.Issue(t, testpki.DNS(ownName)), sub.Issue(t, testpki.DNS(otherName)), testpki.NewRoot(t, testpki.Name("Stranger"))
	chain := func(certs ...*x509.Certificate) []*x509.Certificate { return certs }
	l, s, u := leaf.Cert, sub.Cert, upper.Cert
	others := chain(root.Cert, s, u)
	for name, tc := range map[string]struct {
		seen, want   []*x509.Certificate
		reason, text string
	}{
		"as delivered":         {chain(l, s, u), chain(l, s, u), "", ""},
		"and the root":         {chain(l, s, u, root.Cert), chain(l, s, u), "", ""},
		"leaf delivered":       {chain(l), chain(l), "", ""},
		"chain of its own":     {chain(l, u, s), chain(l), "", ""},
		"nothing wanted":       {chain(other.Cert, stranger.Cert), nil, "", ""},
		"nothing":              {nil, chain(l), failure.WrongCertificate, "serves no certificate"},
		"another leaf":         {chain(other.Cert, s, u), chain(l, s, u), failure.WrongCertificate, other.Cert.SerialNumber.Text(16)},
		"the CA first":         {chain(s, l, u), chain(l, s, u), failure.WrongCertificate, `"CN=Sub"`},
		"no chain":             {chain(l), chain(l, s, u), failure.WrongChain, `without "CN=Sub"`},
		"end missing":          {chain(l, s), chain(l, s, u), failure.WrongChain, `without "CN=Upper"`},
		"begin missing":        {chain(l, u), chain(l, s, u), failure.WrongChain, `but "CN=Upper"`},
		"out of order":         {chain(l, u, s), chain(l, s, u), failure.WrongChain, `without "CN=Sub"`},
		"a stranger":           {chain(l, s, u, stranger.Cert), chain(l, s, u), failure.WrongChain, `still serves "CN=Stranger"`},
		"a stranger to a leaf": {chain(l, stranger.Cert), chain(l), failure.WrongChain, `still serves "CN=Stranger"`},
		"the leaf twice":       {chain(l, l, s, u), chain(l, s, u), failure.WrongChain, `without "CN=Sub"`},
	} {
		err := Match(Seen{Address: "127.0.0.1:443", Chain: tc.seen}, Want{Chain: tc.want, Others: others})
		if tc.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		is(t, err, tc.reason, tc.text)
	}
}

// What a service serves may be anything: it does not fill the log.
func TestMatchClips(t *testing.T) {
	t.Parallel()
	sub, own, _ := small(t)
	long := make([]byte, 10_000)
	for i := range long {
		long[i] = 'x'
	}
	shown := sub.Issue(t, testpki.Name(string(long)), testpki.NoSAN())
	shown.Cert.SerialNumber.Lsh(shown.Cert.SerialNumber, 100_000)
	err := Match(Seen{Address: "127.0.0.1:443", Chain: []*x509.Certificate{shown.Cert}}, wants(t, own))
	is(t, err, failure.WrongCertificate, "xxx...")
	if n := len(err.Error()); n > 700 {
		t.Errorf("an error of %d bytes", n)
	}
}
