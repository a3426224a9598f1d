package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/web/browser"
)

const watcherName = "monitor.thirdparty.nhs.uk"

// pagesHost is a daemon whose pages are TLS-MA, and who may look.
func pagesHost(t *testing.T) (h *host, leaf, watcher *testpki.Leaf) {
	h, leaf = simpleHost(t)
	watcher = h.issue(watcherName)
	h.revocation()
	h.configure(requireCRLs, providerSlot, inbound(backend(t)))
	h.pagesFor("pcs", watcherName)
	return h, leaf, watcher
}

func (h *host) issue(name string, opts ...testpki.Option) *testpki.Leaf {
	return h.sub.Issue(h.t, append([]testpki.Option{testpki.Name(name), testpki.DNS(name)}, opts...)...)
}

// pagesFor makes the pages TLS-MA in the configuration.
func (h *host) pagesFor(slot, peer string) {
	h.t.Helper()
	data, err := os.ReadFile(h.path("spinecert.yaml"))
	if err != nil {
		h.t.Fatal(err)
	}
	plain := fmt.Sprintf(`http: {listen: "%s"}`, h.web)
	if !strings.Contains(string(data), plain) {
		h.t.Fatalf("%s", data)
	}
	h.write("spinecert.yaml", []byte(strings.Replace(string(data), plain, fmt.Sprintf(`http: {listen: "%s", slot: %s, peers: [%s]}`, h.web, slot, peer), 1)), 0o600)
}

// looker is a client of the pages with this certificate, nil for none.
func (h *host) looker(leaf *testpki.Leaf, change ...func(*tls.Config)) *http.Client {
	c := &tls.Config{RootCAs: h.pool(), ServerName: providerName}
	if leaf != nil {
		own := leaf.TLS() // also where no acceptable CA matches
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	for _, f := range change {
		f(c)
	}
	tr := &http.Transport{TLSClientConfig: c, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", h.web)
	}}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func (h *host) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(h.root.Cert)
	return pool
}

// look asks for a page by the name of the certificate.
func look(c *http.Client, path string) (int, string, error) {
	status, _, body, err := fetch(c, "https://"+providerName+path)
	return status, body, err
}

// looks waits until somebody sees the pages.
func (h *host) looks(c *http.Client) {
	h.t.Helper()
	h.until("the pages answer", func() bool {
		status, _, err := look(c, "/readyz")
		return err == nil && status == 200
	})
}

// refusedAtPages waits until a refusal at the pages is remembered.
func (h *host) refusedAtPages(result, reason, name string) {
	h.t.Helper()
	h.until(result+" "+reason+" "+name, func() bool {
		all, err := h.client.Refusals(context.Background())
		return err == nil && slices.ContainsFunc(all, func(r admin.Refusal) bool {
			return r.Tunnel == webName && r.Result == result && r.Reason == reason && (name == "" || r.Name == name)
		})
	})
}

func TestPagesForPeers(t *testing.T) {
	t.Parallel()
	h, leaf, watcher := pagesHost(t)
	stranger := h.issue("stranger.thirdparty.nhs.uk")
	withdrawn := h.issue(watcherName)
	late := h.issue(watcherName, testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)))
	far, _ := foreign(t, watcherName)
	h.revocation(withdrawn)
	h.start()
	c := h.looker(watcher)
	h.looks(c)
	for path, want := range map[string]string{"/": "<main", "/status.json": `"schema":1`, "/metrics": "spinecert_slot_ready", "/healthz": "ok"} {
		if status, body, err := look(c, path); err != nil || status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %v %.100q", path, status, err, body)
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		only := func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }
		if status, _, err := look(h.looker(watcher, only), "/"); err != nil || status != 200 {
			t.Errorf("%s: %d %v", tls.VersionName(version), status, err)
		}
		for reason, who := range map[string]*testpki.Leaf{"not_listed": stranger, "revoked": withdrawn, "expired": late, "unknown_issuer": far, "no_certificate": nil} {
			if status, body, err := look(h.looker(who, only), "/"); err == nil {
				t.Errorf("%s, %s: %d %.100q", tls.VersionName(version), reason, status, body)
			}
			h.refusedAtPages("refused", reason, "")
		}
	}
	if status, _, err := look(h.looker(watcher, func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }), "/"); err != nil || status != 200 {
		t.Errorf("with HTTP/2 on offer: %d %v", status, err)
	}
	h.logged("handshake_refused", "tunnel="+webName, "reason=not_listed")

	for host, want := range map[string]int{providerName: 200, providerName + ":1": 200, h.web: 200, "localhost": 421, "evil.example": 421, "127.0.0.1": 421} {
		for _, path := range []string{"/", "/metrics"} {
			r, err := http.NewRequest(http.MethodGet, "https://"+providerName+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s by %s: %d, want %d", path, host, res.StatusCode, want)
			}
		}
	}

	// Without TLS there is nothing.
	conn, err := net.Dial("tcp", h.web)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+providerName+"\r\n\r\n")
	if got, _ := io.ReadAll(conn); strings.Contains(string(got), "<html") || strings.Contains(string(got), "200 OK") {
		t.Errorf("%q", got)
	}
	_ = conn.Close()

	// The next certificate is served to the next connection.
	next := h.identity("pcs", providerName)
	h.until("the next certificate is served", func() bool {
		conn, err := tls.Dial("tcp", h.web, &tls.Config{RootCAs: h.pool(), ServerName: providerName, Certificates: []tls.Certificate{watcher.TLS()}})
		if err != nil {
			return false
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Equal(next.Cert)
	})
	if next.Cert.Equal(leaf.Cert) {
		t.Fatal("it is the old one")
	}
}

