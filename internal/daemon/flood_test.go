package daemon

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"
	"weak"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/trust"
)

// manyRDNs is a name of n parts, DER.
func manyRDNs(t *testing.T, n int) []byte {
	t.Helper()
	var name pkix.RDNSequence
	for i := range n {
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: fmt.Sprint(i % 10)}})
	}
	der, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// silent is a daemon that tells of refusals in its tunnels, and nobody else is told.
func silent(tunnels ...string) *Daemon {
	d := &Daemon{metrics: newMetrics("test"), recent: newRecent(maxRecent), events: make(chan func(), maxEvents), lines: make(chan auditLine, maxUnwritten), handed: make(chan func(), maxHanded)}
	d.auditRefusals, d.auditCuts = newSharedBudget(auditAllLines, auditAllWindow), newSharedBudget(auditAllLines, auditAllWindow)
	for _, name := range tunnels {
		d.tunnels = append(d.tunnels, &liveTunnel{name: name, tally: newTally()})
	}
	return d
}

// stranger is a fault of a peer with an address of its own.
func stranger(name string, i int) *fault {
	return &fault{tunnel: name, result: "refused", reason: "expired", remote: &net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)), Port: 1}}
}

// A name of many parts takes long to write: it is not written.
func TestNamesOfManyParts(t *testing.T) {
	t.Parallel()
	name := manyRDNs(t, 1800)
	leaf := testpki.NewRoot(t, testpki.RawSubject(name)).Issue(t, testpki.NoSAN(), testpki.RawSubject(name))
	r := (&fault{leaf: leaf.Cert}).describe()
	if want := fmt.Sprintf("(a subject of %d bytes)", len(name)); r.Name != want {
		t.Errorf("name %q, want %q", r.Name, want)
	}
	if want := fmt.Sprintf("(an issuer of %d bytes)", len(name)); r.Issuer != want {
		t.Errorf("issuer %q, want %q", r.Issuer, want)
	}
	name = manyRDNs(t, 20)
	leaf = testpki.NewRoot(t, testpki.RawSubject(name)).Issue(t, testpki.NoSAN(), testpki.RawSubject(name))
	if r := (&fault{leaf: leaf.Cert}).describe(); !strings.HasPrefix(r.Name, "OU=") || !strings.HasPrefix(r.Issuer, "OU=") {
		t.Errorf("a usual name: %q, issuer %q", r.Name, r.Issuer)
	}
}

// Whoever takes long to describe holds up nobody.
func TestDescribeHoldsUpNobody(t *testing.T) {
	t.Parallel()
	r, now := newRecent(10), time.Now()
	slow := noted{"in", "192.0.2.1", "expired", "1"}
	as, _ := r.note(slow.key(), "", now, func() admin.Refusal {
		done := make(chan struct{})
		go func() {
			defer close(done)
			slow.note(r, now) // like it
			noted{"in", "192.0.2.2", "revoked", "2"}.note(r, now)
			r.list()
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("others wait for the description of one")
		}
		return admin.Refusal{Tunnel: "in"}
	}, always)
	if as.Count != 2 || len(r.list()) != 2 {
		t.Errorf("%+v of %d", as, len(r.list()))
	}
}

// A review hands over what it cut, and waits for nothing.
func TestReviewHandsOver(t *testing.T) {
	t.Parallel()
	d := silent("in")
	o := d.observer("in", d.tunnels[0].tally)
	d.recent.mu.Lock() // a flood
	d.mu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Cut(nil, &trust.VerifyError{Reason: trust.Revoked})
		o.WouldCut(nil, &trust.VerifyError{Reason: trust.Revoked})
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the review waits")
	}
	if n := len(d.handed); n != 2 {
		t.Errorf("%d handed over", n)
	}
	for range maxHanded {
		d.handOver(func() {})
	}
	told := false
	if d.handOver(func() { told = true }); !told {
		t.Error("what there was no room for is lost")
	}
}

