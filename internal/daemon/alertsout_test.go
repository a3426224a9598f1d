package daemon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// TestAlertmanager: Debian's Alertmanager has the alert while it lasts, and not afterwards.
func TestAlertmanager(t *testing.T) {
	t.Parallel()
	program := testprogram.Need(t, "prometheus-alertmanager")
	dir := t.TempDir()
	file := filepath.Join(dir, "am.yml")
	if err := os.WriteFile(file, []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, said := testprogram.Start(t, nil, dir, program, "--config.file="+file, "--storage.path="+dir, "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	address := ""
	waiting := &host{t: t, output: said}
	waiting.until("Alertmanager listens", func() bool {
		m := regexp.MustCompile(`Listening on" address=(127\.0\.0\.1:\d+)`).FindStringSubmatch(said.String())
		if m == nil {
			return false
		}
		address = m[1]
		code, _, _, err := fetch(http.DefaultClient, "http://"+address+"/-/ready")
		return err == nil && code == http.StatusOK
	})
	h := endingHost(t, fmt.Sprintf("am: {type: alertmanager, url: \"http://%s\"}", address))
	h.start()
	active := func() (found map[string]string) {
		_, _, body, err := fetch(http.DefaultClient, "http://"+address+"/api/v2/alerts?active=true")
		var list []struct{ Labels, Annotations map[string]string }
		if err != nil || json.Unmarshal([]byte(body), &list) != nil {
			t.Fatalf("%v: %s", err, body)
		}
		for _, a := range list {
			if a.Labels["id"] == "expiring/slot/pcs" {
				found = a.Labels
				if !strings.Contains(a.Annotations["affects"], "A99999") || a.Annotations["stops"] != "tunnel ssp-in" {
					t.Errorf("%+v", a)
				}
			}
		}
		return found
	}
	h.until("Alertmanager has the alert", func() bool { return active() != nil })
	if l := active(); l["alertname"] != "SpinecertExpiring" || l["severity"] != "critical" || l["slot"] != "pcs" {
		t.Errorf("labels %v", l)
	}
	h.identity("pcs", providerName)
	h.until("Alertmanager has it no longer", func() bool { return active() == nil })
}

// receiver is Debian's aiosmtpd, which writes each mail to a file.
const receiver = `
import asyncio, os
from aiosmtpd.smtp import SMTP
class Keep:
    n = 0
    async def handle_DATA(self, server, session, envelope):
        Keep.n += 1
        with open("tmp", "wb") as f:
            f.write(envelope.content)
        os.rename("tmp", "mail.%d" % Keep.n)
        return "250 OK"
async def main():
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Keep(), hostname="relay.example"), "127.0.0.1", 0)
    with open("tmp", "w") as f:
        f.write(str(server.sockets[0].getsockname()[1]))
    os.rename("tmp", "port")
    await server.serve_forever()
asyncio.run(main())
`

// TestAlertMail: a mail arrives when a certificate ends soon, and one when that is over.
func TestAlertMail(t *testing.T) {
	t.Parallel()
	python := testprogram.Need(t, "/usr/bin/python3")
	if err := exec.CommandContext(t.Context(), python, "-c", "import aiosmtpd.smtp").Run(); err != nil {
		testprogram.Missing(t, "python3-aiosmtpd")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "receiver.py"), []byte(receiver), 0o600); err != nil {
		t.Fatal(err)
	}
	_, said := testprogram.Start(t, nil, dir, python, "receiver.py")
	var port []byte
	waiting := &host{t: t, output: said}
	waiting.until("the receiver listens", func() (ok bool) {
		port, _ = os.ReadFile(filepath.Join(dir, "port"))
		return len(port) > 0
	})
	h := endingHost(t, fmt.Sprintf("ops: {type: email, to: [ops@example.nhs.uk], from: spinecert@example.nhs.uk, smtp: \"127.0.0.1:%s\", tls: none}", port))
	h.start()
	arrived := func(subject string) (mail string) {
		h.until("a mail says "+subject, func() bool {
			files, _ := filepath.Glob(filepath.Join(dir, "mail.*"))
			for _, f := range files {
				if data, err := os.ReadFile(f); err == nil && strings.Contains(strings.ReplaceAll(string(data), "\r\n ", " "), subject) {
					mail = string(data)
					return true
				}
			}
			return false
		})
		return mail
	}
	mail := arrived("CRITICAL pcs: certificate ends in")
	for _, want := range []string{"A99999", "200000000001", "tunnel ssp-in", "expiring/slot/pcs", time.Now().AddDate(0, 0, 6).UTC().Format(time.DateOnly)} {
		if !strings.Contains(mail, want) {
			t.Errorf("%q is not in the mail:\n%s", want, mail)
		}
	}
	h.identity("pcs", providerName)
	arrived("RESOLVED pcs: certificate ends")
}
