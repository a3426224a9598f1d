package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// TestServiceNginx is the story of one service: delivered, rotated, broken, held, mended.
func TestServiceNginx(t *testing.T) {
	t.Parallel()
	testprogram.Need(t, "nginx")
	h := newHost(t)
	first := h.identity("pcs", providerName)
	n := h.newNginx()
	h.withServices(n.service(""))
	h.start()
	n.start()
	h.until("its first certificate is proved", func() bool { _, err := h.ask(admin.DeliverRequest{Service: "nginx"}); return err == nil })
	h.synced("nginx", first)
	h.until("nginx is in sync for Prometheus", func() bool { return h.metric(`spinecert_service_in_sync{service="nginx"}`) == "1" })

	second := h.identity("pcs", providerName)
	if s := h.synced("nginx", second); !h.leafAt(n.address, second) || s.Generation != 2 || s.Served.Generation != 2 || s.Desired.Digest != s.Proved.Digest {
		t.Errorf("after a rotation: %+v", s)
	}
	if c := h.failedCondition("nginx"); c != nil {
		t.Errorf("a condition: %+v", c)
	}

	// What nginx does not read any more is taken back. The slot keeps its generation.
	h.write("nginx/extra/broken.conf", []byte("nonsense;\n"), 0o644)
	third := h.identity("pcs", providerName)
	h.until("nginx is held", func() bool { return h.service("nginx").State == "held" })
	s := h.service("nginx")
	if s.Generation != 3 || s.Served.Generation != 2 || s.Delivered.Generation != 2 || s.Step != "prove" || s.Reason != "wrong_certificate" ||
		!strings.HasSuffix(s.Hint, "spinecert deliver nginx --now") || h.slot("pcs").Generation != 3 || !h.leafAt(n.address, second) {
		t.Errorf("held: %+v", s)
	}
	c := h.failedCondition("nginx")
	if c == nil || c.Severity != "warning" || !strings.Contains(c.Message, "generation 3 is held; it should serve generation 3 and serves generation 2: prove failed (wrong_certificate): ") ||
		!strings.HasSuffix(c.Hint, "spinecert deliver nginx --now") {
		t.Errorf("condition %+v", c)
	}
	for series, want := range map[string]string{
		`spinecert_service_in_sync{service="nginx"}`:                                                "0",
		`spinecert_service_rollbacks_total{service="nginx"}`:                                        "1",
		`spinecert_service_deliveries_total{result="proved",service="nginx"}`:                       "2",
		`spinecert_service_deliveries_total{result="rolled_back",service="nginx"}`:                  "1",
		`spinecert_condition_active{condition="service_failed",severity="warning",subject="nginx"}`: "1",
	} {
		if got := h.metric(series); got != want {
			t.Errorf("%s is %q, want %s", series, got, want)
		}
	}

	// It is not tried again before somebody says so.
	out, refusal := h.ask(admin.DeliverRequest{Service: "nginx"})
	if refusal == nil || refusal.Code != admin.CodeRefused || refusal.Reason != "wrong_certificate" || out.Service.State != "held" || out.Delivered ||
		!strings.HasPrefix(refusal.Message, "service nginx is held, and stays on generation 2, as generation 3 did not work: ") || !strings.HasSuffix(refusal.Hint, "spinecert deliver nginx --now") {
		t.Errorf("deliver: %+v, %+v", out, refusal)
	}
	if out, refusal = h.ask(admin.DeliverRequest{Service: "nginx", DryRun: true}); refusal != nil || out.Plan == nil || len(out.Plan.Files) != 2 || out.Plan.Files[1].Change != "changed" || len(out.Plan.Steps) != 3 {
		t.Errorf("dry run: %+v, %+v", out.Plan, refusal)
	}
	if err := os.Remove(h.path("nginx/extra/broken.conf")); err != nil {
		t.Fatal(err)
	}
	if out, refusal = h.ask(admin.DeliverRequest{Service: "nginx", Now: true}); refusal != nil || !out.Delivered || out.Service.State != "in_sync" || out.Service.Served.Generation != 3 {
		t.Errorf("deliver --now: %+v, %+v", out, refusal)
	}
	h.synced("nginx", third)
	if !h.leafAt(n.address, third) || h.failedCondition("nginx") != nil {
		t.Error("it is not mended")
	}
	if out, refusal = h.ask(admin.DeliverRequest{Service: "nginx"}); refusal != nil || out.Delivered {
		t.Errorf("nothing to do: %+v, %+v", out, refusal)
	}
	if _, refusal = h.ask(admin.DeliverRequest{Service: "apache"}); refusal == nil || refusal.Code != admin.CodeUnknown {
		t.Errorf("an unknown service: %+v", refusal)
	}

	if code := h.stop(sigTerm); code != 0 { // the audit file is whole then
		t.Errorf("exit status %d", code)
	}
	told := h.auditedOf("nginx")
	at := slices.Index(told, "service_failed 2-3 wrong_certificate")
	want := []string{"service_failed 2-3 wrong_certificate", "service_rolled_back 2-2", "deliver 2-2 failed", "service_delivered 2-3", "deliver 2-3 now", "deliver 3-3"}
	if at < 0 || !slices.Equal(told[at:], want) {
		t.Errorf("the audit file says %q, want %q at the end", told, want)
	}
	if log := h.output.String(); !strings.Contains(log, `event=service_rolled_back service=nginx slot=pcs generation=2 digest=`) || !strings.Contains(log, "event=service_delivered") || !strings.Contains(log, " step=prove reason=wrong_certificate error=") {
		t.Errorf("the log does not tell it:\n%s", log)
	}
}

