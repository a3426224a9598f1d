package sandbox

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCuts: who ended what, and when, decides what is counted.
func TestCuts(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	const bad, good = "bad", "good" // numbers of certificates
	after := func(d time.Duration) time.Time { return at.Add(d) }
	for _, test := range []struct {
		name  string
		do    func(*cuts)
		want  cutBooks
		books books
	}{
		{"cut after publication", func(c *cuts) { c.ended(bad, bad, after(time.Second), io.EOF) }, cutBooks{Cut: 1}, books{}},
		{"ended before publication", func(c *cuts) { c.ended(bad, bad, after(-time.Second), io.EOF) }, cutBooks{WronglyCut: 1}, books{}},
		{"cut of another", func(c *cuts) { c.ended(good, good, after(time.Second), io.EOF) }, cutBooks{WronglyCut: 1}, books{}},
		{"cut of one that nobody can revoke", func(c *cuts) { c.ended("", "stand-in", after(time.Second), io.EOF) }, cutBooks{WronglyCut: 1}, books{}},
		{"ended by the end", func(c *cuts) { c.close(); c.ended(good, good, after(time.Second), io.EOF) }, cutBooks{}, books{}},

		{"answered before", func(c *cuts) { c.request(bad, bad, after(-time.Second), nil) }, cutBooks{}, books{Requests: 1}},
		{"answered while the list is on its way", func(c *cuts) { c.request(bad, bad, after(time.Second), nil) }, cutBooks{}, books{Requests: 1}},
		{"answered long after", func(c *cuts) { c.request(bad, bad, after(cutWithin+1), nil) }, cutBooks{Served: 1}, books{Requests: 1}},
		{"failed after", func(c *cuts) { c.request(bad, bad, after(time.Second), io.EOF) }, cutBooks{}, books{}},
		{"answered of another", func(c *cuts) { c.request(good, good, after(time.Hour), nil) }, cutBooks{}, books{Requests: 1}},
		{"failed of another", func(c *cuts) { c.request(good, good, after(time.Second), io.EOF) }, cutBooks{}, books{Requests: 1, Failed: 1}},

		{"refused", func(c *cuts) { c.tried(bad, bad, after(time.Second), false, io.EOF) }, cutBooks{Refused: 1}, books{}},
		{"refused while resuming", func(c *cuts) { c.tried(bad, bad, after(time.Second), true, io.EOF) }, cutBooks{Refused: 1, Resumptions: 1}, books{}},
		{"let in while the list is on its way", func(c *cuts) { c.tried(bad, bad, after(time.Second), true, nil) }, cutBooks{}, books{Requests: 1}},
		{"let in long after", func(c *cuts) { c.tried(bad, bad, after(cutWithin+1), false, nil) }, cutBooks{Served: 1}, books{}},
		{"let in after a cut", func(c *cuts) {
			c.ended(bad, bad, after(time.Second), io.EOF)
			c.tried(bad, bad, after(2*time.Second), true, nil)
		}, cutBooks{Cut: 1, Served: 1}, books{}},
		{"let in just before a cut", func(c *cuts) {
			c.ended(bad, bad, after(2*time.Second), io.EOF)
			c.tried(bad, bad, after(time.Second), true, nil)
		}, cutBooks{Cut: 1}, books{Requests: 1}},
		{"let in of another", func(c *cuts) { c.tried(good, good, after(time.Hour), true, nil) }, cutBooks{}, books{Requests: 1}},
		{"turned away of another", func(c *cuts) { c.tried(good, good, after(time.Second), true, io.EOF) }, cutBooks{}, books{Requests: 1, Failed: 1}},
		{"never cut", func(c *cuts) { c.uncut(bad, 2) }, cutBooks{Served: 2}, books{}},
		{"looked at to the end", func(c *cuts) { c.proved() }, cutBooks{Proved: 1}, books{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger()
			c := newCuts(l)
			if _, err := c.publish(bad, bad, 2, func() (time.Time, error) { return at, nil }); err != nil {
				t.Fatal(err)
			}
			test.do(c)
			test.want.Revocations = 1
			got, latency := c.totals()
			if got != test.want {
				t.Error(cmp.Diff(test.want, got))
			}
			if total, _ := l.totals(); total != test.books {
				t.Error(cmp.Diff(test.books, total))
			}
			if int64(latency.Samples) != got.Cut {
				t.Errorf("%d samples of %d cuts", latency.Samples, got.Cut)
			}
		})
	}
}

