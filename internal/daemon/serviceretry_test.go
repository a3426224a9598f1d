package daemon

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/admin"
)

// TestConditionWhileRetried: a service that is down has one condition, from the first
// failure on. It does not end with each attempt, or whoever is paged is paged every time.
func TestConditionWhileRetried(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.identity("pcs", providerName)
	attempts := func() int {
		data, _ := os.ReadFile(h.path("attempts"))
		return strings.Count(string(data), "\n")
	}
	// Each attempt takes long enough to be seen.
	reload := h.script("reload", fmt.Sprintf("echo >> %s/attempts\nsleep 0.2\n", h.dir))
	h.withServices(strings.Replace(h.plainService("app", fmt.Sprintf("reload: {exec: [%s]}", reload)), "probe: none", "probe: {address: '127.0.0.1:1', within: 300ms}", 1))
	h.start()
	var first *admin.Condition
	h.until("the first attempt has failed", func() bool { first = h.failedCondition("app"); return first != nil })
	series := `spinecert_condition_active{condition="service_failed",severity="critical",subject="app"}`
	began := attempts()
	h.until("it is tried three times more", func() bool {
		now := h.failedCondition("app")
		if now == nil || !now.Since.Equal(first.Since) || now.Severity != "critical" || !strings.Contains(now.Message, "prove failed (unreachable)") {
			t.Fatalf("after %d attempts: %+v, want since %s", attempts(), now, first.Since)
		}
		if got := h.metric(series); got != "1" {
			t.Fatalf("after %d attempts the metric is %q", attempts(), got)
		}
		if s := h.service("app"); s.State != "failed" || !s.Since.Equal(first.Since) || s.Reason != "unreachable" {
			t.Fatalf("after %d attempts: %+v", attempts(), s)
		}
		return attempts() >= began+3
	})
	if n := strings.Count(h.output.String(), "event=service_failed"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
}
