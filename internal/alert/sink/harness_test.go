package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

var update = flag.Bool("update", false, "write golden files anew")

const (
	patience = 30 * time.Second       // for what has to work
	short    = 150 * time.Millisecond // for what has to be given up
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// nasty is what somebody may write into a certificate.
const nasty = "a\r\nBcc: all@example.org\r\n\r\n<script>alert(1)</script> \x1b[31mred\u202e\u200b \"q\" \\ {{text}} <!channel> [x](http://evil.example) \xff"

func expiring(slot string, end time.Time) alert.Notice {
	c := condition.Condition{Code: condition.Expiring, Kind: condition.Slot, Subject: slot, Slot: slot, Severity: condition.Critical, Since: at.Add(-84 * 24 * time.Hour),
		Message: "its certificate ends on " + end.Format(time.DateOnly), Hint: "ask for the next certificate now, and import the answer",
		Ends: condition.Moment{Time: end}, Stops: "tunnel ssp-in, service nginx", Affects: condition.Affects{ODS: []string{"A99999", "B99999"}, ASIDs: []string{"200000000001"}, Note: "booking of the north site"}}
	c.Command = "spinecert csr new --slot " + slot
	c.Complete("")
	return alert.Notice{Event: alert.Escalated, Condition: c, Opened: at.Add(-84 * 24 * time.Hour), At: at}
}

func pending(slot string) alert.Notice {
	c := condition.Condition{Code: condition.RequestPending, Kind: condition.Slot, Subject: slot, Slot: slot, Severity: condition.Warning, Since: at.Add(-30 * 24 * time.Hour),
		Message: "request 20261024-1 for " + slot + ".thirdparty.nhs.uk waits for its certificate since 2026-10-24", Hint: "send the request, or ask where it is", Command: "spinecert csr show --mail 20261024-1"}
	c.Complete("20261024-1")
	return alert.Notice{Event: alert.Repeated, Condition: c, Opened: at.Add(-16 * 24 * time.Hour), At: at}
}

func stale() alert.Notice {
	c := condition.Condition{Code: condition.CRLStale, Kind: condition.Environment, Subject: "live", Severity: condition.Warning, Since: at.Add(-26 * time.Hour), Message: "the CRL of NHS Root CA could not be had"}
	c.Complete("")
	return alert.Notice{Event: alert.Resolved, Condition: c, Opened: at.Add(-26 * time.Hour), At: at, Resolved: condition.Moment{Time: at}, Late: true}
}

func told(group string, ns ...alert.Notice) *alert.Message {
	m := &alert.Message{ID: "4f1c9a3e5b7d2468aceb13579bdf0246", Host: "gateway1", Group: group, At: at, Notices: ns, Total: len(ns), Groups: 1}
	for i := range ns {
		switch {
		case !ns[i].Active():
			m.Resolved++
		case ns[i].Condition.Severity == condition.Critical:
			m.Critical++
		default:
			m.Warning++
		}
	}
	return m
}

// one is a message of one alert.
func one() *alert.Message {
	return told("slot pcs", expiring("pcs", at.Add(6*24*time.Hour+time.Hour)))
}

// many is a digest.
func many(groups int) *alert.Message {
	var ns []alert.Notice
	for range min(groups, alert.MaxNotices) {
		n := expiring("pcs-"+string(rune('a'+len(ns)%26)), at.Add(40*time.Hour))
		ns = append(ns, n)
	}
	m := told("", ns...)
	m.Total, m.Critical, m.Groups = groups, groups, groups
	return m
}

// wicked is a message whose every text is nasty.
func wicked() *alert.Message {
	n := expiring(nasty, at.Add(time.Hour))
	c := &n.Condition
	c.Message, c.Hint, c.Stops, c.Slot = nasty, nasty, nasty, nasty
	c.Affects = condition.Affects{ODS: []string{nasty}, ASIDs: []string{nasty}, Note: nasty}
	n.Ack = &alert.Ack{By: nasty, Until: at}
	r := n
	r.Event, r.Resolved = alert.Resolved, condition.Moment{Time: at}
	m := told(nasty, n, r)
	m.Host, m.ID = nasty, nasty
	return m
}

// harmless fails the test if a text could do anything but be read.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	for _, bad := range []string{"\x1b", "\u202e", "\u200b", "\r", "\x00", "\xff"} {
		if strings.Contains(text, bad) {
			t.Errorf("%s has %q in it:\n%q", what, bad, text)
		}
	}
	if strings.Contains(text, "\nBcc") {
		t.Errorf("%s starts a line with what a certificate says:\n%s", what, text)
	}
}

func options() Options { return Options{Host: "gateway1", Version: "0.1.0"} }

func make1(t *testing.T, c config.Sink) Sink {
	t.Helper()
	if c.Name == "" {
		c.Name = "ops"
	}
	if c.Timeout == 0 {
		c.Timeout = patience
	}
	s, err := New(c, options())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t *testing.T, s Sink, m *alert.Message) error {
	t.Helper()
	begin := time.Now()
	err := s.Sender.Send(t.Context(), m)
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("Send took %s", took)
	}
	return err
}

// says fails the test unless err is an *Error that is fit to be shown and has each of the words.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T is no *Error: %v", err, err)
	}
	line := e.Error() + " | " + pki.Hint(err)
	harmless(t, "an error", line)
	if strings.Contains(line, "\n") || len(line) > 1500 {
		t.Errorf("an error is more than a line: %q", line)
	}
	for _, word := range words {
		if !strings.Contains(line, word) {
			t.Errorf("%q is not in: %s", word, line)
		}
	}
	t.Log(line)
}

// without fails the test if an error has a secret in it.
func without(t *testing.T, err error, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(err.Error()+pki.Hint(err), secret) {
			t.Errorf("%q is in: %v", secret, err)
		}
	}
}

// write makes a file and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// authority is the CA of the far sides, with the file that holds its root.
func authority(t *testing.T) (*testpki.Authority, string) {
	t.Helper()
	root := testpki.NewRoot(t)
	return root, write(t, "root.pem", string(root.CertPEM()))
}

func served(leaf *testpki.Leaf) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}, MinVersion: tls.VersionTLS12}
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// until waits for something.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	for tick := time.NewTicker(20 * time.Millisecond); !done(); <-tick.C {
		if ctx.Err() != nil {
			t.Fatalf("never: %s", what)
		}
	}
}
