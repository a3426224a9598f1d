package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/trust"
)

func TestLatenciesWithin(t *testing.T) {
	epoch := time.Unix(1_000_000, 0)
	at := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }
	var l latencies
	for _, r := range []request{{at(0), at(10)}, {at(90), at(105)}, {at(110), at(112)}, {at(100), at(400)}, {at(200), at(201)}} {
		l.note(r, nil)
	}
	l.note(request{at(110), at(111)}, errors.New("cut"))
	for _, tt := range []struct {
		name string
		ws   []window
		want []float64
	}{
		{"none", nil, nil},
		{"before and in it, in part too", []window{{at(100), at(150)}}, []float64{2, 15, 300}},
		{"in two windows, counted once", []window{{at(100), at(150)}, {at(190), at(300)}}, []float64{1, 2, 15, 300}},
		{"ends as it begins", []window{{at(10), at(90)}}, nil},
	} {
		got := l.within(tt.ws)
		slices.Sort(got)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
	}
	if done, lost := l.count(); done != 5 || lost != 1 {
		t.Errorf("count = %d, %d, want 5, 1", done, lost)
	}
}

// A request that waited behind a slow one counts its wait.
func TestLatenciesCountFromWhenDue(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var l latencies
	calls := 0
	const slow = 50 * time.Millisecond
	l.keep(ctx, time.Millisecond, true, func() error {
		switch calls++; calls {
		case 1:
			return sleep(ctx, slow)
		case 3:
			return errors.New("cut") // the last
		}
		return nil
	})
	cancel()
	if done, lost := l.count(); done != 2 || lost != 1 {
		t.Fatalf("count = %d, %d, want 2, 1", done, lost)
	}
	if second := l.requests[1].end.Sub(l.requests[1].due); second < slow-time.Millisecond {
		t.Errorf("second request took %s, less than it waited", second)
	}
}

func TestParseFlagsOnly(t *testing.T) {
	type parts struct {
		Only          []string
		Peers, Revoke bool
	}
	for _, tt := range []struct {
		only string
		want parts
		bad  bool
	}{
		{"", parts{nil, true, true}, false},
		{"revocation", parts{nil, false, true}, false},
		{"nginx,spinecert", parts{[]string{"nginx", "spinecert"}, true, false}, false},
		{"nginx,revocation", parts{[]string{"nginx"}, true, true}, false},
		{"apache", parts{}, true},
	} {
		var said strings.Builder
		var args []string
		if tt.only != "" {
			args = []string{"-only", tt.only}
		}
		opts, err := parseFlags(args, &said)
		if (err != nil) != tt.bad {
			t.Errorf("-only %q: error %v", tt.only, err)
		}
		if tt.bad {
			continue
		}
		got := parts{opts.only, opts.peers, opts.revoke}
		if len(got.Only) == 0 {
			got.Only = nil
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("-only %q: (-want +got)\n%s", tt.only, diff)
		}
	}
}

func TestLists(t *testing.T) {
	keys, err := newKeys(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAuthority(keys, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.issue(peerName(0), keys[2])
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{dir: t.TempDir(), authority: a, signer: newSigner(a)}
	der, err := l.signer.list(10, serials([]*identity{id})...)
	if err != nil {
		t.Fatal(err)
	}
	s := &lists{dir: l.dir}
	bundle, err := s.write("bundle.pem", certificatePEM(a.root, a.sub))
	if err != nil {
		t.Fatal(err)
	}
	b, err := readBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	list, err := trust.ReadCRL(der, "list", b.Certificates())
	if err != nil {
		t.Fatal(err)
	}
	if _, on := list.Lookup(id.cert.SerialNumber); !on || list.Len() != 11 {
		t.Errorf("list of %d entries, revoked is on it: %t; want 11, true", list.Len(), on)
	}
}
