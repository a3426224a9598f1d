package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// checkHost is a systemd with the units of the check, as a package installs them.
type checkHost struct {
	*box.Box
	t    *testing.T
	root *testpki.Authority
}

const (
	checkDropIns = "/etc/systemd/system/spinecert-check.service.d/"
	mailbox      = "/root/mailbox"
)

// TestCheckUnits: the timer starts the check; what is not OK fails the unit and is told; what is OK is not.
func TestCheckUnits(t *testing.T) {
	h := &checkHost{Box: box.Start(t), t: t, root: testpki.NewRoot(t, testpki.KeyType("ecdsa-p256"))}
	h.install()
	h.Push("/etc/systemd/system/spinecert-check.service.d/what.conf", []byte("[Service]\nExecStart=\nExecStart=/usr/bin/spinecert check --file /etc/pki/pcs.crt\n"), 0o644)
	h.Push(checkDropIns+"mail.conf", []byte("[Unit]\nOnFailure=spinecert-check-failed@%n.service\n"), 0o644)
	h.Run("systemctl", "daemon-reload")

	h.certificate("/etc/pki/pcs.crt", 200, 0o644)
	h.start("0", "SPINECERT OK - /etc/pki/pcs.crt expires in 200d ")
	if _, err := os.Stat(h.Root + mailbox); err == nil {
		t.Error("there is mail about a check that was good")
	}
	h.certificate("/etc/pki/pcs.crt", 20, 0o644)
	h.start("1", "SPINECERT WARNING - /etc/pki/pcs.crt expires in 20d ")
	h.mail("WARNING", "SPINECERT WARNING - /etc/pki/pcs.crt expires in 20d ", "spinecert-check.service: exit-code, exit status 1")
	h.Run("rm", "/etc/pki/pcs.crt")
	h.start("3", "SPINECERT UNKNOWN - ")
	h.mail("UNKNOWN", "no such file or directory", "exit status 3")

	// By the timer, whose day is a moment here.
	h.certificate("/etc/pki/pcs.crt", 3, 0o644)
	h.Push("/etc/systemd/system/spinecert-check.timer.d/now.conf", []byte("[Timer]\nOnCalendar=\nOnActiveSec=10ms\nAccuracySec=1ms\nRandomizedDelaySec=0\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "start", "spinecert-check.timer")
	h.mail("CRITICAL", "SPINECERT CRITICAL - /etc/pki/pcs.crt expires in 3d ", "exit status 2")
	h.Run("systemctl", "stop", "spinecert-check.timer")

	t.Run("credential", func(t *testing.T) {
		testprogram.Need(t, "openssl")
		h.with(t).credential()
	})
	t.Run("textfile", func(t *testing.T) { h.with(t).textfile() })
	t.Run("daemon", func(t *testing.T) { h.with(t).daemon() })
}

func (h *checkHost) with(t *testing.T) *checkHost {
	return &checkHost{Box: h.For(t), t: t, root: h.root}
}

// install puts the program and the units where a package puts them, and a stand-in for the program that sends mail.
func (h *checkHost) install() {
	h.PushFile("/usr/bin/spinecert", box.Build(h.t, "github.com/spinecert/spinecert/cmd/spinecert"), 0o755)
	for _, name := range []string{"spinecert-check.service", "spinecert-check.timer"} {
		h.PushFile("/usr/lib/systemd/system/"+name, filepath.Join("../../systemd", name), 0o644)
	}
	h.PushFile("/etc/systemd/system/spinecert-check-failed@.service", "../../systemd/spinecert-check-failed@.service.example", 0o644)
	h.Push("/usr/sbin/sendmail", []byte("#!/bin/sh\ncat >"+mailbox+".part && mv "+mailbox+".part "+mailbox+"\n"), 0o755)
	h.Run("sh", "-ec", "getent group spinecert || groupadd --system spinecert")
	if out, err := h.Exec(h.t.Context(), "systemd-analyze", "verify", "--man=no", "spinecert-check.service", "spinecert-check.timer", "spinecert-check-failed@x.service"); err != nil || strings.Contains(out, "spinecert") {
		h.t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func (h *checkHost) certificate(path string, days int, mode os.FileMode) {
	h.t.Helper()
	life := testpki.Validity(time.Now().Add(-oneDay), time.Now().Add(time.Duration(days)*oneDay+time.Hour))
	h.Push(path, h.root.Issue(h.t, testpki.KeyType("ecdsa-p256"), life).CertPEM(), mode)
}

// start runs the check once, and wants its exit status and what the journal has of that run.
func (h *checkHost) start(exit, says string) {
	h.t.Helper()
	_, before, _ := strings.Cut(h.Run("journalctl", "--no-pager", "-n", "1", "--show-cursor", "-o", "cat"), "-- cursor: ")
	out, err := h.Exec(h.t.Context(), "systemctl", "start", "spinecert-check.service")
	if (err == nil) != (exit == "0") {
		h.t.Errorf("systemctl start: %v, want the exit status %s\n%s", err, exit, out)
	}
	if got := h.Run("systemctl", "show", "--property=ExecMainStatus", "--value", "spinecert-check.service"); got != exit {
		h.t.Errorf("exit status %s, want %s", got, exit)
	}
	wanted := "inactive"
	if exit != "0" {
		wanted = "failed"
	}
	if state := h.Run("systemctl", "show", "--property=ActiveState", "--value", "spinecert-check.service"); state != wanted {
		h.t.Errorf("the unit is %s, want %s", state, wanted)
	}
	h.Run("journalctl", "--sync")
	if said := h.Run("journalctl", "--no-pager", "-o", "cat", "--after-cursor="+before); !strings.Contains(said, says) {
		h.t.Errorf("the journal of the run does not have %q:\n%s", says, said)
	}
}

// mail waits for what OnFailure= sent, and takes it away.
func (h *checkHost) mail(word string, says ...string) {
	h.t.Helper()
	path, end := h.Root+mailbox, time.Now().Add(time.Minute)
	data, err := os.ReadFile(path)
	for ; err != nil && time.Now().Before(end); data, err = os.ReadFile(path) {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		out, _ := h.Exec(context.WithoutCancel(h.t.Context()), "journalctl", "--no-pager", "-n", "40")
		h.t.Fatalf("no mail: %v\n%s", err, out)
	}
	h.Run("rm", mailbox)
	head, body, _ := strings.Cut(string(data), "\n\n")
	if !strings.HasPrefix(head, "To: root\nSubject: spinecert check on ") || !strings.Contains(head, ": "+word+"\n") {
		h.t.Errorf("the head of the mail, want %s in it:\n%s", word, data)
	}
	for _, s := range says {
		if !strings.Contains(body, s) {
			h.t.Errorf("the mail does not have %q:\n%s", s, body)
		}
	}
}

// credential checks a file that root alone may read.
func (h *checkHost) credential() {
	h.certificate("/etc/pki/secret.crt", 200, 0o600)
	h.Push(checkDropIns+"what.conf", []byte("[Service]\nExecStart=\nExecStart=/usr/bin/spinecert check --file /etc/pki/secret.crt\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.start("3", "permission denied")
	h.mail("UNKNOWN", "permission denied")
	h.Push(checkDropIns+"what.conf", []byte("[Service]\nLoadCredential=secret.crt:/etc/pki/secret.crt\nExecStart=\nExecStart=/usr/bin/spinecert check --file %d/secret.crt\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.start("0", "SPINECERT OK - ")

	h.Run("sh", "-ec", "umask 077; cd /etc/pki; echo secret-word >pcs.password; openssl req -x509 -newkey rsa:2048 -nodes -keyout p12.key -out p12.crt -days 3 -subj /CN=pcs 2>/dev/null; "+
		"openssl pkcs12 -export -in p12.crt -inkey p12.key -out pcs.p12 -passout file:pcs.password")
	h.Push(checkDropIns+"what.conf", []byte("[Service]\nLoadCredential=pcs.p12:/etc/pki/pcs.p12\nLoadCredential=password:/etc/pki/pcs.password\nExecStart=\nExecStart=/usr/bin/spinecert check --file %d/pcs.p12 --password-file %d/password\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.start("2", "pcs.p12 expires in ")
	h.mail("CRITICAL", "pcs.p12 expires in ")
}

// textfile writes metrics for node_exporter, as the manual has it: the unit does not fail for what they say.
func (h *checkHost) textfile() {
	const file = "/var/lib/prometheus/node-exporter/spinecert.prom"
	h.Run("sh", "-ec", "getent passwd prometheus || useradd --system prometheus; groupadd --force --system spinecert-status; mkdir -p "+filepath.Dir(file)+"; chown root: "+filepath.Dir(file))
	dropIn := manualBlock(h.t, "monitoring.md", "User=prometheus")
	use := func(text string) {
		h.Push(checkDropIns+"what.conf", []byte(strings.Replace(text, "check --output", "check --file /etc/pki/pcs.crt --output", 1)), 0o644)
		h.Run("systemctl", "daemon-reload")
	}
	h.certificate("/etc/pki/pcs.crt", 3, 0o644)
	use(dropIn)
	h.start("3", "permission denied")
	h.mail("UNKNOWN", "permission denied", "the user who runs this has to own the directory")
	owner := manualBlock(h.t, "monitoring.md", "chown")
	h.Run("sh", "-ec", strings.TrimPrefix(strings.TrimSpace(owner), "$ "))
	use(strings.Replace(dropIn, "ReadWritePaths=", "#", 1))
	h.start("3", "read-only file system")
	h.mail("UNKNOWN", "ReadWritePaths= has to name the directory")

	use(dropIn)
	h.start("0", "SPINECERT CRITICAL - /etc/pki/pcs.crt expires in 3d ")
	h.Run("rm", "/etc/pki/pcs.crt")
	h.start("0", "no such file or directory")
	if _, err := os.Stat(h.Root + mailbox); err == nil {
		h.t.Error("there is mail about a check that was to write metrics")
	}
	if got := h.Run("stat", "--format=%a %U", file); got != "644 prometheus" {
		h.t.Errorf("the file is %s's", got)
	}
	for _, line := range []string{`spinecert_check_status{kind="file",name="/etc/pki/pcs.crt"} 3`, `spinecert_check_not_after_timestamp_seconds{kind="file",name="/etc/pki/pcs.crt"} `, "spinecert_check_result 3"} {
		if got := h.Run("cat", file); !strings.Contains(got, "\n"+line) {
			h.t.Errorf("no %s:\n%s", line, got)
		}
	}

	h.Push("/etc/systemd/system/spinecert-check.timer.d/often.conf", []byte(manualBlock(h.t, "monitoring.md", "OnCalendar=*:0/15")), 0o644)
	h.Run("rm", "/etc/systemd/system/spinecert-check.timer.d/now.conf")
	h.Run("systemctl", "daemon-reload")
	if got := h.Run("systemctl", "show", "--property=TimersCalendar", "spinecert-check.timer"); strings.Count(got, "OnCalendar=") != 1 || !strings.Contains(got, "OnCalendar=*-*-* *:00/15:00") {
		h.t.Errorf("the timer has %s", got)
	}
}

// daemon checks what a daemon has, with the group of its socket.
func (h *checkHost) daemon() {
	h.PushFile("/usr/bin/spinecertd", box.Build(h.t, "github.com/spinecert/spinecert/cmd/spinecertd"), 0o755)
	h.Run("rm", checkDropIns+"what.conf")
	h.Run("systemctl", "daemon-reload")
	h.start("2", "is spinecertd running?")
	h.mail("CRITICAL", "is spinecertd running?")

	life := testpki.Validity(time.Now().Add(-oneDay), time.Now().Add(100*oneDay+time.Hour))
	leaf := h.root.Issue(h.t, testpki.KeyType("ecdsa-p256"), testpki.DNS("pcs.thirdparty.nhs.uk"), life)
	h.Push("/etc/spinecert/pcs.crt", leaf.CertPEM(), 0o644)
	h.Push("/etc/spinecert/pcs.key", leaf.KeyPEM(), 0o600)
	h.Push("/etc/spinecert/live.pem", h.root.CertPEM(), 0o644)
	h.Push("/etc/spinecert/spinecert.yaml", []byte(`environments:
  live: {profile: private, trust: [live.pem], revocation: prefer}
slots:
  pcs: {environment: live, files: {certificate: pcs.crt, key: pcs.key}, affects: {ods: [T99999]}}
admin: {socket: {group: spinecert-status}}
`), 0o644)
	h.Run("groupadd", "--force", "--system", "spinecert-status")
	h.Run("systemd-run", "--unit=daemon", "--service-type=notify", "--property=RuntimeDirectory=spinecert", "--property=StateDirectory=spinecert", "--property=StateDirectoryMode=0710", "/usr/bin/spinecertd", "--config", "/etc/spinecert/spinecert.yaml")
	h.Push(checkDropIns+"group.conf", []byte("[Service]\nSupplementaryGroups=spinecert\n"), 0o644) // of the socket
	h.Push(checkDropIns+"what.conf", []byte("[Service]\nExecStart=\nExecStart=/usr/bin/spinecert check --slot pcs\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.start("3", "permission denied")
	h.mail("UNKNOWN", "permission denied")
	h.Push(checkDropIns+"status.conf", []byte("[Service]\nSupplementaryGroups=spinecert-status\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.start("0", "SPINECERT OK - pcs expires in 100d ")
	h.Run("rm", checkDropIns+"what.conf")
	h.Run("systemctl", "daemon-reload")
	h.start("0", "SPINECERT OK")
	h.Run("systemctl", "stop", "daemon")
	h.start("2", "is spinecertd running?")
}
