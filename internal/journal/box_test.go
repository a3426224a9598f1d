package journal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/journal"
	"github.com/spinecert/spinecert/internal/testpki"
)

// patience is how long anything in the box may take; each takes a fraction.
const patience = time.Minute

// The program of this test is also what a unit of the box starts.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "journal-writer" {
		os.Exit(write(os.Args[1]))
	}
	os.Exit(m.Run())
}

const manyLines = "one\ntwo\n\n\tthree"

func large(size int) string { return strings.Repeat("0123456789abcde ", size/16) }

// write writes some lines, and fails where one was not taken.
func write(what string) int {
	lost := 0
	h := journal.New(journal.Options{Identifier: "writer", Prefix: "SPINECERT_", FieldsOnly: []string{"large"}, Lost: func() { lost++ }, Fallback: slog.NewTextHandler(os.Stderr, nil)})
	log := slog.New(h)
	fmt.Fprintln(os.Stderr, "stderr is the journal:", journal.IsStream(os.Stderr))
	switch what {
	case "all":
		log.Info("a line", slog.String("slot", "pcs"), slog.String("event", "plain"))
		log.Warn("lines", slog.String("event", "lines"), slog.String("error", manyLines))
		log.Error("bytes", slog.String("event", "bytes"), slog.Any("v", []byte("\x00\x1b[2J\xff\n")))
		log.Info("100 KiB", slog.String("event", "100k"), slog.String("v", large(100<<10)))
		log.Info("8 MiB", slog.String("event", "8m"), slog.Any("large", []byte(large(8<<20))))
	case "forbidden": // memfd_create is: the line goes to stderr
		log.Info("8 MiB", slog.String("event", "8m"), slog.String("slot", strings.Repeat("x", 8<<20)))
	case "one":
		log.Info("one", slog.String("event", "one"))
	case "syslog": // a syslog daemon that prints what it is given, until that is the line
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/run/systemd/journal/syslog", Net: "unixgram"})
		if err != nil {
			return 1
		}
		fmt.Println("listening")
		for line := ""; !strings.Contains(line, "event=one"); {
			data := make([]byte, 64<<10)
			n, _, err := l.ReadFromUnix(data)
			if err != nil {
				return 1
			}
			line = string(data[:n])
			fmt.Println(line)
		}
	case "hung":
		for begin := time.Now(); lost == 0; {
			if log.Info("hung", slog.String("event", "hung")); time.Since(begin) > patience {
				return 3
			}
		}
		return 0
	}
	h.Close()
	return lost
}

