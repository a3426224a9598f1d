package manage

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// TestCrash: what happens between the commit of a generation and the end of its
// request is made up for at the next start.
func TestCrash(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	leaf := d.answer(d.sub, r)
	id, err := pki.NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	d.must(err)
	d.must(d.store.KeepAnswer("pcs", r.ID, leaf.FullChainPEM()))
	d.must(d.keeper.Offer(d.context(), "pcs", id, rotate.Order{})) // and no EndRequest
	d.restart()
	d.kinds()
	d.must(d.manager.Restore(d.context()))
	d.told(RequestEnded)
	if len(d.open()) != 0 || d.serving().Number != 1 {
		t.Errorf("open %q, generation %d", d.open(), d.serving().Number)
	}

	// The same while the environment has no trust: the disk knows.
	r = d.ask()
	leaf = d.answer(d.sub, r)
	id, err = pki.NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	d.must(err)
	d.must(d.keeper.Offer(d.context(), "pcs", id, rotate.Order{}))
	d.must(os.Remove(d.path("live.pem")))
	d.restart()
	if d.serving() != nil {
		t.Fatal("it serves without trust")
	}
	d.must(d.manager.Restore(d.context()))
	if len(d.open()) != 0 {
		t.Errorf("open %q", d.open())
	}

	// Between the answer and its commit.
	d.trust(d.sub.BundlePEM())
	d.restart()
	r = d.ask()
	leaf = d.answer(d.sub, r)
	d.must(d.store.KeepAnswer("pcs", r.ID, leaf.FullChainPEM()))
	d.restart()
	d.must(d.manager.Restore(d.context()))
	if !d.serving().Identity.Leaf().Equal(leaf.Cert) || len(d.open()) != 0 {
		t.Errorf("open %q, generation %d", d.open(), d.serving().Number)
	}

	// An answer that has gone bad meanwhile is dropped, and that is told.
	r = d.ask()
	now := time.Now()
	d.must(d.store.KeepAnswer("pcs", r.ID, d.answer(d.sub, r, testpki.Validity(now.Add(-time.Hour), now.Add(-time.Minute))).CertPEM()))
	d.restart()
	d.kinds()
	d.must(d.manager.Restore(d.context()))
	d.told(AnswerDropped)
	if got, err := d.manager.Request(r.ID); err != nil || !got.Request.Answered.IsZero() {
		t.Errorf("%+v, %v", got.Request, err)
	}
}

// TestFullDisk: an answer that cannot be committed stays, and one that cannot be
// kept changes nothing.
func TestFullDisk(t *testing.T) {
	d := newDesk(t)
	d.serve()
	r := d.ask()
	leaf := d.answer(d.sub, r)
	d.breakDisk(func(string, string) error { return syscall.ENOSPC })
	_, err := d.take(ImportOrder{}, leaf.CertPEM())
	if err == nil || !strings.Contains(err.Error(), "keep the answer to request "+r.ID) || pki.Hint(err) == "" {
		t.Errorf("error %v, hint %q", err, pki.Hint(err))
	}
	d.breakDisk(func(op, name string) error {
		if strings.Contains(name, "generations") || strings.Contains(name, "generation.json") || strings.Contains(name, "fullchain") {
			return syscall.ENOSPC
		}
		return nil
	})
	done, err := d.take(ImportOrder{}, leaf.CertPEM())
	d.no(err, Waiting, "state_unwritable", "no space left")
	if done.Again == "" || d.serving().Number != 1 {
		t.Errorf("%+v", done)
	}
	d.breakDisk(nil)
	d.until("it is tried again", func() bool { return d.serving().Number == 2 })
	d.must(d.manager.Rotated(d.context(), "pcs"))
	if len(d.open()) != 0 {
		t.Errorf("open %q", d.open())
	}
}

// TestInForceButNotEnded: a disk that fails after the commit is no failure of the import.
func TestInForceButNotEnded(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	leaf := d.answer(d.sub, r)
	var swapped bool
	d.breakDisk(func(op, name string) error {
		swapped = swapped || op == "symlink"
		if swapped && op == "rename" && strings.Contains(name, r.ID) {
			return syscall.EIO
		}
		return nil
	})
	done, err := d.take(ImportOrder{}, leaf.CertPEM())
	d.must(err)
	if done.Outcome != InForce || len(done.Notes) == 0 || !strings.Contains(done.Notes[len(done.Notes)-1], "could not be ended") {
		t.Errorf("%+v", done)
	}
	d.breakDisk(nil)
	d.restart()
	d.must(d.manager.Restore(d.context()))
	if len(d.open()) != 0 {
		t.Errorf("open %q", d.open())
	}
}

func TestSeveral(t *testing.T) {
	d := newDesk(t)
	a, b := d.ask(), d.ask()
	both := slices.Concat(d.answer(d.sub, a).CertPEM(), d.answer(d.sub, b).CertPEM())
	_, err := d.take(ImportOrder{}, both)
	d.no(err, Refused, ReasonSeveral, a.ID+" (slot pcs), "+b.ID)
	done, err := d.take(ImportOrder{Request: b.ID}, both)
	d.must(err)
	if done.Request != b.ID || len(done.Open) != 1 || done.Open[0].ID != a.ID {
		t.Errorf("%+v", done)
	}
	if open := d.open(); !slices.Equal(open, []string{a.ID}) {
		t.Errorf("open %q", open)
	}
	// Two that wait: the older one goes once the newer is in force.
	c := d.ask()
	deep := d.sub.SubCA(t, testpki.Name("Deep CA"))
	end := time.Now().Add(300 * 24 * time.Hour)
	_, err = d.take(ImportOrder{}, d.answer(deep, a, testpki.Validity(time.Now().Add(-10*time.Minute), end)).CertPEM())
	d.no(err, Waiting, "unknown_issuer", "")
	newest := d.answer(deep, c, testpki.Validity(time.Now().Add(-time.Minute), end))
	_, err = d.take(ImportOrder{}, newest.CertPEM())
	d.no(err, Waiting, "unknown_issuer", "")
	d.stop() // else the keeper that runs may take the trust first
	d.trust(deep.BundlePEM())
	d.start()
	d.kinds()
	d.must(d.manager.Restore(d.context()))
	d.told(RequestEnded, AnswerDropped)
	if open := d.open(); !slices.Equal(open, []string{a.ID}) || !d.serving().Identity.Leaf().Equal(newest.Cert) {
		t.Errorf("open %q", open)
	}
}

