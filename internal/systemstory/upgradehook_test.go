package systemstory

import (
	"os"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// TestUpgradeHook: commands run in units of their own also after an upgrade: the new process knows that systemd runs it.
func TestUpgradeHook(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/usr/lib/polkit-1/polkitd"); err != nil {
		testprogram.Missing(t, "polkit")
	}
	h := installed(t)
	const directory, seen = "/srv/delivered", "/run/hook-ran"
	h.Run("install", "-d", "-o", "spinecert", "-g", "spinecert", "-m", "0755", directory)
	h.dropIn("delivered.conf", "ReadWritePaths="+directory)
	h.PushFile("/etc/polkit-1/rules.d/50-spinecert.rules", "../../systemd/50-spinecert.rules.example", 0o644)
	h.Run("systemctl", "start", "polkit")
	h.configure("admin:", "services:\n  files: {slot: pcs, deliver: {directory: "+directory+", files: [{format: fullchain, name: pcs.crt}, {format: key, name: pcs.key}]}, "+
		"reload: {exec: [/usr/bin/cp, /proc/self/cgroup, "+seen+"]}, probe: none}\nadmin:")
	h.Run("systemctl", "start", unit)
	ran := func() {
		h.t.Helper()
		h.Until("the command has run in its unit", func() bool {
			out, err := h.Exec(t.Context(), "cat", seen)
			return err == nil && strings.Contains(out, "/spinecert-hook@files:reload.service")
		})
		h.Run("rm", seen)
	}
	ran()
	for range 2 {
		h.upgrade()
		h.soon(h.rotate())
		ran()
	}
	h.steady()
}
