package daemon

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

// A peer whose list is fetched is cut soon after the authority has published that it
// is revoked. A server that lies, goes back or is gone changes nothing of that.
func TestRevokedByTheServer(t *testing.T) {
	t.Parallel()
	var list atomic.Pointer[[]byte] // what the server has; nil: nothing
	publish := func(der []byte) { list.Store(&der) }
	l := listenTCP(t)
	serving(t, l, func(w http.ResponseWriter, _ *http.Request) {
		if der := list.Load(); der != nil {
			_, _ = w.Write(*der)
			return
		}
		http.Error(w, "gone", http.StatusServiceUnavailable)
	})
	h := newHost(t)
	h.identity("pcs", providerName)
	cdp := testpki.CDP("http://" + l.Addr().String() + "/sub.crl")
	peer, _ := h.identity("peer", peerName, cdp), h.identity("other", "other.nhs.uk", cdp)
	h.write("root.crl", h.root.CRL(t), 0o644)
	old := h.sub.CRL(t)
	publish(old)
	h.configure(fmt.Sprintf(`revocation: require, crl: {files: [root.crl], hosts: ["%s"], refresh: 1s}`, l.Addr()), providerSlot,
		strings.Replace(inbound(backend(t)), peerName, peerName+", other.nhs.uk", 1))
	h.start()
	address := h.listen("ssp-in")
	revoked, stays := h.keepOpen(address, "peer"), h.keepOpen(address, "other")
	fetches := func(result string) bool {
		return h.metric(`spinecert_crl_fetches_total{environment="t",result="`+result+`"}`) != ""
	}
	h.until("the list is fetched", func() bool { return fetches("fetched") })
	h.logged("event=crl_fetch", "level=INFO", "result=fetched", "next_update=")
	publish(h.sub.CRL(t, testpki.Revoke(peer.Cert.SerialNumber)))
	if _, err := revoked.Read(make([]byte, 1)); err == nil {
		t.Error("a peer that the authority has revoked sends something")
	}
	h.refusal(resultCut, "revoked")

	publish(old)
	h.until("an older list is refused", func() bool { return fetches("refused") })
	h.audited(`"event":"crl_fetch"`, `"reason":"crl-number"`)
	publish([]byte("<html>no such list</html>"))
	h.logged("event=crl_fetch", "result=refused", "reason=malformed")
	list.Store(nil)
	h.until("a server without a list is told", func() bool { return fetches("failed") })
	h.logged("event=crl_fetch", "level=WARN", "result=failed", "hint=")
	if err := h.dial(address, "peer"); err == nil {
		t.Error("a revoked peer is let in again, as the server has changed its mind")
	}
	if err := stays.use(); err != nil {
		t.Errorf("the other peer: %v", err)
	}
	if err := h.dial(address, "other"); err != nil {
		t.Errorf("the other peer, anew: %v", err)
	}
	if h.metric(`spinecert_crl_next_update_timestamp_seconds{environment="t",issuer="`+h.sub.Cert.Subject.CommonName+`"}`) == "" {
		t.Error("the end of a fetched list is in no series")
	}
}
