package daemon

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// heldToTable checks what one look found against the table.
func heldToTable(t *testing.T, found []condition.Condition) {
	t.Helper()
	ids := map[string]bool{}
	for _, c := range found {
		d := c.Code.Definition()
		switch {
		case d.Title == "" || !slices.Contains(d.Kinds, c.Kind):
			t.Errorf("not in the table: %+v", c)
		case c.ID == "" || ids[c.ID] || !strings.HasPrefix(c.ID, condition.ID(c.Code, c.Kind, c.Subject, "")):
			t.Errorf("the ID %q is none, another's, or there twice", c.ID)
		case c.Runbook != "docs/runbook/"+string(c.Code)+".md" || c.Since.IsZero() || c.Message == "" || c.Hint == "" || c.Severity.Worse(condition.Critical) || !c.Severity.Worse(""):
			t.Errorf("it says too little: %+v", c)
		case d.Critical == "always" && c.Severity != condition.Critical, d.Critical == "" && c.Severity == condition.Critical:
			t.Errorf("%s is %s, and the table says it is critical %q", c.ID, c.Severity, d.Critical)
		case !slices.IsSortedFunc(c.Steps, time.Time.Compare):
			t.Errorf("the steps of %s are not in order: %v", c.ID, c.Steps)
		}
		ids[c.ID] = true
	}
}

// TestLives: what is said of certificates, CAs and requests over the years, seen by one
// daemon from different days. An ID stays the same from the first day to the last.
func TestLives(t *testing.T) {
	t.Parallel()
	begin := time.Now().Add(-time.Hour)
	end := begin.Add(400 * 24 * time.Hour)
	d := newFleet(t, 3, testpki.Validity(begin, end))
	slots := d.keeper.Slots()
	leaf := slots[0].Snapshot().Generation.NotAfter
	all := map[string]bool{}
	at := func(now time.Time) map[string]condition.Condition {
		requests, err := d.manager.RequestStatus(now)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]condition.Condition{}
		cs := d.conditions(now, requests, nil)
		heldToTable(t, cs)
		for _, c := range cs {
			found[c.ID], all[c.ID] = c, true
		}
		return found
	}
	count := func(found map[string]condition.Condition, code condition.Code, severity condition.Severity) (n int) {
		for _, c := range found {
			if c.Code == code && c.Severity == severity {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		name     string
		now      time.Time
		code     condition.Code
		severity condition.Severity
		n        int
		level    int
	}{
		{"CAs, before", end.Add(-366 * 24 * time.Hour), condition.CAExpiring, condition.Warning, 0, 0},
		{"CAs, a year", end.Add(-364 * 24 * time.Hour), condition.CAExpiring, condition.Warning, 2, 1},
		{"CAs, 80 days", end.Add(-80 * 24 * time.Hour), condition.CAExpiring, condition.Warning, 2, 2},
		{"CAs, 29 days, with slots under them", end.Add(-29 * 24 * time.Hour), condition.CAExpiring, condition.Critical, 2, 3},
		{"CAs, ended, with slots under them", end.Add(24 * time.Hour), condition.CAExpiring, condition.Critical, 2, 4},
		{"certificates, before", leaf.Add(-91 * 24 * time.Hour), condition.Expiring, condition.Warning, 0, 0},
		{"certificates, 89 days", leaf.Add(-89 * 24 * time.Hour), condition.Expiring, condition.Warning, 3, 1},
		{"certificates, 8 days", leaf.Add(-8 * 24 * time.Hour), condition.Expiring, condition.Warning, 3, 3},
		{"certificates, 6 days", leaf.Add(-6 * 24 * time.Hour), condition.Expiring, condition.Critical, 3, 4},
		{"certificates, an hour", leaf.Add(-time.Hour), condition.Expiring, condition.Critical, 3, 5},
		{"certificates, ended", leaf.Add(time.Hour), condition.Expired, condition.Critical, 3, 6},
		{"requests, new", begin.Add(2 * time.Hour), condition.RequestPending, condition.Warning, 3, 0},
		{"requests, 15 days", begin.Add(15 * 24 * time.Hour), condition.RequestPending, condition.Warning, 3, 1},
		{"requests, 29 days", begin.Add(29 * 24 * time.Hour), condition.RequestPending, condition.Warning, 3, 2},
		{"requests, of what ends", leaf.Add(-20 * 24 * time.Hour), condition.RequestPending, condition.Critical, 3, 2},
	} {
		found := at(tt.now)
		if n := count(found, tt.code, tt.severity); n != tt.n {
			t.Errorf("%s: %d of %s, want %d: %v", tt.name, n, tt.severity, tt.n, found)
		}
		for _, c := range found {
			if c.Code == tt.code && c.Level(tt.now) != tt.level {
				t.Errorf("%s: level %d, want %d", tt.name, c.Level(tt.now), tt.level)
			}
			if c.Code == tt.code && (tt.code == condition.Expired || tt.code == condition.CAExpiring && tt.now.After(end)) && (!c.Ends.IsZero() || !strings.Contains(c.Message, "ended on")) {
				t.Errorf("%s: %+v", tt.name, c)
			}
		}
	}
	if len(all) != 2+3+3+1 { // and revocation_off
		t.Errorf("%d IDs over the years: %v", len(all), all)
	}
	// Without slots in the environment nobody needs what has ended.
	e := d.keeper.Environments()[0]
	d.caConditions(e, d.config.Alerts.CA, nil, end.Add(time.Hour), func(c condition.Condition, _ string) { t.Errorf("nobody is under it: %+v", c) })
	d.caConditions(e, d.config.Alerts.CA, nil, end.Add(-time.Hour), func(c condition.Condition, _ string) {
		if c.Severity != condition.Warning {
			t.Errorf("nobody is under it: %+v", c)
		}
	})
}

func TestSucceeded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old := testpki.NewRoot(t, testpki.Name("Root"), testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour)))
	next, other := testpki.NewRoot(t, testpki.Name("Root")), testpki.NewRoot(t, testpki.Name("Other"))
	if !succeeded(bundle(t, old, next), old.Cert, now) || succeeded(bundle(t, old, other), old.Cert, now) || succeeded(bundle(t, old), old.Cert, now) {
		t.Error("a successor has the same name, and has not ended")
	}
}

