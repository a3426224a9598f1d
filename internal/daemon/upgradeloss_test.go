package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
)

// TestUpgradeLosesNothing: what is on disk is no good at present, or less than what is in force, and the running daemon serves
// what it has in memory. Only --force takes that away.
func TestUpgradeLosesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		keep  string
		spoil func(*host)
		want  string
	}{
		"trust file is torn":         {spoil: func(h *host) { h.write("trust.pem", []byte("noise"), 0o644) }, want: "slot pcs would serve nothing"},
		"certificate is torn":        {keep: "0", spoil: func(h *host) { h.write("pcs.crt", []byte("noise"), 0o644) }, want: "slot pcs would serve nothing"},
		"key is away":                {keep: "0", spoil: func(h *host) { _ = os.Rename(h.path("pcs.key"), h.path("away")) }, want: "slot pcs would serve nothing"},
		"CA went without word":       {spoil: func(h *host) { h.write("trust.pem", h.sub.BundlePEM(), 0o644) }, want: `environment t would not trust CA "Other Sub"`},
		"slot is not there any more": {spoil: func(h *host) { h.rewrite("  pcs: {", "  other: {"); h.rewrite("slot: pcs", "slot: other") }, want: "slot pcs is not configured any more"},
	} {
		t.Run(name, func(t *testing.T) {
			h, leaf := simpleHost(t)
			other := testpki.NewRoot(t, testpki.Name("Other Root")).SubCA(t, testpki.Name("Other Sub"))
			h.write("trust.pem", slices.Concat(h.sub.BundlePEM(), other.BundlePEM()), 0o644)
			if c.keep != "" {
				h.rewrite("state: {directory: state}", "state: {directory: state, keep_generations: "+c.keep+"}")
			}
			h.startInstalled()
			h.serves("ssp-in", leaf)
			pid := h.status().PID
			c.spoil(h)
			_, err := h.client.Upgrade(context.Background(), admin.UpgradeRequest{Unsupervised: true})
			var refusal *admin.Error
			if !errors.As(err, &refusal) || refusal.Code != admin.CodeRefused || !strings.Contains(refusal.Message, c.want) {
				t.Errorf("upgrade says %v, want %q", err, c.want)
			}
			if err := h.dial(h.listen("ssp-in"), "peer"); err != nil || h.status().PID != pid {
				t.Errorf("it does not go on as before: %v", err)
			}
			if r, err := h.client.Upgrade(context.Background(), admin.UpgradeRequest{Unsupervised: true, Force: true}); err != nil || r.PID == pid {
				t.Errorf("with force: %+v, %v", r, err)
			}
		})
	}
}

// TestUpgradeUnsupervised: what started the daemon would take its end for a failure.
func TestUpgradeUnsupervised(t *testing.T) {
	h, _ := simpleHost(t)
	h.startInstalled()
	if _, err := h.client.Upgrade(context.Background(), admin.UpgradeRequest{}); err == nil || !strings.Contains(err.Error(), "systemd did not start the daemon") {
		t.Errorf("upgrade says %v", err)
	}
}

// TestUpgradeBehindLink: the program is reached through a link, which is set to another version.
func TestUpgradeBehindLink(t *testing.T) {
	h, leaf := simpleHost(t)
	h.startInstalled()
	h.serves("ssp-in", leaf)
	h.stop(syscall.SIGTERM)
	link := func(version string) {
		h.write(version, h.self(), 0o755)
		_ = os.Remove(h.path("spinecertd"))
		if err := os.Symlink(h.path(version), h.path("spinecertd")); err != nil {
			t.Fatal(err)
		}
	}
	link("v1")
	h.cmd = exec.Command(h.path("spinecertd"), "--config", h.path("spinecert.yaml"))
	h.cmd.WaitDelay = patience
	h.spawn()
	h.until("it answers", func() bool { s, err := h.client.Status(context.Background()); return err == nil && s.Ready })
	link("v2")
	r := h.upgrade()
	t.Cleanup(func() { _ = syscall.Kill(r.PID, syscall.SIGKILL) })
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.PID)); err != nil || filepath.Base(exe) != "v2" {
		t.Errorf("%s runs: %v", exe, err)
	}
}

// TestUpgradeAdminGroup: a socket that is handed over keeps its group, and another one needs a new start.
func TestUpgradeAdminGroup(t *testing.T) {
	h, _ := simpleHost(t)
	h.startInstalled()
	h.rewrite(fmt.Sprintf(`group: "%d"`, os.Getgid()), `group: "12345"`)
	var refusal *admin.Error
	if _, err := h.client.Upgrade(context.Background(), admin.UpgradeRequest{Unsupervised: true}); !errors.As(err, &refusal) || !strings.Contains(fmt.Sprint(refusal.Problems), "admin.socket.group") {
		t.Errorf("upgrade says %v", err)
	}
}
