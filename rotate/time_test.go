package rotate

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// The clock of these tests is synctest's. It stands still while anything reads a
// file, so there is no inotify: all that happens is by the poll and by deadlines.
func inTime(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.watch = noInotify
		test(b)
	})
}

func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) serving(l *testpki.Leaf) bool {
	return b.pcs().Snapshot().Generation.Identity.Leaf().Equal(l.Cert)
}

func TestTakenAtItsNotBefore(t *testing.T) {
	inTime(t, func(b *bench) {
		b.slot.Poll = 48 * time.Hour // it is the deadline that does it
		first := b.leaf()
		b.pair(first)
		b.start()
		start := time.Now().Add(3 * time.Hour).Truncate(time.Second)
		second := b.leaf(testpki.Validity(start, start.Add(time.Hour)))
		b.pair(second)
		b.still(first)
		if r := b.pcs().Status().Refusal; r == nil || r.Reason != string(trust.NotYetValid) {
			b.t.Fatalf("refusal %v", r)
		}
		later(time.Until(start) - 6*time.Minute) // the tolerance for clocks is 5 minutes
		if b.serving(second) {
			b.t.Error("served before its time")
		}
		later(6*time.Minute + time.Second)
		if !b.serving(second) {
			b.t.Errorf("not served at its notBefore; refusal %v", b.pcs().Status().Refusal)
		}
		if got := b.count(EventRefused); got != 1 {
			b.t.Errorf("refusal told %d times, want once", got)
		}
	})
}

func TestScheduleKnowsNotBefore(t *testing.T) {
	now := time.Now()
	at := now.Add(90 * time.Second)
	leaf := testpki.NewRoot(t).Issue(t, testpki.Validity(at, at.Add(time.Hour)))
	u := &unit{poll: time.Hour, settle: time.Hour, retry: now.Add(time.Hour), failing: now,
		refusal: chainRefusal("f", &trust.VerifyError{Reason: trust.NotYetValid, Certificate: leaf.Cert, Detail: "x"})}
	u.schedule(now)
	if !u.next.Equal(leaf.Cert.NotBefore) {
		t.Errorf("next look at %s, want %s", u.next, leaf.Cert.NotBefore)
	}
	if u.due(at.Add(-2 * time.Second)) {
		t.Error("due before its time")
	}
	if !u.due(at) {
		t.Error("at its notBefore only the stats would be looked at")
	}
}

func TestBackOffOfARefusedSource(t *testing.T) {
	inTime(t, func(b *bench) {
		b.slot.Poll = time.Hour
		b.put("pcs.key", b.leaf().KeyPEM(), 0o600)
		b.put("pcs.crt", testpki.NewRoot(b.t, testpki.Name("Stranger")).CertPEM(), 0o644)
		b.start()
		looks := func(d time.Duration) int {
			n, last := 0, time.Time{}
			for end := time.Now().Add(d); time.Now().Before(end); later(100 * time.Millisecond) {
				if at := b.pcs().Status().LastAttempt; !at.Equal(last) {
					n, last = n+1, at
				}
			}
			return n
		}
		if got := looks(10 * time.Second); got < 5 {
			b.t.Errorf("%d looks in the first 10 s: a source that does not fit yet is to be looked at often", got)
		}
		later(2 * time.Hour)
		if got := looks(10 * time.Minute); got > 3 {
			b.t.Errorf("%d looks in 10 minutes, two hours later", got)
		}
	})
}

