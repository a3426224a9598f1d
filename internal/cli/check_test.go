package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/testpki"
)

// checkNow is when the tables below are judged.
var checkNow = time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)

const oneDay = 24 * time.Hour

// checkOf are the options of a check of files at checkNow.
func checkOf(files ...string) *checkOptions {
	return &checkOptions{files: files, warning: usualWarning, critical: usualCritical, limit: 10 * time.Second, now: checkNow}
}

// firstLine is the line that a monitoring system shows.
func firstLine(r *checkResult) string {
	line, _, _ := strings.Cut(text(r), "\n")
	return line
}

// mustCheck runs a check whose flags are right.
func mustCheck(t *testing.T, o *checkOptions) *checkResult {
	t.Helper()
	r, err := runCheck(context.Background(), o)
	if r == nil {
		t.Fatal(err)
	}
	exit := exitDone
	if err != nil {
		exit, _ = classify(err)
	}
	if exit != int(r.Status) {
		t.Errorf("exit status %d with the status %s", exit, r.Status)
	}
	return r
}

func TestCheckThresholds(t *testing.T) {
	tests := []struct {
		left              time.Duration
		late              time.Duration // how far the clock is into its second
		warning, critical string
		want              pluginStatus
		says              string
	}{
		{200 * oneDay, 0, "30d", "7d", pluginOK, "c.pem expires in 200d (2027-06-16T00:00:00Z) | 'c.pem'=17280000s;2592000:;604800:"},
		{30*oneDay + time.Second, 0, "30d", "7d", pluginOK, "expires in 30d "},
		{30 * oneDay, 0, "30d", "7d", pluginWarning, "expires in 30d "},
		{30*oneDay + time.Second, 999 * time.Millisecond, "30d", "7d", pluginOK, "=2592001s;"},
		{20 * oneDay, 0, "30d", "7d", pluginWarning, "expires in 20d "},
		{7*oneDay + time.Second, 0, "30d", "7d", pluginWarning, "expires in 7d "},
		{7 * oneDay, 0, "30d", "7d", pluginCritical, "expires in 7d "},
		{7*oneDay + time.Second, time.Millisecond, "30d", "7d", pluginWarning, "=604801s;"},
		{3 * oneDay, 0, "30d", "7d", pluginCritical, "SPINECERT CRITICAL - c.pem expires in 3d (2026-12-01T00:00:00Z) | 'c.pem'=259200s;2592000:;604800:"},
		{3 * oneDay, 0, "2d", "1d", pluginOK, "=259200s;172800:;86400:"},
		{oneDay - time.Second, 0, "30d", "7d", pluginCritical, "expires in 23h "},
		{time.Hour - time.Second, 0, "30d", "7d", pluginCritical, "expires in 59m "},
		{time.Second, 0, "30d", "7d", pluginCritical, "expires in 1s "},
		{0, 0, "0s", "0s", pluginCritical, "expires in 0s "},
		{time.Second, 0, "0s", "0s", pluginOK, "expires in 1s "},
		{-time.Second, 0, "0s", "0s", pluginCritical, "expired 1s ago (2026-11-27T23:59:59Z) | 'c.pem'=-1s;0:;0:"},
		{-400 * oneDay, 0, "30d", "7d", pluginCritical, "expired 400d ago "},
		{200 * oneDay, 0, "200d", "200d", pluginCritical, "expires in 200d "},
	}
	key := testpki.NewKey(t, "ecdsa-p256")
	root := testpki.NewRoot(t, testpki.Key(key))
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.left, " ", tt.late, " ", tt.warning, " ", tt.critical), func(t *testing.T) {
			t.Chdir(t.TempDir())
			leaf := root.Issue(t, testpki.Key(key), testpki.Validity(checkNow.Add(-1000*oneDay), checkNow.Add(tt.left)))
			testpki.WriteFile(t, "c.pem", leaf.CertPEM(), 0o644)
			o := checkOf("c.pem")
			o.now, o.warning, o.critical = checkNow.Add(tt.late), tt.warning, tt.critical
			r := mustCheck(t, o)
			if line := firstLine(r); r.Status != tt.want || !strings.Contains(line, tt.says) || !strings.HasPrefix(line, "SPINECERT "+tt.want.String()+" - ") {
				t.Errorf("status %s, want %s with %q\n%s", r.Status, tt.want, tt.says, line)
			}
			if out := text(r); strings.Count(out, "\n") != 1 {
				t.Errorf("one thing to say, in several lines:\n%s", out)
			}
		})
	}
}

func TestCheckFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--warning", "30"}, {"--critical", "x"}, {"--warning", "-1d"}, {"--warning", "1d"}, {"--file", ""}, {"--file", "-"}, {"--endpoint", "pcs.example"},
		{"--endpoint", "https://pcs.example:443"}, {"--endpoint", ":443"}, {"--endpoint", "pcs.example:0"}, {"--endpoint", "pcs.example:70000"}, {"--slot", ""},
		{"--trust", "x"}, {"--file", "c.pem", "--environment", "live"}, {"--endpoint", "a:1", "--trust", "x", "--environment", "live"}, {"--endpoint", "a:1", "--name", "a"},
		{"--endpoint", "a:1", "--password-file", "x"}, {"--slot", "pcs", "--leaf-only"}, {"--sni", "x"}, {"--nonsense"}, {"argument"}, {"--output", "yaml"}, {"--file", "c.pem", "--output-file", "c.prom"},
		{"--output", "textfile", "--output-file", "c.txt"}, {"--output", "textfile", "--output-file", "c.prom", "--warning", "30"}, {"--timeout", "0s"},
	} {
		exit, out, errs := run(t, append([]string{"check"}, args...)...)
		if exit != 3 || !strings.HasPrefix(out, "SPINECERT UNKNOWN - ") || strings.Count(out, "\n") != 1 || strings.Contains(errs, "error:") || !strings.HasPrefix(errs, "hint: ") {
			t.Errorf("check %q: exit %d\n%s%s", args, exit, out, errs)
		}
	}
	if exit, out, _ := run(t, "check", "--help"); exit != 0 || !strings.Contains(out, "--leaf-only") {
		t.Errorf("help: exit %d\n%s", exit, out)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, unix.ENOSPC }

// TestCheckUnwritten: OK that nobody has read is not OK, nor CRITICAL.
func TestCheckUnwritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.pem")
	testpki.WriteFile(t, file, testpki.NewRoot(t, testpki.Validity(time.Now(), time.Now().Add(1000*oneDay))).CertPEM(), 0o644)
	if exit := Main(context.Background(), "test", []string{"check", "--file", file}, strings.NewReader(""), full{}, &bytes.Buffer{}); exit != 3 {
		t.Errorf("exit %d, want 3", exit)
	}
}