// TestCodes: each code of the table is made somewhere, and none that is not in it.
func TestCodes(t *testing.T) {
	t.Parallel()
	words, err := os.ReadFile(filepath.Join("..", "condition", "condition.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+)\s+Code = "(\w+)"$`).FindAllStringSubmatch(string(words), -1) {
		names[m[2]] = m[1]
	}
	var source strings.Builder
	for _, dir := range []string{".", "../alert"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") {
				source.Write(mustRead(t, f))
			}
		}
	}
	for _, d := range condition.Definitions() {
		if name := names[string(d.Code)]; name == "" || !regexp.MustCompile(`(Code: |Code = |Code, .* = |return )condition\.`+name+`\b`).MatchString(source.String()) {
			t.Errorf("nobody makes %s", d.Code)
		}
		delete(names, string(d.Code))
	}
	for code := range names {
		t.Errorf("%s is not in the table", code)
	}
	for _, m := range regexp.MustCompile(`\bCode: +"(\w+)"`).FindAllStringSubmatch(source.String(), -1) {
		if m[1] != "test" { // what a sink is tried with
			t.Errorf("the code %q is written out", m[1])
		}
	}
}

// BenchmarkAlerts is a look at 10,000 slots, all of which have something wrong, and what
// becomes of it; as every 15 seconds.
func BenchmarkAlerts(b *testing.B) {
	d := newFleet(b, manySlots)
	now := d.keeper.Slots()[0].Snapshot().Generation.NotAfter.Add(-20 * 24 * time.Hour)
	requests, err := d.manager.RequestStatus(now)
	if err != nil || len(requests) != manySlots {
		b.Fatal(err)
	}
	b.Run("healthy", func(b *testing.B) {
		processorTime(b, func() { d.lookForAlerts(time.Now()) })
	})
	b.Run("ending", func(b *testing.B) {
		processorTime(b, func() {
			if n := len(d.conditions(now, requests, nil)); n < 2*manySlots {
				b.Fatal(n)
			}
		})
	})
}

// TestSuperseded: a list that has ended is nothing to tell of where another covers the same.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	root := testpki.NewRoot(t, testpki.Name("Example Root"))
	other := testpki.NewRoot(t, testpki.Name("Other Root"))
	now := time.Now().Truncate(time.Second)
	read := func(a *testpki.Authority, origin string, left time.Duration, opts ...testpki.CRLOption) *trust.CRL {
		t.Helper()
		opts = append(opts, testpki.ThisUpdate(now.Add(-48*time.Hour)), testpki.NextUpdate(now.Add(left)))
		crl, err := trust.ReadCRL(a.CRL(t, opts...), origin, []*x509.Certificate{root.Cert, other.Cert})
		if err != nil {
			t.Fatal(err)
		}
		return crl
	}
	one, two := testpki.IDP("http://crl.example/1.crl"), testpki.IDP("http://crl.example/2.crl")
	bundle, err := trust.ParseBundle(trust.Source{Name: "t", Data: append(root.CertPEM(), other.CertPEM()...)})
	if err != nil {
		t.Fatal(err)
	}
	const over, current = -time.Hour, time.Hour
	for name, tt := range map[string]struct {
		old, new *trust.CRL
		complete bool
		want     bool
	}{
		"same partition":                  {read(root, "/a.crl", over, one), read(root, "/b.crl", current, one), false, true},
		"same partition, ended as well":   {read(root, "/a.crl", over, one), read(root, "/b.crl", over, one), false, false},
		"another partition":               {read(root, "/a.crl", over, one), read(root, "/b.crl", current, two), true, false},
		"of another issuer":               {read(root, "/a.crl", over, one), read(other, "/b.crl", current, one), true, false},
		"without names":                   {read(root, "/a.crl", over), read(root, "/b.crl", current), false, false},
		"without names, same file name":   {read(root, "/x/a.crl", over), read(root, "/y/a.crl", current), false, true},
		"without names, and complete":     {read(root, "/a.crl", over), read(root, "/b.crl", current), true, true},
		"a partition, for all the issuer": {read(root, "/a.crl", over), read(root, "/b.crl", current, one), true, false},
	} {
		state, err := trust.NewState(trust.StateConfig{Environment: "t", Profile: trust.Private, Bundle: bundle, Revocation: trust.Require, CRLs: []*trust.CRL{tt.old, tt.new}})
		if err != nil {
			t.Fatal(err)
		}
		if got := superseded(tt.old, state, tt.complete, now); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