func TestCutsStanding(t *testing.T) {
	at := time.Now()
	c := newCuts(newLedger())
	failed := errors.New("no disk")
	if _, err := c.publish("1", "peer-1", 2, func() (time.Time, error) { return at, failed }); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
	if total, _ := c.totals(); total != (cutBooks{}) {
		t.Errorf("a list that was not published revoked somebody: %+v", total)
	}
	if _, err := c.publish("1", "peer-1", 2, func() (time.Time, error) { return at, nil }); err != nil {
		t.Fatal(err)
	}
	if open, refused := c.standing("1"); open != 2 || refused != 0 || !c.lastCut("1").IsZero() {
		t.Errorf("open %d, refused %d at first", open, refused)
	}
	c.ended("1", "peer-1", at.Add(40*time.Millisecond), io.EOF)
	c.ended("1", "peer-1", at.Add(20*time.Millisecond), io.EOF)
	c.tried("1", "peer-1", at, false, io.EOF)
	if open, refused := c.standing("1"); open != 0 || refused != 1 || !c.lastCut("1").Equal(at.Add(40*time.Millisecond)) {
		t.Errorf("open %d, refused %d, last %v", open, refused, c.lastCut("1"))
	}
	if _, latency := c.totals(); latency != (Latency{P50: 20, P99: 40, Max: 40, Samples: 2}) {
		t.Errorf("latency %+v", latency)
	}
}

// TestWatch: an end of the other side is entered once, an end of ours never.
func TestWatch(t *testing.T) {
	for name, want := range map[string]int64{"ours": 0, "theirs": 1} {
		c := newCuts(newLedger())
		near, far := net.Pipe()
		w := c.watch(near, "x")
		if name == "ours" {
			_ = w.Close()
		} else {
			_ = far.Close()
		}
		for range 2 {
			if _, err := w.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: read from a closed connection", name)
			}
		}
		if total, _ := c.totals(); total.WronglyCut != want {
			t.Errorf("%s: wrongly cut %d, want %d", name, total.WronglyCut, want)
		}
	}
}

func TestTurned(t *testing.T) {
	for text, want := range map[error]bool{
		io.EOF: true, io.ErrUnexpectedEOF: true, errors.New("handshake with provider: remote error: tls: bad certificate"): true,
		errors.New("dial provider: connection refused"): false, errors.New("i/o timeout"): false, nil: false,
	} {
		if got := turned(text); got != want {
			t.Errorf("%v: %t", text, got)
		}
	}
}

// TestScore: every revocation and every fault once, in order, within the time.
func TestScore(t *testing.T) {
	for _, test := range []struct {
		revocations, faults int
		duration            time.Duration
	}{{5, 2, 20 * time.Second}, {0, 1, 3 * time.Second}, {0, 3, 30 * time.Second}, {1, 1, 2 * time.Second}, {2, 5, 40 * time.Second}, {200, 2, 20 * time.Second}} {
		acts := score(test.revocations, test.faults, test.duration)
		revocations, spoiled := 0, 0
		for _, a := range acts {
			if a.fault == "" {
				revocations++
			} else {
				spoiled++
			}
			if a.at < 0 || a.at >= test.duration {
				t.Errorf("%+v: something at %s", test, a.at)
			}
		}
		if revocations != test.revocations || spoiled != test.faults {
			t.Errorf("%+v: %d revocations, %d faults", test, revocations, spoiled)
		}
		if !slices.IsSortedFunc(acts, func(a, b act) int { return int(a.at - b.at) }) {
			t.Errorf("%+v: not in order: %v", test, acts)
		}
	}
	for _, test := range []struct {
		rotations int
		duration  time.Duration
		want      int
	}{{20, 20 * time.Second, 2}, {1, time.Minute, 1}, {1000, 120 * time.Second, 15}, {100, time.Second, 1}} {
		if got := faultsOf(test.rotations, test.duration); got != test.want {
			t.Errorf("faults of %d rotations in %s: %d, want %d", test.rotations, test.duration, got, test.want)
		}
	}
}

func TestVictims(t *testing.T) {
	c := &cast{far: &farServer{peer: &peer{name: farName}}}
	for n := range 5 {
		c.peers = append(c.peers, &peer{name: peerName(n + 1)})
	}
	c.peers = append(c.peers, c.far.peer)
	var got []string
	for _, p := range c.victims(4) {
		got = append(got, p.label())
	}
	if want := []string{"peer-1", "far", "peer-2", "peer-3"}; !slices.Equal(got, want) {
		t.Errorf("victims %q, want %q", got, want)
	}
	if got := c.victims(1); len(got) != 1 || got[0] != c.peers[0] {
		t.Errorf("one victim: %v", got)
	}
}