func TestCheckFile(t *testing.T) {
	t.Chdir(t.TempDir())
	put := func(name string, parts ...[]byte) { testpki.WriteFile(t, name, bytes.Join(parts, nil), 0o644) }
	valid := func(days int) testpki.Option {
		return testpki.Validity(checkNow.Add(-oneDay), checkNow.Add(time.Duration(days)*oneDay))
	}
	kind := testpki.KeyType("ecdsa-p256")
	root := testpki.NewRoot(t, kind, valid(4000), testpki.Name("Check Root"))
	sub := root.SubCA(t, kind, valid(5), testpki.Name("Check Authentication"))
	leaf := sub.Issue(t, kind, valid(100), testpki.DNS("pcs.nhs.uk"))
	put("full.pem", leaf.FullChainPEM())
	put("leaf.pem", leaf.CertPEM())
	put("leaf.der", leaf.Cert.Raw)
	put("key.pem", leaf.KeyPEM())
	put("withkey.pem", leaf.KeyPEM(), leaf.FullChainPEM())
	put("encrypted.pem", leaf.CertPEM(), encryptedKeyPEM())
	put("bundle.pem", sub.BundlePEM())
	put("two.pem", leaf.CertPEM(), sub.Issue(t, kind, valid(2), testpki.DNS("other.nhs.uk")).CertPEM())
	put("future.pem", root.Issue(t, kind, testpki.Validity(checkNow.Add(time.Second), checkNow.Add(900*oneDay))).CertPEM())
	put("begins.pem", root.Issue(t, kind, testpki.Validity(checkNow, checkNow.Add(900*oneDay))).CertPEM())
	put("forever.pem", root.Issue(t, kind, testpki.Validity(checkNow, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))).CertPEM())
	put("hostile.pem", root.Issue(t, kind, valid(90), testpki.DNS("pcs.nhs.uk")).CertPEM(),
		root.Issue(t, kind, valid(3), testpki.Name("<script>alert(1)</script> | 'x'=1s\nOK\x1b[31m\u202e"), testpki.NoSAN()).CertPEM())
	put("crl.pem", testpki.EncodeCRL(root.CRL(t)))
	put("empty.pem")
	put("torn.pem", leaf.CertPEM()[:300])
	put("text.txt", []byte("nothing here\n"))
	put("a|b='c'\n.pem", leaf.CertPEM())
	if err := unix.Mkfifo("fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	put("huge")
	if err := os.Truncate("huge", maxInput+1); err != nil {
		t.Fatal(err)
	}
	put("right.txt", []byte("secret-word\nrest\n"))
	put("wrong.txt", []byte("other\n"))
	tests := []struct {
		file, password string
		leafOnly       bool
		want           pluginStatus
		says           string
	}{
		{"full.pem", "", false, pluginCritical, `full.pem expires in 5d (2026-12-03T00:00:00Z): subCA "CN=Check Authentication" | 'full.pem'=432000s;`},
		{"full.pem", "", true, pluginOK, "full.pem expires in 100d (2027-03-08T00:00:00Z) | "},
		{"leaf.pem", "", false, pluginOK, "leaf.pem expires in 100d "},
		{"leaf.der", "", false, pluginOK, "leaf.der expires in 100d "},
		{"withkey.pem", "", true, pluginOK, "expires in 100d "},
		{"encrypted.pem", "", false, pluginOK, "expires in 100d "},
		{"bundle.pem", "", false, pluginCritical, `expires in 5d (2026-12-03T00:00:00Z): subCA "CN=Check Authentication"`},
		{"bundle.pem", "", true, pluginUnknown, "there are only CA certificates in it"},
		{"two.pem", "", false, pluginCritical, `expires in 2d (2026-11-30T00:00:00Z): certificate "CN=other.nhs.uk"`},
		{"two.pem", "", true, pluginCritical, "expires in 2d "},
		{"future.pem", "", false, pluginCritical, "future.pem is not valid before 2026-11-28T00:00:01Z | 'future.pem'=77760000s"},
		{"begins.pem", "", false, pluginOK, "expires in 900d "},
		{"forever.pem", "", false, pluginOK, "(9999-12-31T23:59:59Z) | 'forever.pem'=251606476799s;"},
		{"hostile.pem", "", false, pluginCritical, `"CN=\\(script\\)alert(1)\\(/script\\) / 'x'=1s\nOK\x1b[31m\u202e" | 'hostile.pem'=259200s;`},
		{"crl.pem", "", false, pluginUnknown, "there is no certificate in it"},
		{"key.pem", "", false, pluginUnknown, "there is no certificate in it"},
		{"empty.pem", "", false, pluginUnknown, "is empty"},
		{"torn.pem", "", false, pluginUnknown, "torn.pem"},
		{"text.txt", "", false, pluginUnknown, "text.txt"},
		{"none.pem", "", false, pluginUnknown, `read "none.pem": no such file or directory`},
		{"fifo", "", false, pluginUnknown, "is not a file"},
		{".", "", false, pluginUnknown, "is a directory"},
		{"huge", "", false, pluginUnknown, "more than 67108864 bytes"},
		{"a|b='c'\n.pem", "", false, pluginOK, `a/b='c'\n.pem expires in 100d (2027-03-08T00:00:00Z) | 'a/b_''c''\n.pem'=8640000s;2592000:;604800:`},
		{"leaf.pem", "none.txt", false, pluginUnknown, `read "none.txt"`},
		{"store.p12", "", false, pluginUnknown, "needs a password"},
		{"store.p12", "wrong.txt", false, pluginUnknown, "store.p12"},
		{"store.p12", "right.txt", false, pluginCritical, `store.p12 expires in 5d (2026-12-03T00:00:00Z): subCA "CN=Check Authentication"`},
		{"store.p12", "right.txt", true, pluginOK, "store.p12 expires in 100d "},
	}
	openssl := exec.Command("openssl", "pkcs12", "-export", "-in", "full.pem", "-inkey", "key.pem", "-out", "store.p12", "-passout", "file:right.txt")
	out, opensslErr := openssl.CombinedOutput()
	for _, tt := range tests {
		t.Run(tt.file+" "+tt.password, func(t *testing.T) {
			if tt.file == "store.p12" {
				need(t, opensslErr == nil, fmt.Sprintf("openssl pkcs12: %v: %s", opensslErr, out))
			}
			o := checkOf(tt.file)
			o.leafOnly, o.passwordFile = tt.leafOnly, tt.password
			r := mustCheck(t, o)
			if line := firstLine(r); r.Status != tt.want || !strings.Contains(line, tt.says) {
				t.Errorf("status %s, want %s with %q\n%s", r.Status, tt.want, tt.says, line)
			}
			for line := range strings.Lines(text(r)) {
				if strings.Count(line, "|") > 1 || strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\u202e\n<>") {
					t.Errorf("a line that does harm: %q", line)
				}
			}
		})
	}
}

