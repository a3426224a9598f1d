package daemon

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
)

const aDay = 24 * time.Hour

// desk is a daemon in this process with one slot, pcs.
type desk struct {
	*Daemon
	t    *testing.T
	base string
	root *testpki.Authority
	sub  *testpki.Authority
}

func newTimelineDesk(t *testing.T, keep int, slots string) *desk {
	t.Helper()
	w := &desk{t: t, base: t.TempDir()}
	now := time.Now()
	long := []testpki.Option{testpki.Validity(now.Add(-1000*aDay), now.Add(5000*aDay))}
	w.root = testpki.NewRoot(t, long...)
	w.sub = w.root.SubCA(t, long...)
	testpki.WriteFile(t, w.path("trust.pem"), w.sub.BundlePEM(), 0o644)
	c, err := config.Parse(fmt.Appendf(nil, "environments: {live: {profile: private, trust: [trust.pem], revocation: \"off\"}}\nslots:\n%s\n"+
		"admin: {socket: {path: admin.sock}}\nstate: {directory: state, keep_generations: %d}\n", slots, keep), w.path("spinecert.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := state.Lock(c.State.Directory, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	w.Daemon = newDaemon(Options{Log: io.Discard}, c, dir, make(chan os.Signal, 1))
	ctx, cancel := context.WithCancel(t.Context())
	ended, keeper := make(chan error, 1), w.keeper
	go func() { ended <- keeper.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	w.turn(func(ctx context.Context) error { return w.keeper.Apply(ctx, manage.Plan(c, dir)) })
	return w
}

const managedSlot = "  pcs: {fqdn: " + providerName + ", managed: {key: ecdsa-p256}}"
const filesSlot = "  pcs: {fqdn: " + providerName + ", files: {certificate: pcs.crt, key: pcs.key}}"

func (w *desk) path(name string) string { return filepath.Join(w.base, name) }

func (w *desk) turn(do func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := do(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// issue signs the answer to a new request, and imports it. One that has to wait is
// no error.
func (w *desk) issue(from, to time.Time) (id string) {
	w.t.Helper()
	w.turn(func(ctx context.Context) error {
		made, err := w.manager.NewRequest(ctx, manage.Order{Slot: "pcs", By: "test"})
		if err != nil {
			return err
		}
		id = made.Request.ID
		key, err := w.store.RequestKey("pcs", id)
		if err != nil {
			return err
		}
		leaf := w.sub.Issue(w.t, testpki.Key(key), testpki.Name(providerName), testpki.DNS(providerName), testpki.Validity(from, to))
		_, err = w.manager.AnswerImport(ctx, admin.ImportRequest{Files: []admin.File{{Name: "answer.pem", Data: leaf.CertPEM()}}}, nil)
		if err != nil && time.Now().After(from) {
			return err
		}
		return nil
	})
	return id
}

func (w *desk) timelineOf() []admin.Generation {
	w.t.Helper()
	s := w.statusWithTimeline(w.t.Context())
	if len(s.Slots) != 1 {
		w.t.Fatalf("%d slots", len(s.Slots))
	}
	return s.Slots[0].Timeline
}

// line is what a test compares of a generation.
type line struct {
	Number          uint64
	State, Note     string
	From, To, Asked bool
	Request         string
}

func lines(all []admin.Generation) (out []line) {
	for _, g := range all {
		out = append(out, line{g.Number, g.State, g.Note, !g.From.IsZero(), !g.To.IsZero(), !g.Asked.IsZero(), g.Request})
	}
	return out
}

func (w *desk) want(what string, want ...line) []admin.Generation {
	w.t.Helper()
	got := w.timelineOf()
	if diff := cmp.Diff(want, lines(got)); diff != "" {
		w.t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
	return got
}

func past(n uint64) line    { return line{n, "past", "", true, true, false, ""} }
func present(n uint64) line { return line{n, "present", "", true, false, false, ""} }

var byItself = line{0, "coming", "the next request, which is made by itself", false, false, true, ""}

// TestTimelineOfManagedSlot goes through the life of a slot.
func TestTimelineOfManagedSlot(t *testing.T) {
	w, now := newTimelineDesk(t, 3, managedSlot), time.Now().Truncate(time.Second).UTC()
	w.want("nothing yet")
	w.issue(now.Add(-3*time.Hour), now.Add(300*aDay))
	got := w.want("the first", present(1), byItself)
	leaf := w.keeper.Slot("pcs").Snapshot().Generation
	want := admin.Generation{Number: 1, State: "present", Origin: "import", NotBefore: admin.Time{Time: now.Add(-3 * time.Hour)}, NotAfter: admin.Time{Time: now.Add(300 * aDay)},
		From: moment(leaf.Since.Unix()), Serial: w.status(t.Context()).Slots[0].Serial, SHA256: w.status(t.Context()).Slots[0].SHA256}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Error(diff)
	}
	if !got[1].Asked.Equal(now.Add(180 * aDay)) {
		t.Errorf("the next request is made at %v", got[1].Asked)
	}

	w.issue(now.Add(-2*time.Hour), now.Add(400*aDay))
	w.issue(now.Add(-time.Hour), now.Add(500*aDay))
	got = w.want("two more", past(1), past(2), present(3), byItself)
	for i := range 2 {
		if !got[i].To.Equal(got[i+1].From.Time) || got[i].SHA256 == got[i+1].SHA256 {
			t.Errorf("%+v is followed by %+v", got[i], got[i+1])
		}
	}

	waits := w.issue(now.Add(10*aDay), now.Add(700*aDay))
	got = w.want("an answer that waits", past(1), past(2), present(3),
		line{0, "coming", "waits until it is valid, " + now.Add(10*aDay).Format(time.RFC3339), false, false, true, waits})
	if g := got[3]; !g.NotBefore.Equal(now.Add(10*aDay)) || !g.NotAfter.Equal(now.Add(700*aDay)) || g.Serial == "" || len(g.SHA256) != 64 || g.Origin != "import" {
		t.Errorf("the answer: %+v", g)
	}
	w.turn(func(ctx context.Context) error {
		_, err := w.manager.Cancel(ctx, waits, nil)
		return err
	})
	w.want("cancelled", past(1), past(2), present(3), byItself)

	w.turn(func(ctx context.Context) error { return w.manager.Rollback(ctx, "pcs", 2, nil) })
	again := present(4)
	again.Note = "generation 2 again, held"
	w.want("rolled back", past(1), past(2), past(3), again, byItself)

	// The disk knows less than the process: 1 was pruned.
	w.Daemon = restarted(t, w.Daemon)
	w.want("after a restart", past(2), past(3), again, byItself)
}

// TestTimelineAgreesWithPrepare: the day that is shown is the one on which the
// request is made, not a second before.
func TestTimelineAgreesWithPrepare(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for what, ends := range map[string][]time.Duration{
		"the first":           {300 * aDay},
		"a later end":         {200 * aDay, 400 * aDay},
		"cut to the same end": {200 * aDay, 200 * aDay},
		"a short one":         {500 * aDay, 50 * aDay},
	} {
		t.Run(what, func(t *testing.T) {
			w := newTimelineDesk(t, 5, managedSlot)
			for i, end := range ends {
				w.issue(now.Add(time.Duration(i-5)*time.Minute), now.Add(end))
			}
			timeline := w.timelineOf()
			at := timeline[len(timeline)-1].Asked
			if at.IsZero() {
				t.Fatalf("no next request: %+v", timeline)
			}
			w.turn(func(ctx context.Context) error {
				for _, step := range []struct {
					by   time.Duration
					want int
				}{{-time.Second, 0}, {time.Second, 1}} {
					if err := w.manager.Prepare(ctx, at.Add(step.by)); err != nil {
						return err
					}
					if r, err := w.manager.Requests(); len(r) != step.want || err != nil {
						t.Errorf("%d requests %v from %v: %v", len(r), step.by, at, err)
					}
				}
				return nil
			})
			last := w.timelineOf()[len(timeline)-1]
			if last.Request == "" || last.Note != "the request waits for its certificate" {
				t.Errorf("the request that was made: %+v", last)
			}
		})
	}
}

// TestTimelineOfDamage: what cannot be read is left out, and what it would have told.
func TestTimelineOfDamage(t *testing.T) {
	w, now := newTimelineDesk(t, 5, managedSlot), time.Now()
	for i := range 4 {
		w.issue(now.Add(time.Duration(i-10)*time.Hour), now.Add(time.Duration(i+300)*aDay))
	}
	if err := os.WriteFile(w.path("state/slots/pcs/generations/2/generation.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Daemon = restarted(t, w.Daemon)
	first := past(1)
	first.To = false
	w.want("2 is damaged", first, past(3), present(4), byItself)
	// What is remembered is not read again, until the slot serves another one.
	if err := os.RemoveAll(w.path("state/slots/pcs/generations/3")); err != nil {
		t.Fatal(err)
	}
	w.want("from memory", first, past(3), present(4), byItself)
}

// TestTimelineInMemory: without kept generations the process knows what it served,
// also if nobody asked meanwhile, and what lies on disk is of another time.
func TestTimelineInMemory(t *testing.T) {
	w, now := newTimelineDesk(t, 0, filesSlot), time.Now()
	put := func(n int) {
		leaf := w.sub.Issue(t, testpki.Name(providerName), testpki.DNS(providerName), testpki.Validity(now.Add(time.Duration(n-20)*time.Hour), now.Add(300*aDay)))
		testpki.WriteFile(t, w.path("pcs.key"), leaf.KeyPEM(), 0o600)
		testpki.WriteFile(t, w.path("pcs.crt"), leaf.FullChainPEM(), 0o644)
		w.turn(func(ctx context.Context) error { return w.keeper.Rotate(ctx, "pcs", rotate.Order{}) })
	}
	for n := range 3 {
		put(n)
	}
	g := w.keeper.Slot("pcs").Snapshot().Generation
	other := rotate.Record{Number: 2, Environment: "other", Origin: rotate.FromFiles, Since: g.Since, NotAfter: g.NotAfter}
	if _, err := hex.Decode(other.Digest[:], []byte(g.Digest())); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Commit("pcs", other, g.Identity, 5); err != nil {
		t.Fatal(err)
	}
	w.want("three", past(1), past(2), present(3))
	for n := range maxPast {
		put(3 + n)
	}
	got := w.timelineOf()
	if len(got) != maxPast+1 || got[0].Number != 3 || got[maxPast].State != admin.GenerationPresent {
		t.Errorf("%d generations: %+v", len(got), lines(got))
	}
}

// TestTimelineOfCandidate: files with a certificate that is not valid yet are coming.
func TestTimelineOfCandidate(t *testing.T) {
	w, now := newTimelineDesk(t, 5, filesSlot), time.Now().Truncate(time.Second).UTC()
	put := func(by *testpki.Authority, from time.Time) {
		leaf := by.Issue(t, testpki.Name(providerName), testpki.DNS(providerName), testpki.Validity(from, now.Add(600*aDay)))
		testpki.WriteFile(t, w.path("pcs.key"), leaf.KeyPEM(), 0o600)
		testpki.WriteFile(t, w.path("pcs.crt"), leaf.FullChainPEM(), 0o644)
		w.turn(func(ctx context.Context) error { _ = w.keeper.Rotate(ctx, "pcs", rotate.Order{}); return nil })
	}
	put(w.sub, now.Add(-time.Hour))
	w.want("in force", present(1))
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // it is written in the background
		if r, err := w.store.Current("pcs"); err == nil && r.Number == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not written")
		}
	}
	put(w.sub, now.Add(10*aDay))
	got := w.want("not yet valid", present(1), line{0, "coming", "waits until it is valid, " + now.Add(10*aDay).Format(time.RFC3339), false, false, false, ""})
	if g := got[1]; g.Origin != "files" || !g.NotBefore.Equal(now.Add(10*aDay)) || !g.NotAfter.Equal(now.Add(600*aDay)) {
		t.Errorf("%+v", g)
	}
	put(testpki.NewRoot(t, testpki.Name("Other Root")).SubCA(t, testpki.Name("Other Authority")), now.Add(-time.Minute))
	w.want("of a stranger", present(1), line{0, "coming", "waits for its CA in the trust of live", false, false, false, ""})
}

// TestTimelineAtOnce: those who ask and those who rotate do not disturb each other.
func TestTimelineAtOnce(t *testing.T) {
	d := newHistory(t, 4, 3)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 5 {
				for _, s := range d.statusWithTimeline(t.Context()).Slots {
					var numbers []uint64
					for _, g := range s.Timeline {
						numbers = append(numbers, g.Number)
					}
					if !slices.Equal(numbers, []uint64{1, 2, 3, 0}) { // 0 is the request
						t.Errorf("%s: %v", s.Name, numbers)
					}
				}
			}
		})
	}
	group.Go(func() {
		for range 50 {
			for _, s := range d.keeper.Slots() {
				d.memories.left(s.Name(), s.Snapshot().Generation, "live")
			}
		}
	})
	group.Wait()
}
