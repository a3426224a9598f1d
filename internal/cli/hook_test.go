package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/systemd"
	"github.com/spinecert/spinecert/pki"
)

// hookConfig has services whose reload is a command.
const hookConfig = `environments: {live: {trust: [/etc/spinecert/live.pem]}}
slots: {pcs: {files: {certificate: /etc/pki/pcs.crt, key: /etc/pki/pcs.key}}}
services:
  good:
    slot: pcs
    deliver: {directory: /srv/good, files: [{format: fullchain, name: f.pem}]}
    validate: {exec: [/bin/sh, -c, "env >/run/good; readlink /proc/self/fd/0 >>/run/good; exit 0"]}
    reload: none
    probe: none
  bad:
    slot: pcs
    deliver: {directory: /srv/bad, files: [{format: fullchain, name: f.pem}]}
    reload: {exec: [/bin/sh, -c, "echo no such directive >&2; exit 7"]}
    probe: {exec: [/bin/sh, -c, "sleep 1000 & echo $! >/run/late; wait"], within: 1s}
  loud:
    slot: pcs
    deliver: {directory: /srv/loud, files: [{format: fullchain, name: f.pem}]}
    reload: {exec: [/bin/sh, -c, "yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | head -c 300000000; echo last words; exit 1"]}
    probe: {exec: [/bin/sh, -c, "sleep 1000 & echo $! >/run/never; wait"], within: 1h}
  odd:
    slot: pcs
    deliver: {directory: /srv/odd, files: [{format: fullchain, name: f.pem}]}
    validate: {exec: [/opt/open/program]}
    reload: {exec: [/opt/none/program]}
    probe: {exec: [/tmp/open/program]}
`

// TestHook runs the unit that is shipped in a real systemd.
func TestHook(t *testing.T) {
	b := box.Start(t)
	b.PushSelf("/usr/bin/spinecert")
	b.PushFile("/etc/systemd/system/spinecert-hook@.service", "../../systemd/spinecert-hook@.service", 0o644)
	// The race detector sleeps for a second before a program ends well.
	b.Push("/etc/systemd/system/spinecert-hook@.service.d/race.conf", []byte("[Service]\nEnvironment=GORACE=atexit_sleep_ms=0\n"), 0o644)
	b.Push("/etc/spinecert/spinecert.yaml", []byte(hookConfig), 0o640)
	b.Push("/opt/open/program", []byte("#!/bin/sh\ntouch /run/ran\n"), 0o777)
	b.Run("chmod", "0777", "/opt/open/program")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+b.Root+"/run/dbus/system_bus_socket")
	m := systemd.New()
	t.Cleanup(func() { _ = m.Close() })

	hook := func(t *testing.T, service, step, reason string, words ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		err := m.Hook(ctx, service, step)
		if got := failure.ReasonOf(err, ""); got != reason {
			t.Errorf("%s %s: reason %q (%v), want %q", service, step, got, err, reason)
		}
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error()+pki.Hint(err), word) {
				t.Errorf("%s %s: %v does not say %q", service, step, err, word)
			}
		}
	}

	hook(t, "good", "validate", "")
	// The environment that every command has, and nothing of that of the unit.
	want := []string{"/dev/null", "LANG=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SPINECERT_DIRECTORY=/srv/good", "SPINECERT_SERVICE=good", "SPINECERT_SLOT=pcs", "SPINECERT_STEP=validate"}
	got := strings.Split(b.Run("sh", "-c", "grep -vE '^(PWD|SHLVL|_|OLDPWD)=' /run/good | sort"), "\n") // those are the shell's own
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	hook(t, "bad", "reload", failure.ReloadFailed, "said no: exit status 7", "journalctl -u spinecert-hook@bad:reload.service", "spinecert hook bad reload")
	// Any user may read the status text of a unit; the words of the command are for readers of the journal.
	nobody := []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}
	if got := b.Run(append(nobody, "systemctl", "show", "--value", "-p", "StatusText", "spinecert-hook@bad:reload.service")...); got != "reload_failed: exit status 7" {
		t.Errorf("any user reads %q", got)
	}
	if got := b.Run("journalctl", "--no-pager", "-u", "spinecert-hook@bad:reload.service"); !strings.Contains(got, "exit status 7: no such directive") {
		t.Errorf("the journal has\n%s", got)
	}
	hook(t, "bad", "probe", failure.Timeout, "exit status 1", "no end within its time")
	gone(t, b, "/run/late")
	hook(t, "loud", "reload", failure.ReloadFailed, "exit status 1")
	// What never ran is no verdict: the set is not held for it.
	hook(t, "odd", "reload", failure.CommandUnusable, "exit status 1", "was not run")
	hook(t, "odd", "validate", failure.CommandUnusable, "exit status 2", "was not run")
	if _, err := b.Exec(t.Context(), "test", "-e", "/run/ran"); err == nil {
		t.Error("a program ran as root that anybody may write")
	}
	hook(t, "odd", "probe", failure.CommandUnusable, "exit status 2")
	hook(t, "good", "reload", failure.CommandUnusable, "exit status 2") // no command for it
	hook(t, "none", "reload", failure.CommandUnusable, "exit status 2")
	b.Push("/etc/spinecert/spinecert.yaml", []byte(hookConfig+"  half: {\n"), 0o640)
	hook(t, "good", "validate", failure.CommandUnusable, "exit status 2")
	b.Run("mv", "/etc/spinecert/spinecert.yaml", "/etc/spinecert/elsewhere.yaml")
	hook(t, "good", "validate", failure.CommandUnusable, "exit status 1")
	b.Push("/etc/spinecert/spinecert.yaml", []byte(hookConfig), 0o640)
	b.Run("mv", "/usr/bin/spinecert", "/usr/bin/spinecert.away")
	hook(t, "good", "validate", failure.CommandUnusable, "exit status 203", "could not run spinecert")
	b.Run("mv", "/usr/bin/spinecert.away", "/usr/bin/spinecert")

	// A command that is left when the waiter's time is over ends with its unit.
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- m.Hook(ctx, "loud", "probe") }()
	waitUntil(t, func() bool { _, err := os.Stat(b.Root + "/run/never"); return err == nil })
	cancel()
	if err := <-result; failure.ReasonOf(err, "") != failure.Interrupted {
		t.Errorf("interrupted: %v", err)
	}
	gone(t, b, "/run/never")

	b.Run("chmod", "0660", "/etc/spinecert/spinecert.yaml")
	hook(t, "good", "validate", failure.CommandUnusable, "exit status 2")
	b.Run("chmod", "0640", "/etc/spinecert/spinecert.yaml")
	b.Run("chown", "nobody", "/etc/spinecert")
	hook(t, "good", "validate", failure.CommandUnusable, "exit status 2")
	// As another user nothing of root's can be had: it is as that user pleases.
	b.Push("/etc/systemd/system/spinecert-hook@good:validate.service.d/user.conf", []byte("[Service]\nUser=nobody\n"), 0o644)
	b.Run("chown", "nobody", "/etc/spinecert/spinecert.yaml", "/run/good")
	b.Run("systemctl", "daemon-reload")
	hook(t, "good", "validate", "")
}

