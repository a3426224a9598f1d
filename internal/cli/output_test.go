package cli

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ünïcode 漢字":   "plain, ünïcode 漢字",
		"a\x1b[31mb":          `a\x1b[31mb`,
		"two\nlines\r":        `two\nlines\x0d`,
		"tab\t":               `tab\t`,
		"c1 \u009b31m":        `c1 \u009b31m`,
		"bidi \u202e\u2066":   `bidi \u202e\u2066`,
		"zero\u200bwidth":     `zero\u200bwidth`,
		"tag \U000e0041":      `tag \U000e0041`,
		"line\u2028separator": `line\u2028separator`,
		"bad \xff\xfe":        `bad \xff\xfe`,
		"\uFFFD is a rune":    "\uFFFD is a rune",
		"del \x7f":            `del \x7f`,
		"no-break\u00a0space": `no-break\u00a0space`,
	} {
		if got := safe(in); got != want {
			t.Errorf("safe(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzSafe(f *testing.F) {
	f.Add("a\x1b[0m\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range safe(s) {
			if !printable(r) {
				t.Errorf("safe(%q) has %U", s, r)
			}
		}
		if !utf8.ValidString(safe(s)) {
			t.Errorf("safe(%q) is not UTF-8", s)
		}
		line, err := encode(map[string]string{"value": s})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range strings.TrimSuffix(string(line), "\n") {
			if !printable(r) {
				t.Errorf("encode(%q) has %U", s, r)
			}
		}
		var back map[string]string
		if err := json.Unmarshal(line, &back); err != nil || utf8.ValidString(s) && back["value"] != s {
			t.Errorf("encode(%q) reads as %q, %v", s, back["value"], err)
		}
	})
}

func TestRemaining(t *testing.T) {
	now := day(2026, 11, 22)
	for _, tt := range []struct {
		end  time.Time
		days int
		text string
	}{
		{now.Add(30 * 24 * time.Hour), 30, "30 days left"},
		{now.Add(47 * time.Hour), 1, "1 day left"},
		{now.Add(time.Hour), 0, "less than a day left"},
		{now, 0, "less than a day left"},
		{now.Add(-time.Hour), -1, "expired less than a day ago"},
		{now.Add(-24 * time.Hour), -1, "expired 1 day ago"},
		{now.Add(-50 * time.Hour), -3, "expired 2 days ago"},
	} {
		if d, s := daysLeft(tt.end, now), remaining(tt.end, now); d != tt.days || s != tt.text {
			t.Errorf("%v: %d, %q, want %d, %q", tt.end.Sub(now), d, s, tt.days, tt.text)
		}
	}
}

func TestStatusTable(t *testing.T) {
	r := &statusResult{Status: exampleStatus(), now: day(2026, 11, 22)}
	golden(t, "status.txt", text(r))
}

// failingWriter is a stdout on a full disk.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestUnwrittenResult(t *testing.T) {
	var errs strings.Builder
	if exit := Main(t.Context(), "test", []string{"version"}, nil, failingWriter{}, &errs); exit != exitFailed {
		t.Errorf("exit status %d, want %d", exit, exitFailed)
	}
	if !strings.Contains(errs.String(), "error: write result: no space left") {
		t.Errorf("stderr: %q", errs.String())
	}
}

// TestNoKeyMaterial breaks a key in many places and looks for it in everything
// that is said of it.
func TestNoKeyMaterial(t *testing.T) {
	leaf := testpki.NewRoot(t).Issue(t)
	der, _ := pem.Decode(leaf.KeyPEM())
	encoded := base64.StdEncoding.EncodeToString(der.Bytes)
	dir := t.TempDir()
	file, cert := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	testpki.WriteFile(t, cert, leaf.CertPEM(), 0o644)
	whole := string(leaf.KeyPEM())
	broken := []string{whole, whole[:len(whole)-40], strings.Replace(whole, encoded[20:24], "!!!!", 1), strings.ReplaceAll(whole, "PRIVATE KEY", "CERTIFICATE"),
		strings.ReplaceAll(whole, "PRIVATE KEY", "X509 CRL"), whole + whole, encoded, "-----BEGIN " + encoded}
	for i := range der.Bytes {
		changed := append([]byte(nil), der.Bytes...)
		changed[i] ^= 0x55
		broken = append(broken, string(pemBlock("PRIVATE KEY", changed)))
	}
	for i, content := range broken {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"inspect", file}, {"inspect", "--output", "json", file}, {"inspect", "--password-file", file, file},
			{"verify", "--trust", file, cert}, {"verify", "--trust", cert, "--crl", file, file},
			{"verify", "--trust", cert, "--cert", cert, "--key", file, "127.0.0.1:1"},
			{"config", "check", "--config", file},
		} {
			_, out, errs := run(t, args...)
			for at := 0; at+12 <= len(encoded); at += 4 {
				if piece := encoded[at : at+12]; strings.Contains(out+errs, piece) && !strings.Contains(publicText(leaf), piece) {
					t.Fatalf("variant %d: %v quotes the key:\n%s%s", i, args, out, errs)
				}
			}
		}
	}
}

func publicText(l *testpki.Leaf) string { return string(l.CertPEM()) }
