package systemd

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// install writes units and has systemd read them.
func install(b *box.Box, units map[string]string) {
	for name, text := range units {
		b.Push("/etc/systemd/system/"+name, []byte(text+"\n"), 0o644)
	}
	b.Run("systemctl", "daemon-reload")
}

// testSharedReload: systemd makes one job of our reload and of one that somebody typed; the latter outlives our time.
func testSharedReload(t *testing.T, b *box.Box, u *peer) {
	install(b, map[string]string{"test-slow.service": "[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c 'until test -e /run/slow; do sleep 0.05; done'"})
	b.Run("systemctl", "start", "test-slow")
	typed := make(chan error, 1)
	go func() {
		_, err := b.Exec(t.Context(), "systemctl", "reload", "test-slow")
		typed <- err
	}()
	until(t, "the reload runs", func() bool {
		return b.Run("systemctl", "show", "--value", "-p", "ActiveState", "test-slow") == "reloading"
	})
	u.want(request{Do: "job", Unit: "test-slow.service", Action: "reload", Within: time.Second}, failure.Timeout)
	b.Push("/run/slow", nil, 0o644)
	if err := <-typed; err != nil {
		t.Errorf("somebody's own reload: %v", err)
	}
}

// testStartLimit: a unit that systemd does not start any more says so.
func testStartLimit(t *testing.T, b *box.Box, u *peer) {
	install(b, map[string]string{"test-limit.service": "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n[Service]\nExecStart=/bin/sleep infinity"})
	restart := request{Do: "job", Unit: "test-limit.service", Action: "restart"}
	u.want(restart, "")
	u.want(restart, "")
	u.want(restart, failure.UnitInactive, "too often", "systemctl reset-failed test-limit.service", "StartLimitIntervalSec")
	b.Run("systemctl", "reset-failed", "test-limit.service")
	u.want(restart, "")
	u.want(request{Do: "check", Unit: "test-limit.service"}, "")
	u.want(request{Do: "check", Unit: "test-limit.service"}, failure.CommandUnusable, "reset-failed") // it did not look at anything
}

// testCheck: a unit of `validate:` looks at what is there now, each time.
func testCheck(t *testing.T, b *box.Box, u *peer) {
	install(b, map[string]string{
		"test-gated.service":   "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo x >>/run/began; test ! -e /run/wrong && until test -e /run/go; do sleep 0.05; done'",
		"test-remains.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test ! -e /run/wrong'",
		"test-away.service":    "[Service]\nType=oneshot\nExecStart=/no/such/program",
		"test-endless.service": "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity",
		"test-own.service":     "[Service]\nType=oneshot\nTimeoutStartSec=1s\nExecStart=/bin/sleep infinity",
	})
	check := func(unit string) request { return request{Do: "check", Unit: unit} }
	began := func(n int) func() bool {
		return func() bool {
			data, _ := os.ReadFile(b.Root + "/run/began")
			return strings.Count(string(data), "x") == n
		}
	}
	// One that was started before the files changed is not joined.
	b.Run("systemctl", "start", "--no-block", "test-gated")
	until(t, "it runs", began(1))
	b.Push("/run/wrong", nil, 0o644)
	u.want(check("test-gated.service"), failure.ValidateFailed, "journalctl -u test-gated.service")
	b.Run("rm", "/run/wrong", "/run/began")
	// Two are one after the other.
	first, second := u.ask(check("test-gated.service")), u.ask(check("test-gated.service"))
	until(t, "the first one runs", began(1))
	b.Push("/run/go", nil, 0o644)
	u.check(check("test-gated.service"), u.get(first), "")
	u.check(check("test-gated.service"), u.get(second), "")
	if !began(2)() {
		t.Error("two checks are one run")
	}

	u.want(check("test-remains.service"), "")
	b.Push("/run/wrong", nil, 0o644)
	u.want(check("test-remains.service"), failure.ValidateFailed)
	b.Run("rm", "/run/wrong")
	u.want(check("test-remains.service"), "")

	u.want(check("test-away.service"), failure.CommandUnusable, "journalctl -u test-away.service")
	u.want(check("test-none.service"), failure.UnitMissing)
	u.want(check("test-masked.service"), failure.UnitMissing)
	u.want(check("other.service"), failure.NotPermitted, `verb "restart"`)
	u.want(check("test-own.service"), failure.Timeout)
	endless := check("test-endless.service")
	endless.Within = time.Second
	u.want(endless, failure.Timeout)
	until(t, "it is stopped", func() bool {
		state := b.Run("systemctl", "show", "--value", "-p", "ActiveState", "test-endless")
		return state == "inactive" || state == "failed"
	})
}

// testOurselves: the unit of the daemon is refused under each of its names.
func testOurselves(t *testing.T, b *box.Box, u *peer) {
	u.want(request{Do: "active", Unit: "nginx.service"}, "")
	install(b, map[string]string{"test-self.service": "[Service]\nType=oneshot\nStandardInput=file:/run/self.in\nStandardOutput=truncate:/run/self.out\nExecStart=/opt/test/client\nExecReload=/bin/true"})
	b.Run("ln", "-s", "test-self.service", "/etc/systemd/system/test-alias.service")
	b.Run("systemctl", "daemon-reload")
	requests := []request{
		{Do: "job", Unit: "test-self.service", Action: "restart"},
		{Do: "job", Unit: "test-alias.service", Action: "restart"},
		{Do: "check", Unit: "test-alias.service"},
		{Do: "job", Unit: "nginx.service", Action: "reload"},
		{Do: "job", Unit: "no name", Action: "reload"},
	}
	var in strings.Builder
	for i, r := range requests {
		r.ID, r.Within = i, limit
		line, _ := json.Marshal(r)
		fmt.Fprintf(&in, "%s\n", line)
	}
	b.Push("/run/self.in", []byte(in.String()), 0o644)
	b.Run("systemctl", "start", "test-self.service")
	got := map[int]answer{}
	for line := range strings.Lines(b.Run("cat", "/run/self.out")) {
		var a answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		got[a.ID] = a
	}
	for i, reason := range []string{failure.NotPermitted, failure.NotPermitted, failure.NotPermitted, "", failure.UnitMissing} {
		if a, there := got[i]; !there || a.Reason != reason || reason == failure.NotPermitted && !strings.Contains(a.Error, "the daemon itself") {
			t.Errorf("%+v: %+v, want %q", requests[i], a, reason)
		}
	}
}