// TestServiceFollows: a rotation, and other trust, are delivered at once. The poll, which
// would find them as well, comes later than this test may take.
func TestServiceFollows(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	leaf := h.identity("pcs", providerName)
	h.withServices(strings.Replace(h.plainService("app", ""), "files: [", "files: [{format: trust-pem, name: trust.pem}, ", 1))
	late := time.Now().Add(patience)
	h.start()
	h.synced("app", leaf)
	h.synced("app", h.identity("pcs", providerName))
	next := testpki.NewRoot(t, testpki.Name("Next Root"))
	h.write("trust.pem", append(h.sub.BundlePEM(), next.CertPEM()...), 0o644)
	h.until("the next root is delivered", func() bool {
		data, err := os.ReadFile(h.path("app/current/trust.pem"))
		return err == nil && strings.Contains(string(data), string(next.CertPEM()))
	})
	if s := h.service("app"); s.Generation != 2 || s.Reload != "none" || len(s.Probe) != 0 || s.Directory != h.path("app") {
		t.Errorf("%+v", s)
	}
	if time.Now().After(late) {
		t.Error("it was found by the poll, or the host is too slow for this test")
	}
	log := h.output.String()
	if ready := strings.Index(log, "event=ready"); ready < 0 || ready > strings.Index(log, "event=service_delivered") {
		t.Errorf("delivered before READY:\n%s", log)
	}
}

// TestServiceSeriesEnd: what is still told of a service that is gone brings no series back.
func TestServiceSeriesEnd(t *testing.T) {
	t.Parallel()
	d := newFleet(t, 1)
	series := func() (n int) {
		all, err := d.metrics.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if strings.HasPrefix(f.GetName(), "spinecert_service_") {
				n += len(f.GetMetric())
			}
		}
		return n
	}
	told := func(service string) {
		for _, kind := range []deliver.EventKind{deliver.EventDelivered, deliver.EventFailed, deliver.EventRolledBack} {
			d.onDeliver(deliver.Event{Kind: kind, Service: service, Slot: "slot-0"})
		}
	}
	told("gone")
	if n := series(); n != 0 {
		t.Errorf("%d series of a service that is not configured", n)
	}
	with, without := *d.config, *d.config
	with.Services = []config.Service{{Name: "web"}}
	d.config = &with
	told("web")
	if n := series(); n != 4 { // three results, and the roll backs
		t.Errorf("%d series, want 4", n)
	}
	d.forgetSeries(&with, &with)
	if n := series(); n != 4 {
		t.Errorf("%d series of a service that stays, want 4", n)
	}
	d.config = &without
	d.forgetSeries(&with, &without)
	if n := series(); n != 0 {
		t.Errorf("%d series of a service that left", n)
	}
}

