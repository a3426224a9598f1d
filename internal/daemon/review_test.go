package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// open is a connection of a peer that stays, and answers as long as it is let.
type open struct {
	*tls.Conn
	client *http.Client
}

// keepOpen connects as the identity in name.crt, and uses the connection once.
func (h *host) keepOpen(address, name string) *open {
	h.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, h.clientConfig(name))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	o := &open{Conn: c}
	dials := 0
	o.client = &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		if dials++; dials > 1 {
			return nil, fmt.Errorf("the connection of %s has ended", name)
		}
		return c, nil
	}}}
	if err := o.use(); err != nil {
		h.t.Fatalf("%s: %v", name, err)
	}
	return o
}

// use sends a request through the one connection.
func (o *open) use() error {
	res, err := o.client.Get("http://peer/")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

func (h *host) refusals() []admin.Refusal {
	h.t.Helper()
	r, err := h.client.Refusals(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// refusal waits until a refusal with this result and reason is remembered.
func (h *host) refusal(result, reason string) admin.Refusal {
	h.t.Helper()
	var found admin.Refusal
	h.until("a refusal "+result+" "+reason+" is remembered", func() bool {
		for _, r := range h.refusals() {
			if r.Result == result && r.Reason == reason {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// audited waits for a line of the audit file that has all the words.
func (h *host) audited(words ...string) {
	h.t.Helper()
	h.until("the audit file has a line with "+strings.Join(words, " "), func() bool {
		data, _ := os.ReadFile(h.path("state/audit.jsonl"))
	line:
		for _, l := range strings.Split(string(data), "\n") {
			for _, w := range words {
				if !strings.Contains(l, w) {
					continue line
				}
			}
			return true
		}
		return false
	})
}

const cutSeries = `spinecert_tunnel_connections_cut_total{reason="%s",tunnel="ssp-in"}`

// reviewHost has a tunnel for two peers, judged by CRLs, and both connected.
func reviewHost(t *testing.T) (h *host, peer, other *testpki.Leaf) {
	h = newHost(t)
	h.identity("pcs", providerName)
	peer, other = h.identity("peer", peerName), h.identity("other", "other.nhs.uk")
	h.revocation()
	h.configure(requireCRLs, providerSlot, strings.Replace(inbound(backend(t)), peerName, peerName+", other.nhs.uk", 1))
	h.start()
	return h, peer, other
}

func TestRevokedPeerIsCut(t *testing.T) {
	t.Parallel()
	h, peer, _ := reviewHost(t)
	address := h.listen("ssp-in")
	revoked, stays := h.keepOpen(address, "peer"), h.keepOpen(address, "other")
	h.revocation(peer)
	if _, err := revoked.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of a revoked peer sends something")
	}
	if err := stays.use(); err != nil {
		t.Errorf("the other peer: %v", err)
	}
	h.until("it is counted", func() bool { return h.metric(fmt.Sprintf(cutSeries, "revoked")) == "1" })
	got := h.refusal(resultCut, "revoked")
	if got.Tunnel != "ssp-in" || got.Count != 1 || got.Name != peerName || got.Serial != peer.Cert.SerialNumber.Text(16) || got.Issuer != h.sub.Cert.Subject.CommonName ||
		got.Peer != revoked.LocalAddr().String() || got.Rule != "SPINE.md, 2: not revoked" || !strings.Contains(got.Message, "was revoked by") || got.Hint == "" {
		t.Errorf("remembered as %+v", got)
	}
	h.logged("event=connection_cut", "tunnel=ssp-in", "reason=revoked", "name="+peerName, "serial="+got.Serial, "peer="+got.Peer, "rule=", "hint=", "was revoked by")
	h.audited(`"event":"connection_cut"`, `"reason":"revoked"`, `"tunnel":"ssp-in"`, `"peer":"`+got.Peer+`"`, `"name":"`+peerName+`"`, `"serial":"`+got.Serial+`"`, `"rule":`, `"hint":`)
	if err := h.dial(address, "peer"); err == nil {
		t.Error("a revoked peer connects again")
	}
	if r := h.refusal("refused", "revoked"); r.Name != peerName {
		t.Errorf("remembered as %+v", r)
	}
	for _, tunnel := range h.status().Tunnels {
		if tunnel.LastRefusedReason != "revoked" || tunnel.LastRefused.IsZero() || tunnel.LastAccepted.IsZero() {
			t.Errorf("status: %+v", tunnel)
		}
	}
}

func TestReloadCutsWhoIsPermittedNoLonger(t *testing.T) {
	t.Parallel()
	h, _, _ := reviewHost(t)
	address := h.listen("ssp-in")
	removed, stays := h.keepOpen(address, "other"), h.keepOpen(address, "peer")
	h.reconfigure(peerName+", other.nhs.uk", peerName)
	if _, err := removed.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of a peer that was removed sends something")
	}
	if err := stays.use(); err != nil {
		t.Errorf("the other peer: %v", err)
	}
	if r := h.refusal(resultCut, "not_listed"); r.Name != "other.nhs.uk" {
		t.Errorf("remembered as %+v", r)
	}
}

// A trust file that is torn, gone or lacks a CA disconnects nobody.
func TestTornBundleCutsNobody(t *testing.T) {
	t.Parallel()
	h, _, _ := reviewHost(t)
	c := h.keepOpen(h.listen("ssp-in"), "peer")
	good := mustRead(t, h.path("trust.pem"))
	for name, bad := range map[string][]byte{"half": good[:len(good)/2], "empty": {}, "a root alone": h.root.BundlePEM(), "noise": []byte("noise")} {
		h.write("trust.pem", bad, 0o644)
		h.until(name+" is seen", func() bool { return h.status().Environments[0].LastError != "" })
		if err := c.use(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		h.write("trust.pem", good, 0o644)
		h.until("all is well again", func() bool { return h.status().Environments[0].LastError == "" })
	}
	if err := c.use(); err != nil {
		t.Error(err)
	}
	for _, r := range h.refusals() {
		if r.Result == resultCut {
			t.Errorf("cut: %+v", r)
		}
	}
}

// Time alone ends a connection, too.
func TestExpiredPeerIsCut(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.identity("pcs", providerName)
	h.identity("peer", peerName, testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(3*time.Second)))
	h.configure(`revocation: "off"`, providerSlot, inbound(backend(t)))
	h.start()
	c := h.keepOpen(h.listen("ssp-in"), "peer")
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of an expired peer sends something")
	}
	h.refusal(resultCut, "expired")
}

// A flood of refusals is counted to the last one, and neither fills the log nor
// pushes out what else was refused.
func TestFloodOfRefusals(t *testing.T) {
	t.Parallel()
	h, _, _ := reviewHost(t)
	h.identity("stranger", "stranger.nhs.uk")
	address := h.listen("ssp-in")
	if err := h.dial(address, "stranger"); err == nil {
		t.Fatal("a stranger is let in")
	}
	const flood = 300
	for i := range flood {
		c, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /%d HTTP/1.0\r\n\r\n", i)
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	h.counted("ssp-in", "failed", "protocol", flood)
	if r := h.refusal("failed", "protocol"); r.Count != flood || r.Hint == "" || r.Rule == "" || r.Name != "" {
		t.Errorf("remembered as %+v", r)
	}
	if r := h.refusal("refused", "not_listed"); r.Name != "stranger.nhs.uk" {
		t.Errorf("remembered as %+v", r)
	}
	h.logged("event=refusals_suppressed", "tunnel=ssp-in", "suppressed=")
	if n := strings.Count(h.output.String(), "event=handshake_"); n > 4*logLines {
		t.Errorf("%d lines for %d refusals", n, flood)
	}
	if n := strings.Count(string(mustRead(t, h.path("state/audit.jsonl"))), `"reason":"protocol"`); n != 1 {
		t.Errorf("%d audit lines for refusals that are alike", n)
	}
	if h.metric(`spinecert_refusal_lines_suppressed_total{tunnel="ssp-in"}`) == "" {
		t.Error("what was not logged is not counted")
	}
}

// A review is asked for by what can end a connection, and waited for by nothing.
func TestWhatWakesTheReview(t *testing.T) {
	t.Parallel()
	d := newFleet(t, 1)
	state := d.keeper.Environments()[0].Trust()
	for name, tc := range map[string]struct {
		do   func()
		want int
	}{
		"trust":         {func() { d.onRotate(rotate.Event{Kind: rotate.EventTrustChanged, Environment: "live", Trust: state}) }, 1},
		"trust, often":  {func() { d.wakeReview(); d.wakeReview(); d.wakeReview() }, 1},
		"configuration": {func() { _ = d.commit(d.config, nil, nil) }, 1},
		"a rotation":    {func() { d.onRotate(rotate.Event{Kind: rotate.EventPending, Slot: "slot-0"}) }, 0},
	} {
		for len(d.changed) > 0 {
			<-d.changed
		}
		tc.do()
		if n := len(d.changed); n != tc.want {
			t.Errorf("%s: %d reviews are due, want %d", name, n, tc.want)
		}
	}
}

// What is written of lists that are fetched is little: a new list, and each cause once.
func TestFetchesAreToldOnce(t *testing.T) {
	t.Parallel()
	root := testpki.NewRoot(t)
	crl, err := trust.ReadCRL(root.CRL(t), "http://crl.example/1.crl", []*x509.Certificate{root.Cert})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		e       rotate.Event
		level   slog.Level
		audited bool

		stands, refuses bool
		says            string
	}{
		"new":                      {rotate.Event{Result: rotate.CRLFetched, CRL: crl}, slog.LevelInfo, false, false, false, "new CRL in force"},
		"unchanged":                {rotate.Event{Result: rotate.CRLUnchanged}, slog.LevelDebug, false, true, true, "as it was"},
		"failed":                   {rotate.Event{Result: rotate.CRLFailed, Err: broken}, slog.LevelWarn, false, true, true, "what is in force stays"},
		"failed as before":         {rotate.Event{Result: rotate.CRLFailed, Err: broken, Repeated: true}, slog.LevelDebug, false, true, true, "what is in force stays"},
		"nothing there, refused":   {rotate.Event{Result: rotate.CRLFailed, Err: broken}, slog.LevelError, false, false, true, "none is in force in its place; peers that need it are refused"},
		"nothing there, as before": {rotate.Event{Result: rotate.CRLFailed, Err: broken, Repeated: true}, slog.LevelDebug, false, false, true, "none is in force"},
		"nothing there, accepted":  {rotate.Event{Result: rotate.CRLFailed, Err: broken}, slog.LevelWarn, false, false, false, "none is in force in its place"},
		"a lie":                    {rotate.Event{Result: rotate.CRLRefused, Err: broken}, slog.LevelWarn, true, true, false, "what is in force stays"},
		"the same lie":             {rotate.Event{Result: rotate.CRLRefused, Err: broken, Repeated: true}, slog.LevelDebug, false, true, false, "what is in force stays"},
	} {
		tc.e.Kind = rotate.EventCRLFetch
		if level, text, _ := sayFetch(tc.e, tc.stands, tc.refuses); level != tc.level || !strings.Contains(text, tc.says) {
			t.Errorf("%s: %s %q, want %s", name, level, text, tc.level)
		}
		if got := audited(tc.e); got != tc.audited {
			t.Errorf("%s: audited %t", name, got)
		}
	}
	if audited(rotate.Event{Kind: rotate.EventTrustChanged, CRLsOnly: true}) || !audited(rotate.Event{Kind: rotate.EventTrustChanged}) {
		t.Error("other CRLs are an audit line, or another bundle is none")
	}
}