// TestCheckWorst: CRITICAL before UNKNOWN before WARNING before OK, in the status and in the lines.
func TestCheckWorst(t *testing.T) {
	t.Chdir(t.TempDir())
	kind := testpki.KeyType("ecdsa-p256")
	for name, days := range map[string]int{"3.pem": 3, "20.pem": 20, "200.pem": 200} {
		testpki.WriteFile(t, name, testpki.NewRoot(t, kind, testpki.Validity(checkNow, checkNow.Add(time.Duration(days)*oneDay))).CertPEM(), 0o644)
	}
	for _, tt := range []struct {
		files string
		want  pluginStatus
		says  string
	}{
		{"200.pem", pluginOK, "200.pem expires in 200d (2027-06-16T00:00:00Z) | "},
		{"200.pem 200.pem", pluginOK, "(2027-06-16T00:00:00Z) | "},
		{"200.pem 20.pem", pluginWarning, "20.pem expires in 20d (2026-12-18T00:00:00Z) | '20.pem'=1728000s;2592000:;604800: '200.pem'=17280000s;2592000:;604800:"},
		{"20.pem none.pem 200.pem", pluginUnknown, `read "none.pem": no such file or directory; 20.pem expires in 20d (2026-12-18T00:00:00Z) | `},
		{"200.pem 20.pem none.pem 3.pem", pluginCritical, `- 3.pem expires in 3d (2026-12-01T00:00:00Z); read "none.pem": no such file or directory; 20.pem expires in`},
	} {
		r := mustCheck(t, checkOf(strings.Fields(tt.files)...))
		if line := firstLine(r); r.Status != tt.want || !strings.Contains(line, tt.says) {
			t.Errorf("%s: status %s, want %s with %q\n%s", tt.files, r.Status, tt.want, tt.says, line)
		}
	}
	want := "CRITICAL 3.pem expires in 3d (2026-12-01T00:00:00Z)\nUNKNOWN read \"none.pem\": no such file or directory\n  hint: is the name right? ls -l none.pem\n" +
		"WARNING 20.pem expires in 20d (2026-12-18T00:00:00Z)\nOK 200.pem expires in 200d (2027-06-16T00:00:00Z)\n"
	if _, below, _ := strings.Cut(text(mustCheck(t, checkOf("200.pem", "20.pem", "none.pem", "3.pem"))), "\n"); below != want {
		t.Errorf("below the first line:\n%swant:\n%s", below, want)
	}
}

