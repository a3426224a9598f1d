package unit_test

import "strings"

// testRun: a socket below /run is there after a boot, too, in a directory that systemd makes.
func testRun(h *host) {
	own := h.issue()
	h.Push("/etc/spinecert/pcs.crt", own.FullChainPEM(), 0o644)
	h.Push("/etc/spinecert/pcs.key", own.KeyPEM(), 0o640)
	h.Run("chgrp", "spinecert", "/etc/spinecert/pcs.key")
	h.configure("{certificate: pcs.crt, key: pcs.key}", `tunnels:
  out: {direction: outbound, listen: ["unix:/run/pcs/a b/sds.sock"], forward: "127.0.0.1:80", peers: [a.b], slot: pcs}
`)
	p := h.plan()
	h.copyFiles(p)
	h.finds()
	there := func() bool {
		out, _ := h.Exec(h.t.Context(), "stat", "-c", "%U %F", "/run/pcs/a b", "/run/pcs/a b/sds.sock")
		return strings.TrimSpace(out) == "spinecert directory\nspinecert socket"
	}
	h.until("the tunnel has its socket", there)
	if again := h.plan(); len(again.Files) != 1 || len(p.Files) != 1 || again.Files[0].Content != p.Files[0].Content {
		h.t.Errorf("with the directory in place: %+v", again)
	}
	h.Run("systemctl", "stop", "spinecertd")
	h.Run("rm", "-r", "/run/pcs") // as a boot does
	h.Run("systemctl", "start", "spinecertd")
	h.until("the tunnel has its socket again", there)
	h.Run("systemctl", "stop", "spinecertd")
	h.Run("rm", "-r", "/run/pcs", "/etc/systemd/system/spinecertd.service.d")
	h.Run("systemctl", "daemon-reload")
}
