package packaging

import (
	"strings"
	"testing"
)

// archive installs from the archive, as the page says, and upgrades.
func archive(t *testing.T, releases map[string]map[string]string) {
	h := newHost(t)
	for version, made := range releases {
		h.PushFile("/root/archive.tar.gz", made[".gz"], 0o644)
		h.Run("mkdir", "/root/"+version)
		h.Run("tar", "--directory", "/root/"+version, "--strip-components=1", "--extract", "--file", "/root/archive.tar.gz")
	}
	commands := page(t, "Without a package")
	h.Run("sh", "-ec", "cd /root/"+first+"\n"+commands)
	h.serve()
	h.answer()
	h.Until("both slots serve", func() bool { return h.ready(first) })
	programs, _, _ := strings.Cut(commands, "\n")
	h.Run("sh", "-ec", "cd /root/"+second+"\n"+programs+"\nspinecert upgrade")
	h.Until("the second one serves", func() bool { return h.ready(second) })
}
