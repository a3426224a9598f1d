package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/testpki"
)

// hook is where a webhook arrives.
type hook struct {
	address string
	mu      sync.Mutex
	notices []alert.Notice
	ids     []string // of messages, as receivers are told to look at
}

// listenAt has a hook listen on an address.
func listenAt(t *testing.T, address string) *hook {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	k := &hook{address: l.Addr().String()}
	s := &http.Server{Handler: http.HandlerFunc(k.take), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return k
}

func (k *hook) take(w http.ResponseWriter, r *http.Request) {
	var m struct {
		ID      string
		Notices []alert.Notice
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Contains(k.ids, m.ID) {
		return // a process that was killed may have sent it, and not have noted that
	}
	k.ids, k.notices = append(k.ids, m.ID), append(k.notices, m.Notices...)
}

// got is what it was told so far.
func (k *hook) got() (lines []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.notices {
		n := &k.notices[i]
		line := string(n.Event) + " " + n.Condition.ID
		if n.Late {
			line += " late"
		}
		lines = append(lines, line)
	}
	return lines
}

// told waits until a hook was told a line, and returns the notice.
func (h *host) told(k *hook, line string) alert.Notice {
	h.t.Helper()
	at := -1
	h.until("somebody is told "+line, func() bool { at = slices.Index(k.got(), line); return at >= 0 })
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.notices[at]
}

// toldAll checks that a hook was told this and nothing else, in any order.
func (h *host) toldAll(k *hook, want ...string) {
	h.t.Helper()
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(k.got()))); diff != "" {
		h.t.Errorf("told (-want +got):\n%s", diff)
	}
}

// withSinks adds sinks to the configuration.
func (h *host) withSinks(sinks ...string) {
	h.t.Helper()
	h.rewrite("limits:", "alerts:\n  sinks:\n    "+strings.Join(sinks, "\n    ")+"\nlimits:")
}

func hookSink(name, address string) string {
	return fmt.Sprintf("%s: {type: webhook, url: \"http://%s/\"}", name, address)
}

const affectedSlot = `  pcs: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs.crt, key: pcs.key}, affects: {ods: [A99999], asids: ["200000000001"], note: booking}}`

// endingHost has one slot, whose certificate ends in 6 days.
func endingHost(t *testing.T, sinks ...string) *host {
	t.Helper()
	h := newHost(t)
	h.identity("pcs", providerName, inDays(6))
	h.configure(`revocation: "off"`, affectedSlot, inbound(backend(t)))
	h.withSinks(sinks...)
	return h
}

// refuse puts a certificate in place that is not taken.
func (h *host) refuse() {
	h.t.Helper()
	h.identity("pcs", "other.nhs.uk")
}

func inDays(n int) testpki.Option {
	now := time.Now()
	return testpki.Validity(now.Add(-time.Hour), now.Add(time.Duration(n)*24*time.Hour))
}

const (
	revocationOpened = "opened revocation_off/environment/t"
	expiringOpened   = "opened expiring/slot/pcs"
	auditOpened      = "opened policy_audit/tunnel/ssp-in"
	expiringOver     = "resolved expiring/slot/pcs"
	refusedOpened    = "opened rotation_refused/slot/pcs"
)

// TestAlertLife: told once when it opens and once when it is over, whatever becomes of the
// process in between, and by sinks that are down meanwhile as well.
func TestAlertLife(t *testing.T) {
	t.Parallel()
	k := listenAt(t, "127.0.0.1:0")
	down := freeAddress(t)
	h := endingHost(t, hookSink("hook", k.address), hookSink("down", down))
	program := h.script("page", "#!/bin/sh\necho \"$SPINECERT_EVENT $SPINECERT_SEVERITY $SPINECERT_GROUP\" >>"+h.path("pages")+"\n")
	h.rewrite("limits:", fmt.Sprintf("    page: {type: exec, min: critical, command: [%s]}\nlimits:", program))
	h.start()
	n := h.told(k, expiringOpened)
	c := n.Condition
	if c.Severity != "critical" || c.Slot != "pcs" || c.Stops != "tunnel ssp-in" || !slices.Equal(c.Affects.ODS, []string{"A99999"}) || !slices.Equal(c.Affects.ASIDs, []string{"200000000001"}) ||
		c.Affects.Note != "booking" || !strings.Contains(c.Command, "pcs") || time.Until(c.Ends.Time) < 5*24*time.Hour || c.Runbook != "docs/runbook/expiring.md" {
		t.Errorf("told %+v", n)
	}
	h.logged("event=alert_opened", "alert=expiring/slot/pcs", "level=ERROR")
	h.logged("event=sink_failed", "sink=down")
	since := h.condition("revocation_off", "t").Since
	h.stop(sigTerm)

	h.start()
	h.refuse() // what is new is told; so what is not would have been as well
	h.told(k, refusedOpened)
	if now := h.condition("revocation_off", "t").Since; !now.Equal(since) {
		t.Errorf("a condition without a time of its own is there since %s, and was since %s before the restart", now, since)
	}
	h.stop(syscall.SIGKILL)

	h.start()
	h.rewrite("slot: pcs, peers", "slot: pcs, policy: audit, peers")
	_, _ = h.client.Reload(context.Background()) // says that a certificate was refused
	h.told(k, auditOpened)
	h.identity("pcs", providerName)
	if n := h.told(k, expiringOver); n.Resolved.IsZero() || n.Late {
		t.Errorf("%+v", n)
	}
	h.toldAll(k, expiringOpened, revocationOpened, refusedOpened, auditOpened, expiringOver)
	h.until("both were paged, once each", func() bool {
		return string(mustRead(t, h.path("pages"))) == "opened critical slot pcs\nresolved  slot pcs\n"
	})

	// The other one is back.
	late := listenAt(t, down)
	h.until("a test arrives", func() bool {
		_, err := h.client.TestSink(context.Background(), admin.TestRequest{Sink: "down"})
		return err == nil
	})
	h.told(late, expiringOver+" late")
	h.until("nothing waits", func() bool { return h.metric(`spinecert_alerts_pending{sink="down"}`) == "0" })
	h.toldAll(late, "test test/sink/down", revocationOpened, auditOpened, refusedOpened, expiringOver+" late")
	h.audited(`"event":"alert_test"`, `"reason":"down"`, fmt.Sprintf(`"uid":%d`, os.Getuid()))
}

