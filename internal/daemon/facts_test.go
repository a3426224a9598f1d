package daemon

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
)

// TestFactsAreOneScrape: each series is there once. Two conditions of one code and
// subject are one series.
func TestFactsAreOneScrape(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := newFleet(t, 3, testpki.Validity(now.Add(-time.Hour), now.AddDate(0, 1, 15)))
	for range 2 { // the second time from memory
		w := httptest.NewRecorder()
		d.webServer().Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil))
		body, _ := io.ReadAll(w.Body)
		parsed(t, string(body))
		for _, series := range []string{
			`spinecert_slot_ready{slot="slot-1"} 1`,
			`spinecert_slot_generation{slot="slot-2"} 1`,
			`spinecert_slot_pending_since_timestamp_seconds{slot="slot-0"} 0`,
			`spinecert_certificate_not_after_timestamp_seconds{position="leaf",slot="slot-0"} [1-9]\S+`,
			`spinecert_certificate_not_after_timestamp_seconds{position="subca",slot="slot-0"} [1-9]\S+`,
			`spinecert_certificate_not_after_timestamp_seconds{position="root",slot="slot-2"} [1-9]\S+`,
			`spinecert_request_pending_since_timestamp_seconds{slot="slot-1"} [1-9]\S+`,
			`spinecert_condition_active{condition="ca_expiring",severity="warning",subject="live"} 1`,
			`spinecert_condition_active{condition="request_pending",severity="warning",subject="slot-2"} 1`,
			`spinecert_slot_last_rotation_successful{slot="slot-2"} 1`,
			`spinecert_slot_last_rotation_success_timestamp_seconds{slot="slot-2"} [1-9]\S+`,
			`spinecert_state_writable 1`,
			`# TYPE spinecert_slot_ready gauge`,
		} {
			if n := len(regexp.MustCompile(`(?m)^`+strings.NewReplacer("{", `\{`, "}", `\}`).Replace(series)+`$`).FindAll(body, -1)); n != 1 {
				t.Errorf("%s is there %d times, in\n%s", series, n, body)
			}
		}
		if n := len(regexp.MustCompile(`(?m)^spinecert_environment_ca_not_after_timestamp_seconds{`).FindAll(body, -1)); n != 2 {
			t.Errorf("%d CAs, want 2", n)
		}
	}
}

// TestRotationsAreKept: a refusal keeps when the slot last published, what left the
// configuration is forgotten, and what a scrape holds does not change.
func TestRotationsAreKept(t *testing.T) {
	t.Parallel()
	m := newMetrics("test")
	at := time.Unix(1_700_000_000, 0)
	m.notRotated("new", "refused", "expired")
	m.rotated("pcs", time.Second, at)
	m.notRotated("pcs", "refused", "expired")
	m.notRotated("pcs", "pending", "expired")
	m.notRotated("pcs", "refused", "older")
	m.restored("gone", at)
	m.forgetSlot("gone")
	before := m.rotations.all()
	m.notRotated("pcs", "refused", "expired")
	m.cleared("pcs")
	one, two := outcomes{"refused", "expired", 1}, outcomes{"refused", "expired", 2}
	rest := []outcomes{{"pending", "expired", 1}, {"refused", "older", 1}}
	want := map[string]rotated{"new": {false, 0, []outcomes{one}}, "pcs": {false, 1_700_000_000, append([]outcomes{{"published", "", 1}, one}, rest...)}}
	if fmt.Sprint(before) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", before, want)
	}
	want["pcs"] = rotated{true, 1_700_000_000, append([]outcomes{{"published", "", 1}, two}, rest...)}
	if after := m.rotations.all(); fmt.Sprint(after) != fmt.Sprint(want) {
		t.Errorf("cleared: %v, want %v", after, want)
	}
}

// TestRotationClears: what is put back is good again, and was published when it was.
func TestRotationClears(t *testing.T) {
	t.Parallel()
	h, first := simpleHost(t)
	h.start()
	h.serves("ssp-in", first)
	const good, since = `spinecert_slot_last_rotation_successful{slot="pcs"}`, `spinecert_slot_last_rotation_success_timestamp_seconds{slot="pcs"}`
	published, before := h.metric(since), mustRead(t, h.path("pcs.crt"))
	h.write("pcs.crt", []byte("nonsense"), 0o644)
	h.until("it is not good", func() bool { return h.metric(good) == "0" })
	h.write("pcs.crt", before, 0o644)
	h.until("it is good again", func() bool { return h.metric(good) == "1" })
	if at := h.metric(since); at != published || at == "" {
		t.Errorf("published at %s, not at %s", at, published)
	}
}

// TestAdviseEmpty: of several requests the newest is named, and only for a slot
// that is managed and has nothing.
func TestAdviseEmpty(t *testing.T) {
	t.Parallel()
	slots := []admin.Slot{
		{Name: "empty", Managed: true, State: "empty", Hint: "ask"}, {Name: "files", State: "empty", Hint: "ask"},
		{Name: "serves", Managed: true, State: "ready"}, {Name: "alone", Managed: true, State: "empty", Hint: "ask"},
	}
	var requests []admin.Request
	for i, slot := range []string{"empty", "files", "serves", "empty", "gone"} {
		requests = append(requests, admin.Request{ID: fmt.Sprintf("id-%d", i), Slot: slot})
	}
	adviseEmpty(slots, requests)
	if h := slots[0].Hint; !strings.HasPrefix(h, "request id-3 waits") || !strings.Contains(h, "csr show --mail id-3") {
		t.Errorf("hint %q", h)
	}
	if slots[1].Hint != "ask" || slots[2].Hint != "" || slots[3].Hint != "ask" {
		t.Errorf("hints %+v", slots[1:])
	}
}