// stream opens the events of the pages. ended is closed when they end.
func stream(t *testing.T, c *http.Client) (ended <-chan struct{}) {
	t.Helper()
	c.Timeout = 0
	res, err := c.Get("https://" + providerName + "/events")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	r := bufio.NewReader(res.Body)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, r); close(done) }()
	return done
}

func TestPagesCutWhoMayLookNoLonger(t *testing.T) {
	t.Parallel()
	h, _, watcher := pagesHost(t)
	second := h.issue(watcherName)
	h.start()
	first, other := h.looker(watcher), h.looker(second)
	h.looks(first)
	h.looks(other)
	cut, stays := stream(t, first), stream(t, other)
	h.revocation(watcher)
	await(t, "the stream of who was revoked ends", cut)
	h.refusedAtPages("cut", "revoked", watcherName)
	if status, _, err := look(first, "/"); err == nil {
		t.Errorf("who was revoked sees the page: %d", status)
	}
	if status, _, err := look(other, "/"); err != nil || status != 200 {
		t.Errorf("another with the same name: %d %v", status, err)
	}
	select {
	case <-stays:
		t.Error("another was cut as well")
	default:
	}
	h.reconfigure("peers: ["+watcherName+"]", "peers: [other.thirdparty.nhs.uk]")
	await(t, "the stream of who is named no longer ends", stays)
	h.refusedAtPages("cut", "not_listed", watcherName)
	if status, _, err := look(other, "/"); err == nil {
		t.Errorf("who is named no longer sees the page: %d", status)
	}
	h.looks(h.looker(h.issue("other.thirdparty.nhs.uk")))
}

func await(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("waited in vain: " + what)
	}
}