// What falls into a flood is told in the audit file when there is room again.
func TestAuditAfterFlood(t *testing.T) {
	t.Parallel()
	d, now := silent("in"), time.Now()
	told := d.tunnels[0].tally.refusals
	for i := range auditLines {
		d.refused(stranger("in", i), told, now)
	}
	peer := stranger("in", 1<<20)
	for range 3 {
		d.refused(peer, told, now)
	}
	if n := len(d.lines); n != auditLines {
		t.Fatalf("%d lines", n)
	}
	d.refused(peer, told, now.Add(auditWindow))
	var last auditLine
	for len(d.lines) > 0 {
		last = <-d.lines
	}
	if last.Peer != peer.peer() || last.Count != 4 {
		t.Errorf("told last: %s, %d times", last.Peer, last.Count)
	}
}

// A noisy tunnel leaves lines of the audit file for the others.
func TestAuditIsShared(t *testing.T) {
	t.Parallel()
	d, now := silent("noisy", "b", "c", "d", "e"), time.Now()
	for i := range 10 * auditAllLines {
		d.refused(stranger("noisy", i), d.tunnels[0].tally.refusals, now.Add(time.Duration(i)*time.Second/2))
	}
	share := auditAllLines / len(d.tunnels)
	if n := len(d.lines); n > 2*share || n < share { // of an hour and a bit
		t.Errorf("%d lines of one of %d tunnels", n, len(d.tunnels))
	}
	before := len(d.lines)
	d.refused(stranger("b", 1), d.tunnels[1].tally.refusals, now.Add(10*auditAllLines*time.Second/2))
	if len(d.lines) != before+1 {
		t.Error("the other tunnel has no line")
	}
}

// What waits for the log holds no certificates.
func TestLogHoldsNoCertificates(t *testing.T) {
	t.Parallel()
	d := silent("in")
	held := func() weak.Pointer[x509.Certificate] {
		c := &x509.Certificate{Raw: make([]byte, 1<<16)}
		f := stranger("in", 1)
		f.err = &trust.VerifyError{Reason: trust.Expired, Certificate: c, Detail: "over"}
		d.refused(f, d.tunnels[0].tally.refusals, time.Now())
		return weak.Make(c)
	}()
	runtime.GC()
	if len(d.events) != 1 || held.Value() != nil {
		t.Errorf("%d events wait, and hold %v", len(d.events), held.Value() != nil)
	}
	runtime.KeepAlive(d)
}

// What a peer wrote reaches neither a terminal nor a log as it is.
func TestOddCharacters(t *testing.T) {
	t.Parallel()
	odd := "x\u009b2Jy\u202e\x7f\x1b[31m\nz\u00fc"
	leaf := testpki.NewRoot(t, testpki.Name("root"+odd)).Issue(t, testpki.NoSAN(), testpki.Name(odd))
	d := silent("in")
	var log bytes.Buffer
	d.log = slog.New(slog.NewJSONHandler(&log, nil))
	f := stranger("in", 1)
	f.leaf, f.err = leaf.Cert, &trust.VerifyError{Reason: trust.Expired, Detail: odd, Advice: odd}
	d.refused(f, d.tunnels[0].tally.refusals, time.Now())
	(<-d.events)()
	line, err := json.Marshal(<-d.lines)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"audit": string(line), "log": strings.TrimSpace(log.String())} {
		if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%s: %q has %q", what, text, text[i:])
		}
		if !strings.Contains(text, `\u009b2Jy`) || !strings.Contains(text, "z\u00fc") {
			t.Errorf("%s: %s", what, text)
		}
	}
	for in, want := range map[string]string{
		"plain \u00fc": "plain \u00fc", "a\xffb": "ab", strings.Repeat("x", 21): strings.Repeat("x", 20) + "...", strings.Repeat("\x7f", 6): strings.Repeat(`\x7f`, 5) + "...",
	} {
		if got := clipTo(in, 20); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := errorText(admin.Refusal{Result: string(tunnel.Limited), Reason: "connections"}, nil); got != "limit connections" {
		t.Errorf("a limit: %q", got)
	}
}