// entries is what journalctl says of a match.
func entries(b *box.Box, t *testing.T, match ...string) []map[string]any {
	t.Helper()
	cmd := b.Command(t.Context(), append([]string{"journalctl", "--no-pager", "--all", "-o", "json"}, match...)...)
	data, err := cmd.Output()
	if err != nil {
		t.Fatalf("journalctl %q: %v", match, err)
	}
	var out []map[string]any
	for line := range bytes.Lines(data) {
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// one waits for the one entry of a match.
func one(b *box.Box, t *testing.T, match ...string) map[string]any {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		found := entries(b, t, match...)
		if len(found) == 1 {
			return found[0]
		}
		if len(found) > 1 || time.Now().After(end) {
			t.Fatalf("%d entries of %q, want 1", len(found), match)
		}
	}
}

func has(t *testing.T, e map[string]any, want map[string]any) {
	t.Helper()
	for name, value := range want {
		if diff := cmp.Diff(value, e[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%.2000s", name, diff)
		}
	}
}

// TestJournal asks a real journal for what was written.
func TestJournal(t *testing.T) {
	b := box.Start(t)
	b.PushSelf("/usr/local/bin/journal-writer")
	run := func(t *testing.T, unit, what string, properties ...string) {
		t.Helper()
		args := []string{"systemd-run", "--quiet", "--wait", "--unit", unit, "-p", "DynamicUser=yes"}
		for _, p := range properties {
			args = append(args, "-p", p)
		}
		b.For(t).Run(append(args, "/usr/local/bin/journal-writer", what)...)
	}
	t.Run("fields", func(t *testing.T) {
		run(t, "w-all", "all", "RestrictAddressFamilies=AF_UNIX", "SystemCallFilter=@system-service", "PrivateNetwork=yes", "ProtectSystem=strict", "PrivateDevices=yes")
		has(t, one(b, t, "SPINECERT_SLOT=pcs"), map[string]any{"MESSAGE": "a line: slot=pcs event=plain", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "writer", "SYSLOG_FACILITY": "3",
			"SPINECERT_EVENT": "plain", "_SYSTEMD_UNIT": "w-all.service", "_TRANSPORT": "journal"})
		has(t, one(b, t, "SPINECERT_EVENT=lines"), map[string]any{"MESSAGE": `lines: event=lines error="one\ntwo\n\n\tthree"`, "SPINECERT_ERROR": manyLines, "PRIORITY": "4"})
		has(t, one(b, t, "SPINECERT_EVENT=bytes"), map[string]any{"MESSAGE": `bytes: event=bytes v="\x00\x1b[2J\xff\n"`, "PRIORITY": "3",
			"SPINECERT_V": []any{0.0, 27.0, 91.0, 50.0, 74.0, 255.0, 10.0}}) // journalctl writes bytes as numbers
		has(t, one(b, t, "SPINECERT_EVENT=100k"), map[string]any{"SPINECERT_V": large(100 << 10)})
		has(t, one(b, t, "SPINECERT_EVENT=8m"), map[string]any{"SPINECERT_LARGE": large(8 << 20)})
		one(b, t, "_SYSTEMD_UNIT=w-all.service", "MESSAGE=stderr is the journal: true")
	})
	t.Run("stderr elsewhere", func(t *testing.T) {
		run(t, "w-elsewhere", "one", "StandardError=file:/run/elsewhere")
		if got := b.For(t).Run("cat", "/run/elsewhere"); got != "stderr is the journal: false" {
			t.Errorf("stderr has %q", got)
		}
	})
	t.Run("no memory", func(t *testing.T) {
		run(t, "w-forbidden", "forbidden", "SystemCallFilter=~memfd_create", "SystemCallErrorNumber=EPERM")
		if found := entries(b, t, "SPINECERT_EVENT=8m", "_SYSTEMD_UNIT=w-forbidden.service"); len(found) > 0 {
			t.Error("it came as fields")
		}
		await(t, "it is there as text", func() bool {
			return strings.Contains(b.For(t).Run("journalctl", "--no-pager", "-o", "cat", "_SYSTEMD_UNIT=w-forbidden.service"), `msg="8 MiB" event=8m`)
		})
	})
	t.Run("journal restarted", func(t *testing.T) {
		b.For(t).Run("systemctl", "restart", "systemd-journald.service")
		run(t, "w-restarted", "one")
		one(b, t, "SPINECERT_EVENT=one", "_SYSTEMD_UNIT=w-restarted.service")
	})
	t.Run("syslog", func(t *testing.T) {
		b := b.For(t)
		b.Push("/etc/systemd/journald.conf.d/forward.conf", []byte("[Journal]\nForwardToSyslog=yes\n"), 0o644)
		b.Run("systemctl", "restart", "systemd-journald.service")
		b.Run("systemd-run", "--quiet", "--unit", "syslog-reader", "-p", "StandardOutput=file:/run/syslog-reader", "/usr/local/bin/journal-writer", "syslog")
		await(t, "the reader listens", func() bool { return strings.Contains(b.Run("sh", "-c", "cat /run/syslog-reader; :"), "listening") })
		run(t, "w-syslog", "one")
		// <30> is facility daemon (3), severity info (6).
		await(t, "the line is handed on", func() bool {
			out := b.Run("cat", "/run/syslog-reader")
			return regexp.MustCompile(`(?m)^<30>.* writer\[\d+\]: one: event=one$`).MatchString(out)
		})
	})
	t.Run("journal hung", func(t *testing.T) {
		b := b.For(t)
		b.Run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
		defer b.Run("systemctl", "kill", "--signal=CONT", "systemd-journald.service")
		cmd := b.Command(t.Context(), "/usr/local/bin/journal-writer", "hung")
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "event=") {
			t.Errorf("%v, want a line that is given up, and none on stderr: %s", err, out)
		}
	})
	t.Run("spinecertd", func(t *testing.T) { testDaemon(t, b.For(t)) })
	t.Run("journal stopped", func(t *testing.T) { // last: nobody writes to it after that
		b := b.For(t)
		b.Run("systemctl", "stop", "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket", "systemd-journald.service")
		cmd := b.Command(t.Context(), "/usr/local/bin/journal-writer", "one")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "level=INFO msg=one event=one\n") {
			t.Errorf("%v, want the line on stderr: %s", err, out)
		}
	})
}

const (
	name   = "pcs.thirdparty.nhs.uk"
	config = `environments:
  live: {profile: private, trust: [trust/live.pem], revocation: "off"}
slots:
  pcs: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs.crt, key: pcs.key}, watch: {poll: 1s}}
`
)

