package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/alert/sink"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// Check loads everything, publishes nothing and returns what would not be ready.
func Check(ctx context.Context, o Options) (report string, ready bool, err error) {
	c, err := config.Load(o.ConfigFile)
	if err != nil {
		return "", false, err
	}
	if _, err := sinksOf(c, sink.Options{}); err != nil {
		return "", false, err
	}
	options := rotate.Options{Store: nothingKept{}}
	dir, err := openState(c.State.Directory)
	if err != nil {
		return "", false, err
	}
	if dir != nil {
		defer dir.Close()
		options.Store, options.CRLs = dir, dir // to read: its changes are refused, and nothing is lost by that
	}
	keeper := rotate.New(options)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- keeper.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	bounded, stop := context.WithTimeout(ctx, stageTimeout)
	defer stop()
	plan := manage.Plan(c, dir)
	fetches := map[string]bool{}
	for _, e := range plan.Environments {
		fetches[e.Name] = len(e.Fetch.Hosts) > 0
	}
	if err := keeper.Apply(bounded, alone(plan)); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return "", false, err
	}
	report, ready = describe(keeper)
	report += uncovered(keeper, c.Tunnels, fetches, time.Now())
	for _, w := range c.Warnings() {
		report = "warning: " + w.Error() + "\n" + report
	}
	return report, ready, nil
}

// uncovered has a line for each CRL that peers of tunnels need and that is not at hand.
// It does not make anything not ready: a list that is fetched is there soon after a
// start, and what has no list serves and refuses, which /readyz does not call down.
func uncovered(k *rotate.Keeper, tunnels []config.Tunnel, fetches map[string]bool, now time.Time) string {
	var b strings.Builder
	for _, e := range k.Environments() {
		need, state := needOf(k, e, tunnels, nil), e.Trust()
		if state == nil || need.mode == "" {
			continue
		}
		what := "refused"
		if need.mode != trust.Require {
			what = "accepted unchecked"
		}
		said := map[string]bool{}
		for _, l := range need.uncovered(state, now) {
			if said[l.issuer] {
				continue
			}
			said[l.issuer] = true
			switch {
			case fetches[e.Name()] && l.nowhere:
				fmt.Fprintf(&b, "environment %s: no current CRL of %q, and no address of it is known: peers will be %s (put a current list into crl.files)\n", e.Name(), l.issuer, what)
			case fetches[e.Name()] && len(l.addresses) == 0: // a peer may name one
			case fetches[e.Name()]:
				fmt.Fprintf(&b, "environment %s: no current CRL of %q: peers will be %s until it is fetched\n", e.Name(), l.issuer, what)
			default:
				fmt.Fprintf(&b, "environment %s: no current CRL of %q, and crl.hosts is empty: peers will be %s (name its host there, or put a current list into crl.files)\n", e.Name(), l.issuer, what)
			}
		}
	}
	return b.String()
}

// alone takes the fetching out of a plan: the CRLs that are kept are judged, and
// nobody is asked for others.
func alone(p rotate.Plan) rotate.Plan {
	for i := range p.Environments {
		p.Environments[i].Fetch = rotate.CRLFetch{}
	}
	return p
}
