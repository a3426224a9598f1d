package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// revocationName selects the figures of this file in -only.
const revocationName = "revocation"

// revocation is what a run found out about CRLs.
type revocation struct {
	facts  []fact
	versus []versus
	notes  []string
}

// versus is a figure of spinecertd beside the same of HAProxy, a value per round.
type versus struct {
	title, unit  string
	places       int
	ours, theirs []float64
}

// trial is what the figures of revocation share.
type trial struct {
	*lab
	daemon  proxy
	haproxy *proxy // nil: not installed
	lists   lists
	out     *revocation
}

// revocations takes the figures of revocation. What could be taken is returned also
// when something could not.
func (l *lab) revocations(ctx context.Context, found []proxy) (*revocation, error) {
	p, ok := findProxy(found, spinecertName)
	if !ok {
		return nil, fmt.Errorf("measure revocation: %s is missing", spinecertName)
	}
	t := &trial{lab: l, daemon: p, out: &revocation{}}
	if h, ok := findProxy(found, "haproxy"); ok {
		t.haproxy = &h
	}
	var err error
	if t.lists, err = l.writeLists(); err != nil {
		return nil, fmt.Errorf("measure revocation: %w", err)
	}
	var problems []error
	for _, take := range []func(context.Context) error{t.trustFacts, t.starts, t.handshakeCost, t.swaps, t.sweeps} {
		if err := take(ctx); err != nil {
			problems = append(problems, fmt.Errorf("measure revocation: %w", err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return t.out, errors.Join(problems...)
}

func (t *trial) fact(title string, value float64, unit string, target float64, places int) {
	fmt.Fprintf(t.progress, "%-60s %s\n", title, amount(value, places, unit))
	t.out.facts = append(t.out.facts, fact{title, value, unit, target, places})
}

// revoking has a site judge by a list beside that of the root. HAProxy takes its
// lists from one file.
func (t *trial) revoking(list string) func(*site) {
	return func(s *site) { s.CRLs, s.CRLFile = []string{t.lists.root, list}, t.lists.pem }
}

// trustFacts measures package trust in a process of its own.
func (t *trial) trustFacts(ctx context.Context) error {
	in := trustInput{
		Bundle: filepath.Join(t.lists.dir, "bundle.pem"), Chain: filepath.Join(t.lists.dir, "chain.pem"),
		RootList: t.lists.root, List: t.lists.large, Entries: largeList, Peer: clientName, Rounds: t.sizes.trust,
	}
	if _, err := t.lists.write("bundle.pem", certificatePEM(t.authority.root, t.authority.sub)); err != nil {
		return err
	}
	if _, err := t.lists.write("chain.pem", t.clientID.chainPEM()); err != nil {
		return err
	}
	f, err := askTrust(ctx, in)
	if err != nil {
		return err
	}
	t.fact(fmt.Sprintf("load of the list (%.1f MB)", float64(t.lists.size)/1e6), median(f.Load), "s", 2, 2)
	t.fact("heap that the list takes", f.Heap/1e6, "MB", 64, 1)
	t.fact("resident memory while it loads, at most, without the file", f.Peak/1e6, "MB", 64, 1)
	t.fact("lookup of a serial on it", median(f.Hit), "ns", 200, 0)
	t.fact("lookup of a serial not on it", median(f.Miss), "ns", 200, 0)
	t.fact("beside it: one random read in as much memory", median(f.Read), "ns", noTarget, 0)
	t.fact("allocations of a lookup", f.LookupAllocs, "", 0, 0)
	t.fact("verdict of a repeated peer", median(f.Remembered)/1e3, "us", 20, 2)
	t.fact("allocations of such a verdict", f.RememberedAllocations, "", noTarget, 0)
	t.fact("verdict of a new peer", median(f.Fresh)/1e3, "us", noTarget, 0)
	t.fact("review of an open connection", median(f.Review)/1e3, "us", noTarget, 2)
	return nil
}

// section renders the figures.
func (r *revocation) section(b *strings.Builder, s sizes) {
	fmt.Fprintf(b, "The list has %d entries with serial numbers of 16 bytes, as a file in the page cache. What is measured of package trust is measured in a process of its own. "+
		"Nanoseconds and microseconds are CPU time. "+
		"A request is 256 bytes there and back over an open connection and counts from when it was due: every %s on %d of them during swaps, every %s on %d during sweeps; one with a full handshake is due every %s. "+
		"Otherwise means the same load in the %s before each change.\n\n", largeList, talkEvery, talkers, liveEvery, liveTalkers, visitEvery, quietTime)
	factTable(b, r.facts)
	if len(r.versus) == 0 {
		return
	}
	fmt.Fprintf(b, "\nWhat the same list adds to a start: spinecertd with `crl.files`, HAProxy with `crl-file`. Each round starts either with and without it. Median over %d round(s) (smallest to largest).\n\n", s.rounds)
	var rows [][]string
	for _, v := range r.versus {
		rows = append(rows, []string{v.title, spread(v.ours, v.places, v.unit), spread(v.theirs, v.places, v.unit), spread(ratios(v.ours, v.theirs), 2, "")})
	}
	table(b, []string{"added by the list", "spinecertd", "HAProxy", "ratio"}, rows)
}