// TestAlertUpgrade: who takes over tells nothing again, and the one before tells nothing more.
func TestAlertUpgrade(t *testing.T) {
	k := listenAt(t, "127.0.0.1:0")
	h := endingHost(t, hookSink("hook", k.address))
	h.identity("peer", peerName)
	h.startInstalled()
	h.told(k, expiringOpened)
	conn := h.open("ssp-in") // so that the old process stays
	before := h.status().PID
	h.upgrade()
	h.refuse()
	h.told(k, refusedOpened)
	file := mustRead(t, h.path("state/alerts.json"))
	if !strings.Contains(string(file), "rotation_refused/slot/pcs") {
		t.Errorf("alerts.json: %s", file)
	}
	_ = conn.Close()
	h.awaitEnd(before)
	h.identity("pcs", providerName)
	h.told(k, expiringOver)
	h.toldAll(k, expiringOpened, revocationOpened, refusedOpened, expiringOver)
}

// TestAlertReload: a sink that is new is told what is wrong already, one that is gone
// nothing more; a template that cannot be used is refused, and everything stays.
func TestAlertReload(t *testing.T) {
	t.Parallel()
	first, second := listenAt(t, "127.0.0.1:0"), listenAt(t, "127.0.0.1:0")
	h := endingHost(t, hookSink("first", first.address))
	h.start()
	h.told(first, expiringOpened)
	h.reconfigure("  sinks:\n", "  sinks:\n    "+hookSink("second", second.address)+"\n")
	h.told(second, expiringOpened)
	h.write("bad.json", []byte(`{"text": "{{nonsense}}"}`), 0o644)
	good := mustRead(t, h.path("spinecert.yaml"))
	h.rewrite("url: \"http://"+second.address+"/\"", "template: bad.json, url: \"http://"+second.address+"/\"")
	_, err := h.client.Reload(context.Background())
	var refusal *admin.Error
	if !errors.As(err, &refusal) || refusal.Code != admin.CodeConfiguration || !strings.Contains(fmt.Sprint(refusal.Problems), "bad.json") || !strings.Contains(fmt.Sprint(refusal.Problems), "alerts.sinks.second") {
		t.Errorf("a bad template: %+v", err)
	}
	if code, out := h.runDaemon(); code != 2 || !strings.Contains(out, "bad.json") {
		t.Errorf("a start with a bad template: exit status %d:\n%s", code, out)
	}
	h.write("spinecert.yaml", good, 0o600)
	h.reconfigure(hookSink("first", first.address)+"\n", "\n")
	before := len(first.got())
	h.refuse()
	h.told(second, refusedOpened)
	if now := first.got(); len(now) != before {
		t.Errorf("a sink that is gone is told %q", now[before:])
	}
	l, err := h.client.Alerts(context.Background())
	if err != nil || len(l.Sinks) != 2 || l.Sinks[0].Name != "second" || l.Sinks[1].Name != "journal" {
		t.Errorf("%+v, %v", l.Sinks, err)
	}
}