func TestIncoherentForTooLongIsToldOnce(t *testing.T) {
	inTime(t, func(b *bench) {
		b.slot.Poll, b.slot.Settle = time.Hour, time.Minute
		b.env.Poll, b.env.Settle = time.Hour, time.Minute
		first := b.leaf()
		b.pair(first)
		b.start()
		b.put("pcs.key", b.leaf().KeyPEM(), 0o600)
		b.write("trust.pem", nil, 0o644)
		b.do(b.keeper.Refresh(b.context()))
		began := time.Now()
		later(50 * time.Second)
		if got := b.count(EventIncoherent); got != 0 {
			b.t.Errorf("told after 50 s, want after a minute")
		}
		later(15 * time.Second) // though neither poll nor back-off falls into it
		for range 5 {
			later(10 * time.Minute)
		}
		told := b.of(EventIncoherent)
		if len(told) != 2 || told[0].Slot+told[1].Slot != "pcs" {
			b.t.Fatalf("told %d times, want once for the slot and once for the environment: %v", len(told), told)
		}
		for _, e := range told {
			if after := e.Time.Sub(began); after > time.Minute+2*time.Second {
				b.t.Errorf("told after %s, want after a minute", after)
			}
		}
		if b.count(EventPending) != 1 || b.count(EventTrustPending) != 1 {
			b.t.Errorf("pending told more than once: %v", b.told())
		}
	})
}

func TestTicketsAreRenewedByTheLoop(t *testing.T) {
	inTime(t, func(b *bench) {
		b.pair(b.leaf())
		b.start()
		e := b.endpoint(EndpointConfig{}, 0)
		first := config(b.t, e)
		later(ticketLife - 2*time.Hour)
		if config(b.t, e) != first {
			b.t.Error("renewed too early")
		}
		later(4 * time.Hour)
		if config(b.t, e) == first {
			b.t.Error("not renewed after a day")
		}
	})
}

// hanging is a source whose file system does not answer until it is released.
type hanging struct {
	Environment
	release chan struct{}
}

func (h *hanging) job(*Keeper, *order) job {
	return job{stage: func(*material, *Refusal, time.Time) (publish, *Refusal) {
		<-h.release
		return nil, nil
	}}
}

func (h *hanging) settled(*Keeper, *Refusal, time.Time) {}

func TestHangingFilesHoldUpNobody(t *testing.T) {
	inTime(t, func(b *bench) {
		first, second := b.leaf(), b.leaf()
		b.pair(first)
		b.slot.Poll = 30 * time.Second
		b.start()
		release := make(chan struct{})
		var sources []*hanging
		var answers []chan *Refusal
		b.do(b.keeper.call(b.context(), func() {
			for range 2 * b.keeper.options.Workers {
				h := &hanging{release: release}
				h.unit.owner = h
				h.unit.poll, h.unit.settle = time.Minute, time.Minute
				sources = append(sources, h)
				answers = append(answers, b.keeper.lookNow(&h.unit))
			}
		}))
		b.pair(second)
		later(3 * hangAfter)
		for _, a := range answers {
			select {
			case r := <-a:
				if !errors.Is(r, errNoAnswer) || !r.Pending {
					b.t.Errorf("outcome %v", r)
				}
			default:
				b.t.Fatal("who waits for a source that hangs waits for ever")
			}
		}
		later(40 * time.Second)
		if !b.serving(second) {
			b.t.Error("sources that hang held up one that does not")
		}
		told := 0
		for _, e := range b.of(EventTrustPending) {
			if strings.Contains(e.Err.Error(), "not to be read") {
				told++
			}
		}
		if told != len(sources) {
			b.t.Errorf("told %d times for %d sources", told, len(sources))
		}
		// A look on word meanwhile is answered too, and does not stay behind.
		var again chan *Refusal
		b.do(b.keeper.call(b.context(), func() { again = b.keeper.lookNow(&sources[0].unit) }))
		later(2*hangCheck + beatInterval)
		if len(again) != 1 {
			b.t.Error("a look that came later was not answered")
		}
		close(release)
		later(5 * time.Second)
		b.do(b.keeper.call(b.context(), func() {
			if k := b.keeper; k.hung != 0 || k.inflight != 0 || len(k.running) != 0 || sources[0].unit.refusal != nil {
				b.t.Errorf("after they came back: %d hang, %d run, %d are in work, refusal %v", k.hung, k.inflight, len(k.running), sources[0].unit.refusal)
			}
		}))
	})
}
