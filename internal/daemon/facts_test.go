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

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
)

// TestFactsAreOneScrape: what is gathered beside the registry is what a registry
// would accept: each series once, its labels sorted. Two conditions of one code and
// subject are one series.
func TestFactsAreOneScrape(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := newFleet(t, 3, testpki.Validity(now.Add(-time.Hour), now.AddDate(0, 1, 15)))
	strict := prometheus.Gatherers{prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		mfs, done, err := facts{d}.Gather()
		done()
		return mfs, err
	}), d.metrics.registry}
	if _, err := strict.Gather(); err != nil {
		t.Error(err)
	}
	for range 2 { // the second time with roots from memory
		w := httptest.NewRecorder()
		d.webServer().Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil))
		body, _ := io.ReadAll(w.Body)
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
