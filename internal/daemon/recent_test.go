package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

// noted is one refusal as a test makes it.
type noted struct{ tunnel, source, reason, serial string }

func (n noted) key() refusalKey {
	return refusalKey{source: sourceKey{n.tunnel, netip.MustParseAddr(n.source)}, result: "refused", reason: n.reason, serial: n.serial}
}

func always() bool { return true }

func (n noted) note(r *recent, now time.Time) uint64 {
	_, news := r.note(n.key(), n.source+":1", now, func() admin.Refusal {
		return admin.Refusal{Tunnel: n.tunnel, Reason: n.reason, Serial: n.serial}
	}, always)
	return news
}

// those returns how many of a tunnel with a reason are remembered.
func those(r *recent, tunnel, reason string) int {
	n := 0
	for _, e := range r.list() {
		if e.Tunnel == tunnel && e.Reason == reason {
			n++
		}
	}
	return n
}

func TestRecentMerges(t *testing.T) {
	t.Parallel()
	r, now := newRecent(10), time.Now()
	a, b := noted{"in", "192.0.2.1", "revoked", "1"}, noted{"in", "192.0.2.1", "expired", "1"}
	for i := range 5 { // in turn, and still two
		a.note(r, now.Add(time.Duration(2*i)*time.Second))
		b.note(r, now.Add(time.Duration(2*i+1)*time.Second))
	}
	a.note(r, now.Add(time.Minute))
	got := r.list()
	if len(got) != 2 || got[0].Reason != "revoked" || got[0].Count != 6 || got[1].Count != 5 {
		t.Fatalf("%+v", got)
	}
	if !got[0].Time.Equal(now) || !got[0].Last.Equal(now.Add(time.Minute)) {
		t.Errorf("from %s to %s", got[0].Time, got[0].Last)
	}
	for _, other := range []noted{{"out", "192.0.2.1", "revoked", "1"}, {"in", "192.0.2.2", "revoked", "1"}, {"in", "192.0.2.1", "revoked", "2"}} {
		other.note(r, now)
	}
	if n := len(r.list()); n != 5 {
		t.Errorf("%d entries, want 5: what differs was merged", n)
	}
}

// The audit file hears of a refusal once, and an hour later how often it was since.
func TestRecentNews(t *testing.T) {
	t.Parallel()
	r, now := newRecent(10), time.Now()
	a := noted{"in", "192.0.2.1", "revoked", "1"}
	if n := a.note(r, now); n != 1 {
		t.Errorf("the first: %d", n)
	}
	for range 99 {
		if n := a.note(r, now.Add(time.Minute)); n != 0 {
			t.Fatalf("told again: %d", n)
		}
	}
	if n := a.note(r, now.Add(auditAgain)); n != 100 {
		t.Errorf("an hour later: %d, want 100", n)
	}
}

// Whatever floods, others stay, and there is an end to it.
func TestRecentFloods(t *testing.T) {
	t.Parallel()
	now := time.Now()
	victims := func(r *recent) {
		for i := range 40 {
			noted{"in", fmt.Sprintf("198.51.100.%d", i), "revoked", "7"}.note(r, now)
			noted{"other", fmt.Sprintf("198.51.100.%d", i), "expired", "7"}.note(r, now)
		}
	}
	for name, tc := range map[string]struct {
		flood func(i int) noted
		in    int // of the 40 victims in the same tunnel that stay
	}{
		"one source, many certificates": {func(i int) noted { return noted{"in", "192.0.2.1", "unknown_issuer", fmt.Sprint(i)} }, 40},
		"many sources": {func(i int) noted {
			return noted{"in", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String(), "protocol", ""}
		}, 0},
	} {
		r := newRecent(maxRecent)
		victims(r)
		for i := range 20 * maxRecent {
			tc.flood(i).note(r, now)
		}
		if n := len(r.list()); n != maxRecent {
			t.Errorf("%s: %d entries, want %d", name, n, maxRecent)
		}
		if n := those(r, "in", "revoked"); n < tc.in {
			t.Errorf("%s: %d of 40 others of the tunnel are left, want %d", name, n, tc.in)
		}
		if n := those(r, "other", "expired"); n != 40 {
			t.Errorf("%s: %d of 40 of the other tunnel are left", name, n)
		}
		noted{"in", "203.0.113.9", "revoked", "9"}.note(r, now) // who comes during the flood is seen, too
		if got := r.list(); got[0].Serial != "9" {
			t.Errorf("%s: the newest is %+v", name, got[0])
		}
		if len(r.byKey) != r.all.Len() || len(r.sources) > maxRecent || len(r.tunnels) != 2 {
			t.Errorf("%s: books of %d keys, %d sources and %d tunnels", name, len(r.byKey), len(r.sources), len(r.tunnels))
		}
	}
}

func TestSourceOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.7:4711": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7", "[2001:db8:1:2:3:4:5:6]:9": "2001:db8:1:2::", "[fe80::1%25lo]:1": "fe80::",
	} {
		a, err := net.ResolveTCPAddr("tcp", in)
		if err != nil {
			continue // a zone that is not here
		}
		if got := sourceOf(a).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if a := sourceOf(&net.UnixAddr{Name: "x"}); a.IsValid() {
		t.Errorf("a unix socket has the address %s", a)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	b, now := newBudget(3, time.Minute), time.Now()
	var got []bool
	for range 5 {
		got = append(got, b.allow(now))
	}
	if want := []bool{true, true, true, false, false}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if n := b.suppressed(now.Add(59 * time.Second)); n != 0 {
		t.Errorf("told before the window has ended: %d", n)
	}
	if n := b.suppressed(now.Add(time.Minute)); n != 2 {
		t.Errorf("suppressed %d, want 2", n)
	}
	if n := b.suppressed(now.Add(2 * time.Minute)); n != 0 {
		t.Errorf("told twice: %d", n)
	}
	if !b.allow(now.Add(time.Minute)) {
		t.Error("a new window has no lines")
	}
}

// BenchmarkRecentFlood: one refusal of a flood costs the same, however many there are.
func BenchmarkRecentFlood(b *testing.B) {
	r, now := newRecent(maxRecent), time.Now()
	keys := make([]refusalKey, 64*maxRecent)
	for i := range keys {
		keys[i] = refusalKey{source: sourceKey{"in", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, reason: "protocol"}
	}
	for i := 0; b.Loop(); i++ {
		r.note(keys[i%len(keys)], "", now, func() admin.Refusal { return admin.Refusal{} }, always)
	}
}