func waitUntil(t *testing.T, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within a minute")
		}
	}
}

// gone wants the process of the box whose number is in a file to end.
func gone(t *testing.T, b *box.Box, file string) {
	t.Helper()
	pid := b.Run("cat", file)
	waitUntil(t, func() bool { _, err := b.Exec(t.Context(), "test", "-e", "/proc/"+pid); return err != nil })
}

func TestHookArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"good"}, {"good", "validate", "x"}, {"good:validate:x"}, {"good:x", "validate"}} {
		var out, errs strings.Builder
		if exit := Main(t.Context(), "v", append([]string{"hook"}, args...), strings.NewReader(""), &out, &errs); exit != exitUsage || !strings.Contains(errs.String(), "hint: spinecert hook SERVICE STEP") {
			t.Errorf("%q: exit status %d, %s", args, exit, errs.String())
		}
	}
	file := filepath.Join(t.TempDir(), "spinecert.yaml")
	if err := os.WriteFile(file, []byte(hookConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"good:none"}, exitUsage, `no step "none"`},
		{[]string{"bad", "validate"}, exitUsage, "no command for validate"},
		{[]string{"bad", "reload"}, exitJudged, "exit status 7: no such directive"},
		{[]string{"bad:reload"}, exitJudged, "exit status 7: no such directive"},
		{[]string{"odd:reload"}, exitFailed, "/opt/none/program"},
	} {
		var out, errs strings.Builder
		if exit := Main(t.Context(), "v", append([]string{"hook", "--config", file}, tc.args...), strings.NewReader(""), &out, &errs); exit != tc.exit || !strings.Contains(errs.String(), tc.says) {
			t.Errorf("%q: exit status %d, %s, want %d, %s", tc.args, exit, errs.String(), tc.exit, tc.says)
		}
	}
}