func TestPagesOpenWithTheirSlot(t *testing.T) {
	t.Parallel()
	h, leaf, watcher := pagesHost(t)
	for _, name := range []string{"pcs.crt", "pcs.key"} {
		if err := os.Remove(h.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	c := h.looker(watcher)
	if status, _, err := look(c, "/"); err == nil {
		t.Errorf("without an identity: %d", status)
	}
	h.put("pcs", leaf)
	h.looks(c)
	// What is connected ends at once when the daemon does, and the daemon does not wait for it.
	ended := stream(t, c)
	began := time.Now()
	if code := h.stop(sigTerm); code != 0 {
		t.Errorf("exit status %d", code)
	}
	await(t, "the stream ends with the daemon", ended)
	if took := time.Since(began); took > patience/2 {
		t.Errorf("the end took %v", took)
	}
}

// TestPagesChangeKindWithAStart: who is connected speaks the one or the other.
func TestPagesChangeKindWithAStart(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.start()
	h.pagesFor("pcs", watcherName)
	_, err := h.client.Reload(context.Background())
	if err == nil || !strings.Contains(fmt.Sprint(err.(*admin.Error).Problems), "admin.http.slot") {
		t.Errorf("%v", err)
	}
	if status, _ := h.get("/healthz"); status != 200 {
		t.Errorf("meanwhile: %d", status)
	}
}

// TestPageOfARunningDaemon is the page in Chromium, while a certificate is replaced.
func TestPageOfARunningDaemon(t *testing.T) {
	h, _ := simpleHost(t)
	h.start()
	page := browser.Start(t).Open(t, browser.Look{Width: 1200, Height: 900})
	page.Go("http://" + h.web + "/")
	page.Wait(`document.getElementById("live").textContent === "live"`)
	page.Wait(`document.querySelector("#slots tbody").textContent.includes("1 generation")`)
	h.identity("pcs", providerName)
	page.Wait(`document.querySelector("#slots tbody").textContent.includes("2 generations")`)
	if c := page.Complaints(); len(c) > 0 {
		t.Error(c)
	}
	var status struct{ Status admin.Status }
	if _, body := h.get("/status.json"); json.Unmarshal([]byte(body), &status) != nil || len(status.Status.Slots) != 1 || len(status.Status.Slots[0].Timeline) != 2 {
		t.Errorf("%s", body)
	}
}

// TestPicturesOfADaemon writes pictures of the page of a daemon to the directory SPINECERT_SCREENSHOTS.
func TestPicturesOfADaemon(t *testing.T) {
	dir := os.Getenv("SPINECERT_SCREENSHOTS")
	if dir == "" {
		t.Skip("SPINECERT_SCREENSHOTS names no directory")
	}
	h := newHost(t)
	h.identity("peer", peerName)
	h.revocation()
	lives := []int{400, 5, 610, 23, 1050, 71, 800, 312, 455, 530, 260, 702, 980, 188, 640, 871, 365, 150, 1010, 590}
	names := strings.Fields("pcs pds eps scr mesh ers sds dos nrl bars gp-connect gp2gp lab-results imms referrals appointments directory audiology pathology radiology")
	slots, tunnels := "", ""
	issue := func(i int, since int) {
		now := time.Now()
		h.put(names[i], h.issue(names[i]+".thirdparty.nhs.uk", testpki.Validity(now.Add(-time.Duration(since)*24*time.Hour), now.Add(time.Duration(lives[i])*24*time.Hour+time.Hour))))
	}
	for i, name := range names {
		issue(i, max(1095-lives[i], 30))
		slots += fmt.Sprintf("  %s: {fqdn: %s.thirdparty.nhs.uk, files: {certificate: %s.crt, key: %s.key}, affects: {ods: [T99999], asids: [\"%012d\"]}}\n", name, name, name, name, 200000000000+i)
		tunnels += fmt.Sprintf("  %s-in: {direction: inbound, listen: [\"%s\"], forward: \"127.0.0.1:9\", slot: %s, peers: [%s]}\n", name, freeAddress(t), name, peerName)
	}
	b := browser.Start(t)
	shoot := func(n int) {
		h.start()
		for _, l := range []browser.Look{{Width: 1400, Height: 1000}, {Width: 1400, Height: 1000, Dark: true}, {Width: 390, Height: 844}, {Width: 390, Height: 844, Dark: true}} {
			page := b.Open(t, l)
			page.Go("http://" + h.web + "/")
			page.Wait(`document.getElementById("live").textContent === "live"`)
			page.Screenshot(fmt.Sprintf("%s/daemon-%d-%d-dark-%v.png", dir, n, l.Width, l.Dark), true)
			if c := page.Complaints(); len(c) > 0 {
				t.Error(c)
			}
			page.Close()
		}
		h.stop(sigTerm)
	}
	h.configure(requireCRLs, strings.SplitAfter(slots, "\n")[0], strings.SplitAfter(tunnels, "\n")[0])
	shoot(1)
	h.configure(requireCRLs, slots, tunnels)
	h.start()
	for i := range names {
		if i%3 == 0 {
			issue(i, max(1095-lives[i], 30)-10)
		}
	}
	h.until("rotations", func() bool { return h.slot(names[18]).Generation > 1 })
	h.stop(sigTerm)
	shoot(20)
}

// TestPagesAskForListsLate: a peer whose list nobody has is judged once it has proved its key, and before it sees anything.
func TestPagesAskForListsLate(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	lists := freeAddress(t) // where nobody answers
	h.configure(fmt.Sprintf(`revocation: require, crl: {hosts: ["%s"], timeout: 1s}`, lists), providerSlot, inbound(backend(t)))
	h.pagesFor("pcs", watcherName)
	h.start()
	if status, _, err := look(h.looker(h.issue(watcherName, testpki.CDP("http://"+lists+"/sub.crl"))), "/"); err == nil {
		t.Errorf("without a list: %d", status)
	}
	h.refusedAtPages("refused", "crl_unavailable", watcherName)
}
