package manage

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
)

// copyDir copies a directory with the modes of the state directory.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.Chmod(path, 0o700)
		case e.Type().IsRegular():
			return os.Chmod(path, 0o600)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func since(ago time.Duration) testpki.Option {
	return testpki.Validity(time.Now().Add(-ago), time.Now().Add(300*24*time.Hour))
}

// An older copy of the slot, put back while the daemon runs, has the request that
// was answered since: its key is not taken for one that is safe.
func TestOlderCopyKeepsTheKey(t *testing.T) {
	for _, again := range []bool{true, false} {
		d := newDesk(t)
		d.serve(since(4 * time.Hour))
		r := d.ask()
		leaf := d.answer(d.sub, r)
		slot := filepath.Join(d.path("state"), "slots", "pcs")
		copyDir(t, slot, d.path("backup"))
		if _, err := d.take(ImportOrder{}, leaf.CertPEM()); err != nil {
			t.Fatal(err)
		}
		d.must(os.RemoveAll(slot))
		copyDir(t, d.path("backup"), slot)
		other := d.ask() // a change has the requests read again
		if again {
			if done, err := d.take(ImportOrder{}, leaf.CertPEM()); err != nil || done.To == 0 {
				t.Errorf("%+v, %v", done, err)
			}
		} else {
			d.must(d.manager.Restore(d.context()))
			if _, err := d.store.RequestKey("pcs", r.ID); err != nil {
				t.Errorf("the key is gone, and no generation has it: %v", err)
			}
		}
		d.restart()
		if g := d.serving(); again && !g.Identity.Leaf().Equal(leaf.Cert) {
			t.Errorf("after a restart generation %d serves, of serial %s", g.Number, g.Identity.Leaf().SerialNumber)
		}
		_, _ = d.manager.Cancel(d.context(), other.ID, nil)
	}
}

// An answer that waited before a rollback waits until its hold ends.
func TestAnswerBeforeARollback(t *testing.T) {
	d := newDesk(t)
	d.serve(since(4 * time.Hour))
	d.serve(since(3 * time.Hour))
	r := d.ask()
	soon := time.Now().Add(3 * time.Second).Truncate(time.Second)
	_, err := d.take(ImportOrder{}, d.answer(d.sub, r, testpki.Validity(soon, soon.Add(300*24*time.Hour))).CertPEM())
	d.no(err, Waiting, "not_yet_valid", "")
	d.must(d.manager.Rollback(d.context(), "pcs", 0, nil))
	d.must(d.manager.Rotated(d.context(), "pcs"))
	d.until("its day is there", func() bool { return time.Now().After(soon) })
	d.must(d.manager.Restore(d.context()))
	d.must(d.keeper.Refresh(d.context()))
	if g := d.serving(); !g.Held {
		t.Fatalf("generation %d of %s serves", g.Number, g.Origin)
	}
	if all, err := d.manager.RequestStatus(time.Now()); err != nil || len(all) != 1 || all[0].LastReason != "held" {
		t.Errorf("%+v, %v", all, err)
	}
	d.must(d.keeper.Rotate(d.context(), "pcs", rotate.Order{Release: true}))
	d.must(d.manager.Rotated(d.context(), "pcs"))
	if open := d.open(); len(open) != 0 {
		t.Errorf("requests %q wait after the release", open)
	}
}

// What came into force and was rolled back at once has ended its request.
func TestRollbackBeforeTheRequestEnds(t *testing.T) {
	d := newDesk(t)
	d.serve(since(4 * time.Hour))
	r := d.ask()
	soon := time.Now().Add(3 * time.Second).Truncate(time.Second)
	_, err := d.take(ImportOrder{}, d.answer(d.sub, r, testpki.Validity(soon, soon.Add(300*24*time.Hour))).CertPEM())
	d.no(err, Waiting, "not_yet_valid", "")
	d.until("it is in force by itself", func() bool { return d.serving().Number == 2 })
	d.must(d.manager.Rollback(d.context(), "pcs", 0, nil))
	d.kinds()
	d.must(d.manager.Rotated(d.context(), "pcs"))
	d.told(RequestEnded)
	if open := d.open(); len(open) != 0 {
		t.Errorf("requests %q wait", open)
	}
}

// A request of a slot that is gone can be cancelled.
func TestCancelOfASlotThatIsGone(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	later := time.Now().Add(time.Hour)
	_, err := d.take(ImportOrder{}, d.answer(d.sub, r, testpki.Validity(later, later.Add(time.Hour))).CertPEM())
	d.no(err, Waiting, "not_yet_valid", "")
	c := *d.config
	c.Slots = c.Slots[1:]
	d.must(d.keeper.Apply(d.context(), Plan(&c, d.store)))
	d.config = &c
	if _, err := d.manager.Cancel(d.context(), r.ID, nil); err != nil {
		t.Error(err)
	}
}

// There and back by a rollback is no renewal: the next request is due as before.
func TestDueAfterARelease(t *testing.T) {
	d := newDesk(t)
	day := 24 * time.Hour
	d.serve(testpki.Validity(time.Now().Add(-300*day), time.Now().Add(10*day)))
	d.serve(testpki.Validity(time.Now().Add(-200*day), time.Now().Add(100*day)))
	slot := d.config.Slots[0]
	if !d.manager.due(slot, time.Now()) {
		t.Fatal("it is not due before")
	}
	d.must(d.manager.Rollback(d.context(), "pcs", 0, nil))
	d.must(d.keeper.Rotate(d.context(), "pcs", rotate.Order{Release: true}))
	if !d.manager.due(slot, time.Now()) {
		t.Error("after rollback and release it is not due any more")
	}
}