// testDaemon asks the journal for what the real daemon writes, in its unit.
func testDaemon(t *testing.T, b *box.Box) {
	b.PushFile("/usr/bin/spinecertd", box.Build(t, "github.com/spinecert/spinecert/cmd/spinecertd"), 0o755)
	b.PushFile("/etc/systemd/system/spinecertd.service", "../../systemd/spinecertd.service", 0o644)
	b.Run("useradd", "--system", "spinecert")
	sub := testpki.NewRoot(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Root")).SubCA(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Sub CA"))
	put := func() {
		leaf := sub.Issue(t, testpki.KeyType("ecdsa-p256"), testpki.DNS(name))
		b.Push("/etc/spinecert/pcs.key.new", leaf.KeyPEM(), 0o640)
		b.Push("/etc/spinecert/pcs.crt.new", leaf.FullChainPEM(), 0o644)
		b.Run("sh", "-ec", "cd /etc/spinecert; chown root:spinecert pcs.key.new; mv pcs.key.new pcs.key; mv pcs.crt.new pcs.crt")
	}
	b.Push("/etc/spinecert/trust/live.pem", sub.BundlePEM(), 0o644)
	b.Push("/etc/spinecert/spinecert.yaml", []byte(config), 0o644)
	put()
	b.Run("systemctl", "daemon-reload")
	b.Run("systemctl", "start", "spinecertd")
	put()
	rotated := one(b, t, "SPINECERT_EVENT=rotated", "SPINECERT_SLOT=pcs", "SPINECERT_GENERATION=2")
	has(t, rotated, map[string]any{"PRIORITY": "6", "SYSLOG_IDENTIFIER": "spinecertd", "_SYSTEMD_UNIT": "spinecertd.service", "_TRANSPORT": "journal", "SPINECERT_ENVIRONMENT": "live"})
	message, _ := rotated["MESSAGE"].(string)
	if !strings.HasPrefix(message, "slot serves a new generation: event=rotated slot=pcs environment=live generation=2 serial=") || strings.Contains(message, "sha256=") {
		t.Errorf("MESSAGE is %q", message)
	}
	if sum, _ := rotated["SPINECERT_SHA256"].(string); len(sum) != 64 {
		t.Errorf("SPINECERT_SHA256 is %q", sum)
	}
	if out := b.Run("journalctl", "--no-pager", "-u", "spinecertd") + "\n"; !strings.Contains(out, "]: "+message+"\n") || !strings.Contains(out, "event=ready") {
		t.Errorf("journalctl -u has no line %q:\n%s", message, out)
	}
	for _, e := range entries(b, t, "_SYSTEMD_UNIT=spinecertd.service") {
		if e["SPINECERT_EVENT"] == nil {
			t.Errorf("a line without event: %v", e["MESSAGE"])
		}
	}

	// A journal that hangs holds up no rotation, and gets the line when it goes on.
	b.Run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
	put()
	await(t, "the slot rotates while the journal hangs", func() bool {
		return strings.HasSuffix(b.Run("readlink", "/var/lib/spinecert/slots/pcs/current"), "/3")
	})
	b.Run("systemctl", "kill", "--signal=CONT", "systemd-journald.service")
	one(b, t, "SPINECERT_EVENT=rotated", "SPINECERT_SLOT=pcs", "SPINECERT_GENERATION=3")

	tryQueries(t, b)

	// A broken configuration: why it does not start has the priority of an error.
	b.Push("/etc/spinecert/spinecert.yaml", []byte(config+"wrong: 1\n"), 0o644)
	_, _ = b.Exec(t.Context(), "systemctl", "restart", "spinecertd")
	await(t, "the journal says as an error what is wrong with the configuration", func() bool {
		out := b.Run("journalctl", "--no-pager", "-u", "spinecertd", "-t", "spinecertd", "-p", "err", "-o", "cat")
		return strings.Contains(out, "error: /etc/spinecert/spinecert.yaml:") && strings.Contains(out, "wrong")
	})

	b.Push("/etc/spinecert/spinecert.yaml", []byte(config+"log: {format: json}\n"), 0o644)
	b.Run("systemctl", "restart", "spinecertd")
	await(t, "the journal has JSON, as printed", func() bool {
		for _, e := range entries(b, t, "_SYSTEMD_UNIT=spinecertd.service", "_TRANSPORT=stdout", "PRIORITY=6") {
			var line struct{ Level, Msg, Event string }
			message, _ := e["MESSAGE"].(string)
			if err := json.Unmarshal([]byte(message), &line); err != nil || line.Event == "" || line.Level == "" || line.Msg == "" {
				t.Fatalf("log.format is json, and a line is %q: %v", message, err)
			}
			if line.Event == "ready" {
				return true
			}
		}
		return false
	})
}

// tryQueries runs every command of docs/logs.md.
func tryQueries(t *testing.T, b *box.Box) {
	t.Helper()
	page, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	tried, found := 0, 0
	for line := range strings.Lines(string(page)) {
		line = strings.TrimPrefix(line, "# ")
		if !strings.HasPrefix(line, "journalctl ") {
			continue
		}
		out := b.Run("sh", "-ec", line)
		if tried++; out != "" && !strings.Contains(out, "-- No entries --") {
			found++
		}
	}
	if tried < 12 || found < 5 {
		t.Errorf("tried %d commands of docs/logs.md, and %d found something", tried, found)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
