package services

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

// visitor asks a web server on a new connection each time, with a certificate, and
// resumes the session of before where the server lets it.
type visitor struct {
	h         *host
	address   string
	transport *http.Transport
}

func (h *host) visitor(address string, leaf *testpki.Leaf) *visitor {
	config := h.clientTLS(ownName)
	config.Certificates = []tls.Certificate{leaf.TLS()}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return &visitor{h, address, &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
}

// ask reports whether the visitor was answered, by the backend, and whether that was on a
// session of before.
func (v *visitor) ask() (answered, resumed bool) {
	v.h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+v.address+"/", nil)
	if err != nil {
		v.h.t.Fatal(err)
	}
	res, err := v.transport.RoundTrip(req)
	if err != nil {
		return false, false
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return err == nil && res.StatusCode == http.StatusOK && string(body) == backendAnswer+"/", res.TLS.DidResume
}

// What becomes of a session that began before its certificate was revoked.
const (
	ended = "ended" // it is not resumed
	stays = "stays" // it is resumed, and nobody looks at the certificate again
	never = "never" // none is ever resumed
)

// revokes has a certificate revoked while everything else stays as it is: the set is
// delivered again, and the program refuses the certificate, but for what is said of sessions.
func (p program) revokes(h *host, sessions string) {
	h.t.Helper()
	address, _ := p.serve(h)
	doomed, good := h.issue("doomed.thirdparty.nhs.uk"), h.visitor(address, h.peer)
	session, other := h.visitor(address, doomed), h.visitor(address, doomed)
	if ok, _ := session.ask(); !ok {
		h.t.Fatal("a certificate that is not revoked is refused")
	}
	if ok, resumed := session.ask(); !ok || resumed != (sessions != never) {
		h.t.Fatalf("answered: %v, on a session of before: %v; it was thought of sessions: %s", ok, resumed, sessions)
	}
	before := h.service(p.service).Delivered
	h.revoke(doomed)
	h.until("the list is delivered", func() bool {
		s := h.service(p.service)
		return s.State == "in_sync" && s.Delivered.Digest != before.Digest && s.Proved.Digest == s.Delivered.Digest
	})
	if now := h.service(p.service).Delivered; now.Generation != before.Generation || now.Leaf != before.Leaf {
		h.t.Errorf("a list is another generation: %+v after %+v", now, before)
	}
	h.settled(p.service, address)
	// The proof sees the certificate, which is the same as before: a signal may be under way still.
	h.until("a certificate that was revoked is refused", func() bool { ok, _ := other.ask(); return !ok })
	if ok, resumed := session.ask(); ok != (sessions == stays) {
		h.t.Errorf("a certificate that was revoked is accepted on a session of before: %v (resumed: %v); it was thought of sessions: %s", ok, resumed, sessions)
	}
	if ok, _ := good.ask(); !ok {
		h.t.Error("a certificate that was not revoked is refused")
	}
}

func TestNginxRevokes(t *testing.T) {
	parallel(t)
	n := newNginx(t, "ecdsa-p256")
	n.program("Without systemd").revokes(n.h, ended)
}

func TestHAProxyRevokesByReload(t *testing.T) {
	parallel(t)
	p := newHAProxy(t, "ecdsa-p256")
	p.bySignal().revokes(p.h, never)
}

func TestHAProxyRevokesBySocket(t *testing.T) {
	parallel(t)
	p := newHAProxy(t, "ecdsa-p256")
	p.bySocket().revokes(p.h, never)
}

// TestHAProxySessions leaves out what the page has against sessions. It is there for a reason.
func TestHAProxySessions(t *testing.T) {
	for _, c := range []struct {
		name     string
		program  func(*haproxy) program
		sessions string
	}{
		{"by socket", func(p *haproxy) program { return p.bySocket() }, stays},
		{"by reload", func(p *haproxy) program { return p.bySignal() }, ended},
	} {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			p := newHAProxy(t, "ecdsa-p256")
			p.page.text = replaced(t, p.page.text, haproxyNoSessions, "")
			c.program(p).revokes(p.h, c.sessions)
		})
	}
}

const haproxyNoSessions = "    tune.ssl.cachesize 0\n    ssl-default-bind-options no-tls-tickets\n"

// TestNginxPartitions says what becomes of CRLs that a CA has cut into parts, each for the
// certificates that name it: nginx looks into the parts that were delivered, and refuses
// everybody whose part is another.
func TestNginxPartitions(t *testing.T) {
	const first, second, third = "http://crl.nhs.uk/1.crl", "http://crl.nhs.uk/2.crl", "http://crl.nhs.uk/3.crl"
	parallel(t)
	n := newNginx(t, "ecdsa-p256")
	h := n.h
	peer := func(part string) *testpki.Leaf {
		return h.sub.Issue(t, h.keys, testpki.DNS(peerName), testpki.CDP(part))
	}
	revoked := peer(second)
	h.write("sub.crl", append(testpki.EncodeCRL(h.sub.CRL(t, testpki.IDP(first))),
		testpki.EncodeCRL(h.sub.CRL(t, testpki.IDP(second), testpki.Revoke(revoked.Cert.SerialNumber)))...), 0o644)
	h.peer = peer(first)
	h.put(h.sub.Issue(t, h.keys, testpki.DNS(ownName), testpki.CDP(first)))
	address, _ := n.program("Without systemd").serve(h)
	for _, c := range []struct {
		name string
		leaf *testpki.Leaf
		want bool
	}{
		{"in the first part", h.peer, true},
		{"in the second part", peer(second), true},
		{"revoked in the second part", revoked, false},
		{"in a part that was not delivered", peer(third), false},
		{"in no part", h.sub.Issue(t, testpki.DNS(peerName)), false},
	} {
		if ok, _ := h.visitor(address, c.leaf).ask(); ok != c.want {
			t.Errorf("a certificate %s is accepted: %v, want %v", c.name, ok, c.want)
		}
	}
}

func TestApacheRevokes(t *testing.T) {
	parallel(t)
	a := newApache(t, "ecdsa-p256")
	a.program("Without systemd").revokes(a.h, ended)
}
