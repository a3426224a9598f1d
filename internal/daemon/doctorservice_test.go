package daemon

import (
	"os"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// TestDoctorService: what the daemon knows of its services, and sees of them, is examined.
func TestDoctorService(t *testing.T) {
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
	names := map[string]string{n.address: "NGINX"}
	well := h.examined(names)
	for _, want := range []string{
		`ok SERVICE service nginx serves generation 1 of slot pcs since DATE`,
		`alone may write "DIR/nginx/spine", and has room there`,
		`of "DIR/nginx/pid" runs`,
		`ok SERVICE service nginx: NGINX serves what was proved, until DATE`,
	} {
		if !strings.Contains(well, want) {
			t.Errorf("no line %q in:\n%s", want, well)
		}
	}
	if strings.Contains(well, "warn SERVICE") || strings.Contains(well, "fail SERVICE") {
		t.Error(well)
	}

	h.write("nginx/extra/broken.conf", []byte("nonsense;\n"), 0o644)
	h.identity("pcs", providerName)
	h.until("nginx is held", func() bool { return h.service("nginx").State == "held" })
	if err := os.Chmod(h.path("nginx/spine"), 0o777); err != nil {
		t.Fatal(err)
	}
	broken := h.examined(names)
	for _, want := range []string{
		`fail SERVICE service nginx: it stays on generation 1, and generation 2 is held: its delivery failed at "prove" since DATE (wrong_certificate): `,
		`spinecert deliver nginx --now`,
		`everybody may write "DIR/nginx/spine"`,
		`ok SERVICE service nginx: NGINX serves what was proved, until DATE`, // which is generation 1
	} {
		if !strings.Contains(broken, want) {
			t.Errorf("no line %q in:\n%s", want, broken)
		}
	}
}