// TestAlertAck: who said so, and until when, is kept, shown and audited.
func TestAlertAck(t *testing.T) {
	t.Parallel()
	h := endingHost(t, hookSink("hook", freeAddress(t)))
	h.start()
	ctx, r := context.Background(), admin.AckRequest{ID: "expiring/slot/pcs", For: 48 * time.Hour}
	var a admin.Alert
	h.until("the alert is there", func() bool {
		var err error
		a, err = h.client.AckAlert(ctx, r)
		return err == nil
	})
	if a.State != admin.AlertAcknowledged || a.Ack == nil || a.Ack.UID != os.Getuid() || a.Ack.By == "" || time.Until(a.Ack.Until) > 48*time.Hour || time.Until(a.Ack.Until) < 47*time.Hour {
		t.Errorf("%+v", a)
	}
	h.audited(`"event":"alert_ack"`, `"reason":"expiring/slot/pcs for 48h0m0s"`, `"slot":"pcs"`, fmt.Sprintf(`"uid":%d`, os.Getuid()))
	for what, do := range map[string]func() error{
		"ack":  func() error { _, err := h.client.AckAlert(ctx, admin.AckRequest{ID: "expiring/slot/none"}); return err },
		"test": func() error { _, err := h.client.TestSink(ctx, admin.TestRequest{Sink: "none"}); return err },
	} {
		var refusal *admin.Error
		if err := do(); !errors.As(err, &refusal) || refusal.Code != admin.CodeUnknown || refusal.Hint == "" {
			t.Errorf("%s of what is not there: %v", what, err)
		}
	}
	if _, err := h.client.TestSink(ctx, admin.TestRequest{Sink: "hook"}); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a test of what is down: %v", err)
	}
	h.audited(`"event":"alert_test"`, `"reason":"hook failed"`)
	h.stop(syscall.SIGKILL)
	h.start()
	h.until("it is still acknowledged", func() bool {
		l, err := h.client.Alerts(ctx)
		i := slices.IndexFunc(l.Alerts, func(a admin.Alert) bool { return a.ID == r.ID })
		return err == nil && i >= 0 && l.Alerts[i].Ack != nil && l.Alerts[i].Ack.Until.Equal(a.Ack.Until)
	})
	h.reconfigure(fmt.Sprintf(`writers: ["%d"]`, os.Getuid()), `writers: ["nobody"]`)
	for what, err := range map[string]error{
		"ack":  func() error { _, err := h.client.AckAlert(ctx, r); return err }(),
		"test": func() error { _, err := h.client.TestSink(ctx, admin.TestRequest{Sink: "journal"}); return err }(),
	} {
		var refusal *admin.Error
		if !errors.As(err, &refusal) || refusal.Code != admin.CodeForbidden {
			t.Errorf("%s by who is no writer: %v", what, err)
		}
	}
	if _, err := h.client.Alerts(ctx); err != nil {
		t.Errorf("who may read may not see the alerts: %v", err)
	}
}

// TestAlertClock: while the clock is suspect that is told, and nothing that follows from dates.
func TestAlertClock(t *testing.T) {
	t.Parallel()
	k := listenAt(t, "127.0.0.1:0")
	h := endingHost(t, hookSink("hook", k.address))
	h.identity("pcs", providerName)
	h.start("SPINECERTD_TEST_CLOCK=" + h.setClock(0, "free"))
	h.told(k, revocationOpened)
	h.setClock((3*365*24+1)*time.Hour, "free")
	h.suspect("1")
	h.told(k, "opened clock_suspect/host/clock")
	h.identity("pcs", providerName, inDays(6))
	h.condition("expiring", "pcs")
	h.refuse()
	h.told(k, refusedOpened)
	h.toldAll(k, revocationOpened, "opened clock_suspect/host/clock", refusedOpened)
	h.setClock(0, "synchronised")
	h.suspect("0")
	h.told(k, expiringOpened)
}

// TestAlertsUnwritten: that what is told cannot be written is told, and ends when it can.
func TestAlertsUnwritten(t *testing.T) {
	t.Parallel()
	k := listenAt(t, "127.0.0.1:0")
	h := endingHost(t, hookSink("hook", k.address))
	for _, name := range []string{"state/alerts.json/x", "state/alerts.json.bad/x"} { // nor can it be set aside
		if err := os.MkdirAll(h.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	h.told(k, expiringOpened)
	_, _ = h.client.Reload(context.Background()) // has it look at once
	h.told(k, "opened state_unwritable/host/state")
	h.logged("event=alerts_unwritten", "alerts.json")
	if err := os.RemoveAll(h.path("state/alerts.json")); err != nil {
		t.Fatal(err)
	}
	_, _ = h.client.Reload(context.Background())
	h.until("it is written", func() bool {
		data, err := os.ReadFile(h.path("state/alerts.json"))
		return err == nil && strings.Contains(string(data), "expiring/slot/pcs")
	})
	h.until("the condition ends", func() bool {
		return !slices.ContainsFunc(h.status().Conditions, func(c admin.Condition) bool { return c.Code == "state_unwritable" })
	})
}
