package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/journal"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/tunnel"
)

// asJournal makes a file that JOURNAL_STREAM names, as systemd makes standard error.
func asJournal(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	return f
}

func TestLogFormat(t *testing.T) {
	stream := asJournal(t)
	other, err := os.Create(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, tc := range []struct {
		format  string
		w       io.Writer
		journal bool
		begin   string
	}{
		{"auto", stream, true, ""},
		{"auto", other, false, "time="},
		{"auto", &bytes.Buffer{}, false, ""},
		{"text", stream, false, "time="},
		{"json", stream, false, `{"time":`},
		{"json", other, false, `{"time":`},
	} {
		var level slog.LevelVar
		log := newLog(tc.w, &config.Config{LogFormat: tc.format, LogLevel: slog.LevelWarn}, &level, func() { t.Error("a line was lost") })
		if _, ok := log.Handler().(*journal.Handler); ok != tc.journal {
			t.Errorf("%s: %T", tc.format, log.Handler())
		}
		if log.Enabled(t.Context(), slog.LevelInfo) || !log.Enabled(t.Context(), slog.LevelWarn) {
			t.Errorf("%s: log.level does not count", tc.format)
		}
		f, ok := tc.w.(*os.File)
		if !ok || tc.journal {
			continue
		}
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		log.LogAttrs(t.Context(), slog.LevelWarn, "m", slog.String("name", "a\x1b[2J\nb"))
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if got := string(data); !strings.HasPrefix(got, tc.begin) || strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: %q", tc.format, got)
		}
	}
}

type noWriter struct{}

func (noWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestLinesThatNobodyTakesAreCounted(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		lost := 0
		newLog(noWriter{}, &config.Config{LogFormat: format}, &slog.LevelVar{}, func() { lost++ }).LogAttrs(t.Context(), slog.LevelInfo, "m")
		if lost != 1 {
			t.Errorf("%s: %d lines are lost, want 1", format, lost)
		}
	}
}

// What the program says before it ends is an error in the journal, and as it is elsewhere.
func TestAsErrors(t *testing.T) {
	f := asJournal(t)
	report(errors.New("no"), asErrors(f))
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != "<3>error: no\n" {
		t.Errorf("in the journal: %q", data)
	}
	if n, err := asErrors(f).Write([]byte("a\nb\n")); n != 4 || err != nil {
		t.Errorf("wrote %d: %v", n, err)
	}
	if data, _ = os.ReadFile(f.Name()); !strings.HasSuffix(string(data), "<3>a\n<3>b\n") {
		t.Errorf("in the journal: %q", data)
	}
	var b bytes.Buffer
	report(errors.New("no"), asErrors(&b))
	if b.String() != "error: no\n" {
		t.Errorf("elsewhere: %q", b.String())
	}
}

// A health check that connects and hangs up every second must not be all that there is to see among the warnings.
func TestHangUpIsNoWarning(t *testing.T) {
	t.Parallel()
	gone := fmt.Errorf("the peer hung up during the handshake: %w", io.EOF)
	for name, tc := range map[string]struct {
		f    fault
		want bool
	}{
		"hung up":       {fault{result: string(tunnel.Failed), err: gone}, true},
		"reset":         {fault{result: string(tunnel.Failed), err: &net.OpError{Op: "read", Err: syscall.ECONNRESET}}, true},
		"outbound":      {fault{result: string(tunnel.Failed), err: gone, outbound: true}, false},
		"refused":       {fault{result: string(tunnel.Refused), err: gone}, false},
		"timed out":     {fault{result: string(tunnel.Failed), err: os.ErrDeadlineExceeded}, false},
		"without cause": {fault{result: string(tunnel.Failed)}, false},
	} {
		if got := tc.f.hungUp(); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// An error is something that somebody must act on: a bad certificate is one only where nothing is served meanwhile.
func TestLevelOfARefusal(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.identity("pcs", providerName)
	h.identity("old", providerName, testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)))
	h.configure(`revocation: "off"`, providerSlot+"\n  old: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: old.crt, key: old.key}}\n"+
		"  torn: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs.crt, key: old.key}, watch: {poll: 1s, settle: 1s}}", "")
	h.start()
	h.logged("level=ERROR", "event=candidate_refused", "slot=old", "the slot serves nothing")
	h.logged("level=INFO", "event=candidate_pending", "slot=torn")
	h.logged("level=ERROR", "event=source_incoherent", "slot=torn", "the slot serves nothing")
	h.identity("pcs", providerName, testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)))
	h.logged("level=WARN", "event=candidate_refused", "slot=pcs", "what is served stays")
	h.write("trust.pem", nil, 0o644)
	h.logged("level=INFO", "event=trust_pending", "environment=t")
}