// TestCheckLate: a file that does not answer, as on a disk that is gone, is UNKNOWN in time, and hides nothing.
func TestCheckLate(t *testing.T) {
	dir := t.TempDir()
	password := filepath.Join(dir, "fifo") // a password file may be a pipe, and this one never gets its word
	if err := unix.Mkfifo(password, 0o600); err != nil {
		t.Fatal(err)
	}
	o := checkOf(filepath.Join(dir, "c.pem"))
	o.passwordFile, o.limit = password, 50*time.Millisecond
	r := mustCheck(t, o)
	if r.Status != pluginUnknown || !strings.Contains(r.Summary, "not done in 50ms") {
		t.Errorf("%s: %s", r.Status, r.Summary)
	}
	if f, err := os.OpenFile(password, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil { // lets go of the one who waits
		f.Close()
	}
}

// TestCheckMany: what is printed stays short, JSON has all.
func TestCheckMany(t *testing.T) {
	const n = 10000
	items := make([]checkItem, 0, n)
	limits := checkLimits{30 * 86400, 7 * 86400}
	for i := range n {
		days := 300 - i%310
		items = append(items, limits.item(checkSlot, fmt.Sprintf("slot-%05d-%s", i, strings.Repeat("é'|", 100)), []span{{to: checkNow.Add(time.Duration(days) * oneDay)}}, checkNow))
	}
	r := newCheckResult(items, limits)
	out := text(r)
	if lines := strings.Count(out, "\n"); len(out) > 12<<10 || lines > maxDetails*2+2 {
		t.Errorf("%d bytes in %d lines", len(out), lines)
	}
	if line := firstLine(r); len(line) > 6<<10 || !strings.Contains(line, "; and 1,2") || !strings.Contains(line, "expired 9d ago") {
		t.Errorf("the first line has %d bytes: %s", len(line), line)
	}
	if !strings.HasSuffix(out, "\nand 9,980 more: spinecert check --output json has them all\n") {
		t.Errorf("it ends with %q", out[len(out)-100:])
	}
	if len(r.Items) != n || len(r.PerfData) != maxPerfData {
		t.Errorf("%d items and %d values", len(r.Items), len(r.PerfData))
	}
}

func TestPerfLabelsDiffer(t *testing.T) {
	left := int64(5)
	got := perfData([]checkItem{{Name: "a|b", SecondsLeft: &left}, {Name: "a/b", SecondsLeft: &left}, {Name: "none"}}, checkLimits{2, 1})
	if want := "['a/b'=5s;2:;1: 'a/b#2'=5s;2:;1:]"; fmt.Sprint(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestCheckJSON: the envelope is the usual one, and its exit status that of the plugin.
func TestCheckJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.pem")
	testpki.WriteFile(t, file, testpki.NewRoot(t, testpki.Validity(time.Now(), time.Now().Add(20*oneDay))).CertPEM(), 0o644)
	exit, out, errs := run(t, "check", "--output", "json", "--file", file)
	var e struct {
		Schema  int
		Command string
		Exit    int
		Result  struct {
			Status, Summary string
			Items           []struct {
				Kind, Name, Status string
				NotAfter           time.Time `json:"not_after"`
				Left               int64     `json:"seconds_left"`
			}
			PerfData []string
		}
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatal(err)
	}
	if exit != 1 || e.Schema != 1 || e.Command != "check" || e.Exit != 1 || e.Result.Status != "warning" || e.Error.Code != "warning" || e.Error.Message != e.Result.Summary || errs != "" {
		t.Errorf("exit %d, %+v, stderr %q", exit, e, errs)
	}
	if i := e.Result.Items; len(i) != 1 || i[0].Kind != "file" || i[0].Name != file || i[0].Status != "warning" || i[0].Left <= 19*86400 || i[0].NotAfter.IsZero() || len(e.Result.PerfData) != 1 {
		t.Errorf("%+v", e.Result)
	}
}

var errExample = errors.New("first\nsecond")

func TestCheckFaultIsOneLine(t *testing.T) {
	if i := fault(checkFile, "x", pluginUnknown, errExample); i.Message != "first; second" {
		t.Errorf("%q", i.Message)
	}
}