func TestImportEndsWithItsContext(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	end, err := d.manager.turn(d.context(), "pcs")
	d.must(err)
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := d.manager.Import(ctx, ImportOrder{Files: []File{{"a", d.answer(d.sub, r).CertPEM()}}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestRefusedLate: what looked good and is refused all the same gives its place
// back to the answer that waited.
func TestRefusedLate(t *testing.T) {
	d := newDesk(t)
	const other = "new.thirdparty.nhs.uk"
	r := d.ask()
	before := d.answer(d.sub.SubCA(t, testpki.Name("Deep CA")), r, testpki.DNS(fqdn, other))
	_, err := d.take(ImportOrder{}, before.CertPEM())
	d.no(err, Waiting, "unknown_issuer", "")
	d.breakDisk(func(op, name string) error {
		if op == "rename" && strings.Contains(name, "answer") {
			d.breakDisk(nil)
			plan := Plan(d.config, d.store)
			plan.Slots[0].FQDN = other
			return d.keeper.Apply(d.context(), plan)
		}
		return nil
	})
	_, err = d.take(ImportOrder{}, d.answer(d.sub, r).CertPEM())
	d.no(err, Refused, "name_mismatch", "")
	if got, err := d.store.Answer("pcs", r.ID); err != nil || !got[0].Equal(before.Cert) || d.serving() != nil {
		t.Errorf("%v", err)
	}
	if r := d.keeper.Slot("pcs").Status().Refusal; r == nil || r.Reason != "unknown_issuer" {
		t.Errorf("what is offered: %v", r)
	}
}

// TestRestoreServesWhatItCan: of two answers that wait, the one that can serve now
// does, and the one for a later day waits on.
func TestRestoreServesWhatItCan(t *testing.T) {
	d := newDesk(t)
	a, b := d.ask(), d.ask()
	now := d.answer(d.sub, a)
	later := d.answer(d.sub, b, testpki.Validity(time.Now().Add(time.Hour), time.Now().Add(300*24*time.Hour)))
	d.must(d.store.KeepAnswer("pcs", a.ID, now.CertPEM()))
	d.must(d.store.KeepAnswer("pcs", b.ID, later.CertPEM()))
	d.restart()
	d.must(d.manager.Restore(d.context()))
	if g := d.serving(); g == nil || !g.Identity.Leaf().Equal(now.Cert) || !slices.Equal(d.open(), []string{b.ID}) {
		t.Errorf("open %q", d.open())
	}
	if r := d.keeper.Slot("pcs").Status().Refusal; r == nil || r.Reason != "not_yet_valid" {
		t.Errorf("what is offered: %v", r)
	}
}

// TestNotes: what is no reason to refuse an answer is said.
func TestNotes(t *testing.T) {
	d := newDesk(t)
	made, err := d.manager.NewRequest(d.context(), Order{Slot: "pcs", SANs: []string{"alt.thirdparty.nhs.uk"}})
	d.must(err)
	leaf := d.answer(d.sub, made.Request)
	done, err := d.take(ImportOrder{}, leaf.CertPEM(), []byte("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n"))
	d.must(err)
	all := strings.Join(done.Notes, "\n")
	for _, want := range []string{"asked for the name alt.thirdparty.nhs.uk, which the certificate does not have", "lint: warning", "passed over answer.txt"} {
		if !strings.Contains(all, want) {
			t.Errorf("the notes have no %q:\n%s", want, all)
		}
	}
}

// TestAllowedWhileItWaits: the word holds as long as the process, however often
// the answers that wait are offered again.
func TestAllowedWhileItWaits(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	_, err := d.take(ImportOrder{}, d.answer(d.sub, r, testpki.DNS(fqdn, "alt.thirdparty.nhs.uk")).CertPEM())
	d.must(err)
	deep := d.sub.SubCA(t, testpki.Name("Deep CA"))
	r = d.ask()
	leaf := d.answer(deep, r)
	_, err = d.take(ImportOrder{Allow: []string{rotate.RuleNames}}, leaf.CertPEM())
	d.no(err, Waiting, "unknown_issuer", "")
	d.must(d.manager.Restore(d.context()))
	d.trust(deep.BundlePEM())
	d.until("it is in force", func() bool {
		d.must(d.manager.Restore(d.context()))
		return d.serving().Identity.Leaf().Equal(leaf.Cert)
	})

	// Not beyond a restart.
	r = d.ask()
	_, err = d.take(ImportOrder{Allow: []string{rotate.RuleOlder}}, d.answer(deep.SubCA(t, testpki.Name("Deeper CA")), r, testpki.Validity(time.Now().Add(-9*time.Hour), time.Now().Add(9*time.Hour))).CertPEM())
	d.no(err, Waiting, "unknown_issuer", "")
	d.restart()
	d.kinds()
	d.must(d.manager.Restore(d.context()))
	d.told() // it waits for its CA first, and is judged by the guard then
	if got, err := d.manager.Request(r.ID); err != nil || got.Request.Answered.IsZero() {
		t.Errorf("%+v, %v", got.Request, err)
	}
}
