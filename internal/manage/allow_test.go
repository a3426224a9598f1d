package manage

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// TestAllowedForOneAnswer: what was allowed for one answer holds for no other, however
// the import of that other one ends.
func TestAllowedForOneAnswer(t *testing.T) {
	d := newDesk(t)
	d.serve(testpki.DNS(fqdn, "second.thirdparty.nhs.uk"))
	r := d.ask()
	_, err := d.take(ImportOrder{Allow: []string{rotate.RuleNames}}, d.later(r).CertPEM())
	d.no(err, Waiting, "not_yet_valid", "")
	b := d.later(r)
	second, err := pki.NewIdentity([]*x509.Certificate{b.Cert}, b.Key)
	d.must(err)
	if rules := d.manager.allowed(r.ID, second); len(rules) > 0 {
		t.Errorf("%q is allowed for one that was never imported", rules)
	}
	ctx, cancel := context.WithCancel(d.context())
	d.breakDisk(func(op, name string) error {
		if op == "rename" && strings.Contains(name, "answer") {
			cancel() // whoever asked goes away while the second is offered
		}
		return nil
	})
	// The verdict may come in the very moment, and is told then.
	if _, err = d.manager.Import(ctx, ImportOrder{Files: []File{{"b", b.CertPEM()}}}); !errors.Is(err, context.Canceled) && (err == nil || !strings.Contains(err.Error(), "not_yet_valid")) {
		t.Errorf("error %v", err)
	}
	d.breakDisk(nil)
	d.keeps(r, b.Cert)
	got, _ := d.manager.Request(r.ID)
	id, err := d.manager.kept(got.Request)
	d.must(err)
	if rules := d.manager.allowed(r.ID, id); len(rules) > 0 {
		t.Errorf("%q is allowed for the other answer", rules)
	}
}

// TestAllowedAfterUndo: an answer that takes its place again has its rules again.
func TestAllowedAfterUndo(t *testing.T) {
	d := newDesk(t)
	const other = "new.thirdparty.nhs.uk"
	r := d.ask()
	_, err := d.take(ImportOrder{Allow: []string{rotate.RuleNames}}, d.later(r, testpki.DNS(fqdn, other)).CertPEM())
	d.no(err, Waiting, "not_yet_valid", "")
	got, _ := d.manager.Request(r.ID)
	before, err := d.manager.kept(got.Request)
	d.must(err)
	d.breakDisk(func(op, name string) error {
		if op == "rename" && strings.Contains(name, "answer") {
			d.breakDisk(nil)
			plan := Plan(d.config, d.store)
			plan.Slots[0].FQDN = other
			return d.keeper.Apply(d.context(), plan)
		}
		return nil
	})
	_, err = d.take(ImportOrder{}, d.later(r).CertPEM())
	d.no(err, Refused, "name_mismatch", "")
	d.keeps(r, before.Leaf())
	if rules := d.manager.allowed(r.ID, before); !slices.Equal(rules, []string{rotate.RuleNames}) {
		t.Errorf("allowed is %q", rules)
	}
}

// TestDoubts: what a guard rule will refuse on its day is said when it is imported.
func TestDoubts(t *testing.T) {
	d := newDesk(t)
	d.serve(testpki.DNS(fqdn, "second.thirdparty.nhs.uk"))
	r := d.ask()
	forged := d.forged(r, startsIn(-time.Hour*24*365))
	for _, tc := range []struct {
		name string
		part []byte
		o    ImportOrder
		want []string
	}{
		{"names", d.later(r).CertPEM(), ImportOrder{DryRun: true}, []string{rotate.RuleNames}},
		{"names, allowed", d.later(r).CertPEM(), ImportOrder{DryRun: true, Allow: []string{rotate.RuleNames}}, nil},
		{"older, and names", forged, ImportOrder{DryRun: true}, []string{rotate.RuleOlder, rotate.RuleNames}},
		{"nothing", d.later(r, testpki.DNS(fqdn, "second.thirdparty.nhs.uk")).CertPEM(), ImportOrder{DryRun: true}, nil},
	} {
		done, err := d.take(tc.o, tc.part)
		if err == nil || len(done.Doubts) != len(tc.want) {
			t.Errorf("%s: %q, %v", tc.name, done.Doubts, err)
			continue
		}
		for i, rule := range tc.want {
			if !strings.Contains(done.Doubts[i], "will be refused for that, unless it is imported with --allow "+rule) || !slices.Contains(done.Notes, done.Doubts[i]) {
				t.Errorf("%s: %q, notes %q", tc.name, done.Doubts, done.Notes)
			}
		}
	}
}
