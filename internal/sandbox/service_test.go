package sandbox

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	kmsapi "go.step.sm/crypto/kms/apiv1"
)

// serving answers one connection after the other as it is told: with how many answers,
// before it reads one more request and closes without a word.
func serving(t *testing.T, certificate tls.Certificate, answer string, answers ...int) (address string) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := tls.NewListener(inner, &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12})
	t.Cleanup(func() { l.Close() })
	go func() {
		for _, n := range answers {
			c, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(c)
			for i := 0; ; i++ {
				if _, err := http.ReadRequest(in); err != nil || i == n {
					break
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
			}
			c.Close()
		}
	}()
	return inner.Addr().String()
}

// TestServiceHandshake: a service is judged by what it sends, and by that alone.
func TestServiceHandshake(t *testing.T) {
	t.Parallel()
	now := time.Now()
	create := func(name string) *authority {
		return must(t, func() (*authority, error) {
			return newAuthority(t.Context(), name, ProfileG1, "http://crl.test", kmsapi.ECDSAWithSHA256, now)
		})
	}
	ours, foreign := create("Ours"), create("Foreign")
	issue := func(a *authority, name string) *identity {
		return must(t, func() (*identity, error) { return peerIdentity(a, name, now) })
	}
	bare := issue(ours, serviceName)
	bare.chain = nil
	for _, test := range []struct {
		name, want string
		id         *identity
		unknown    bool
	}{
		{"as it should be", "", issue(ours, serviceName), false},
		{"without its chain", "unknown authority", bare, false},
		{"of another CA", "unknown authority", issue(foreign, serviceName), false},
		{"for another name", "not for", issue(ours, providerName), false},
		{"never written", "", issue(ours, serviceName), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger()
			if !test.unknown {
				l.expect(test.id.leaf, entry{slot: serviceSlot, number: 1})
			}
			v := &service{installed: installed{program: program{name: "nginx"}}, stand: newProxy(l, newCuts(l), ours)}
			v.address = serving(t, test.id.certificateTLS(), "", 0)
			leaf, err := v.look(t.Context())
			if test.want == "" && (err != nil || leaf != fingerprint(test.id.leaf)) {
				t.Errorf("leaf %s, error %v", leaf, err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want one that says %q", err, test.want)
			}
			if total, causes := l.totals(); total.Connections != 1 || total.Failed != map[bool]int64{true: 1}[test.unknown] {
				t.Errorf("books %+v, causes %v", total, causes)
			}
		})
	}
}

// TestServiceSendsAgain: a request on a kept connection that ended before an answer is sent
// again, and counted; on a new one it has failed.
func TestServiceSendsAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ours := must(t, func() (*authority, error) {
		return newAuthority(t.Context(), "Ours", ProfileG2, "http://crl.test", kmsapi.ECDSAWithSHA256, now)
	})
	id := must(t, func() (*identity, error) { return peerIdentity(ours, serviceName, now) })
	l := newLedger()
	l.expect(id.leaf, entry{slot: serviceSlot, number: 1})
	v := &service{installed: installed{program: program{name: "nginx"}}, stand: newProxy(l, newCuts(l), ours)}
	v.address = serving(t, id.certificateTLS(), v.answer(), 1, 2, 0)
	transport := &http.Transport{DialTLSContext: v.dial, MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	for i, want := range []int64{0, 1, 0} { // one answer; none, then two
		if again, err := v.ask(t.Context(), transport); err != nil || again != want {
			t.Errorf("request %d: sent again %d, error %v; want %d", i, again, err, want)
		}
	}
	transport.CloseIdleConnections()
	if again, err := v.ask(t.Context(), transport); err == nil || again != 0 {
		t.Errorf("a new connection that ends without an answer: sent again %d, error %v", again, err)
	}
	v.name = "haproxy"
	v.address = serving(t, id.certificateTLS(), "nginx of the sandbox", 1)
	if _, err := v.ask(t.Context(), &http.Transport{DialTLSContext: v.dial, DisableKeepAlives: true}); err == nil || !strings.Contains(err.Error(), "not its answer") {
		t.Errorf("another answer: error %v", err)
	}
}

// TestLedgerOfServices: each has its own time from which the old leaf is too old.
func TestLedgerOfServices(t *testing.T) {
	now := time.Now()
	ours := must(t, func() (*authority, error) {
		return newAuthority(t.Context(), "Ours", ProfileG2, "http://crl.test", kmsapi.ECDSAWithSHA256, now)
	})
	id := must(t, func() (*identity, error) { return peerIdentity(ours, serviceName, now) })
	l := newLedger()
	l.expect(id.leaf, entry{slot: serviceSlot, number: 1})
	l.confirm("nginx", 2, now)
	l.sawAt("haproxy", serviceSlot, id.leaf, false, now.Add(2*staleAfter))
	if total, causes := l.totals(); total.Failed != 0 {
		t.Errorf("HAProxy has not rotated yet: %v", causes)
	}
	l.sawAt("nginx", serviceSlot, id.leaf, false, now.Add(2*staleAfter))
	if total, causes := l.totals(); total.Failed != 1 || total.Connections != 2 {
		t.Errorf("nginx showed an old leaf: %+v, %v", total, causes)
	}
}