// TestServiceKilled: killed while a service reads its files, the daemon goes on with it after the next start.
func TestServiceKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.identity("pcs", providerName)
	reload := h.script("reload", fmt.Sprintf("echo >> %[1]s/began; n=0; while test -e %[1]s/wait && test $n -lt 600; do sleep 0.05; n=$((n+1)); done\ncp -L $SPINECERT_DIRECTORY/current/fullchain.pem %[1]s/read\n", h.dir))
	h.withServices(h.plainService("app", fmt.Sprintf("reload: {exec: [%s]}", reload)))
	h.start()
	h.synced("app", first)

	h.write("wait", nil, 0o644)
	began, _ := os.ReadFile(h.path("began"))
	second := h.identity("pcs", providerName)
	h.until("it reads them", func() bool { now, _ := os.ReadFile(h.path("began")); return len(now) > len(began) })
	if s := h.service("app"); s.State != "delivering" || s.Delivered.Generation != 2 || s.Proved.Generation != 1 {
		t.Errorf("meanwhile: %+v", s)
	}
	h.stop(syscall.SIGKILL)
	if err := os.Remove(h.path("wait")); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.synced("app", second)
	h.until("it has read the second one", func() bool {
		data, _ := os.ReadFile(h.path("read"))
		return string(data) == string(second.FullChainPEM())
	})
	h.stop(sigTerm)
}

// TestServiceHangs: one that hangs holds up nothing: no start, reload or stop, and no other service.
func TestServiceHangs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.identity("pcs", providerName)
	hang := h.script("hang", "exec sleep 600\n")
	hanging := h.plainService("hanging", fmt.Sprintf("validate: {exec: [%s], timeout: 10m}", hang))
	h.withServices(hanging, h.plainService("app", ""))
	h.start()
	h.until("READY was said", func() bool { return strings.Contains(h.output.String(), "event=ready") })
	h.synced("app", first)
	h.synced("app", h.identity("pcs", providerName))
	if s := h.service("hanging"); s.State != "delivering" || s.Waits != "" {
		t.Errorf("it hangs: %+v", s)
	}
	if s := h.status(); !s.Ready || len(s.Conditions) != 1 || s.Conditions[0].Code != "revocation_off" {
		t.Errorf("ready %v, conditions %+v", s.Ready, s.Conditions)
	}

	// Who waits for it is told when there is no time left.
	bounded, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := h.client.Deliver(bounded, admin.DeliverRequest{Service: "hanging"}, 200*time.Millisecond)
	var refusal *admin.Error
	if !errors.As(err, &refusal) || refusal.Code != admin.CodeFailed || refusal.Reason != "timeout" || out.Service.State != "delivering" {
		t.Errorf("deliver: %+v, %v", out, err)
	}

	// A reload brings services and ends them, also one that hangs.
	h.withServices(h.plainService("app", ""), h.plainService("other", ""))
	if _, err := h.client.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.until("other is in sync", func() bool { return h.service("other").State == "in_sync" })
	if s := h.status().Services; len(s) != 2 || s[0].Name != "app" || s[1].Name != "other" {
		t.Errorf("services after a reload: %+v", s)
	}
	if _, err := os.Lstat(h.path("hanging/current")); err != nil {
		t.Errorf("the files of a service that is gone: %v", err)
	}
	h.withServices(hanging, h.plainService("other", ""))
	if _, err := h.client.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, body := h.get("/metrics")
	if strings.Contains(body, `service="app"`) || !strings.Contains(body, `service_deliveries_total{result="proved",service="other"} 1`) || !strings.Contains(body, `service_in_sync{service="hanging"} 0`) {
		t.Errorf("series after app is gone:\n%s", body)
	}
	h.until("it hangs again", func() bool { return h.service("hanging").Delivered.Generation == 2 })
	if code := h.stop(sigTerm); code != 0 { // within patience
		t.Errorf("exit status %d", code)
	}
}
