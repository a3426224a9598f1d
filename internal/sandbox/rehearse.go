package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"
)

// RehearseOptions are those of [Rehearse].
type RehearseOptions struct {
	Options
	Rotations   int      // good ones, of the daemon's slots; at least 1. With [ScenarioG2] on either side of the change, 0 is 12
	Revocations int      // peers that are revoked, at most [MaxRevocations]; not with a scenario
	Scenario    string   // "" or [ScenarioG2]
	Services    []string // of [Programs]; not with a scenario

	directories []string // for tests: where programs are looked for beside PATH, if not nil
}

// MaxRevocations bounds the peers of a rehearsal: each holds connections open.
const MaxRevocations = 200

// farTurn is the revocation that is the far server's.
const farTurn = 2

// faithful is how many clients of the inbound tunnel are never revoked.
const faithful = 2

// overtime is how much later than planned the last rotation may come: with
// start, stop and this a rehearsal takes at most its duration and 20 s.
const overtime = 5 * time.Second

// brokenPer is how many good rotations there are to a broken one.
const brokenPer = 10

func (o RehearseOptions) withDefaults() (RehearseOptions, error) {
	if o.Revocations < 0 || o.Revocations > MaxRevocations {
		return o, usageError{message: fmt.Sprintf("%d revocations: from 0 to %d are possible", o.Revocations, MaxRevocations), hint: "write for example --revocations 5"}
	}
	if o.Revocations > 0 && o.Scenario != "" {
		return o, usageError{message: "--revocations: not with a scenario", hint: "rehearse one after the other"}
	}
	if len(o.Services) > 0 && o.Scenario != "" {
		return o, usageError{message: "--services: not with a scenario", hint: "rehearse one after the other"}
	}
	if o.Scenario != "" && o.Scenario != ScenarioG2 {
		return o, usageError{message: fmt.Sprintf("scenario %q: unknown", o.Scenario), hint: "use " + ScenarioG2 + ", or leave it out"}
	}
	if o.Scenario == ScenarioG2 {
		if o.Profile == ProfileG2 {
			return o, usageError{message: "profile g2: the scenario begins with g1", hint: "leave --profile out"}
		}
		o.change = true
		if o.Rotations == 0 {
			o.Rotations = changeRotations
		}
	}
	if o.Rotations < 1 {
		return o, usageError{message: fmt.Sprintf("%d rotations: at least one is needed", o.Rotations), hint: "write for example --rotations 100"}
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	o.peers = faithful + o.Revocations
	if o.Revocations >= farTurn {
		o.peers-- // the far server is one of those
	}
	if o.directories == nil {
		o.directories = serverDirectories()
	}
	var err error
	if o.programs, err = findPrograms(o.Services, o.directories); err != nil {
		return o, err
	}
	o.Options, err = o.Options.withDefaults()
	return o, err
}

// Rehearse spreads good rotations over the duration while requests flow, with a
// broken one in every ten, and measures from outside; with [ScenarioG2] it carries
// the whole sandbox from one hierarchy of CAs to another meanwhile. It returns what
// it saw, also together with an error; see [Result.Passed]. It ends early with ctx.
func Rehearse(ctx context.Context, o RehearseOptions) (Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Result{}, err
	}
	t := &tally{began: time.Now()}
	want := wanted{rotations: o.Rotations, broken: brokenOf(o.Rotations), revocations: o.Revocations, faults: faultsOf(o.Rotations, o.Duration),
		services: o.Services, serviceRotations: serviceRotations(o.Rotations, o.Duration)}
	var steps []StepResult
	var recovered int
	var requests func() CRLRequests
	var services []*service
	_, err = perform(ctx, o.Options, t, func(ctx context.Context, s *stage, p *picture) error {
		ctx, cancel := context.WithTimeout(ctx, o.Duration+cmp.Or(o.patience, overtime))
		defer cancel()
		requests, services = s.crl.requests, s.services
		if o.Scenario == ScenarioG2 {
			c := newChange(s, p, t, o)
			want.rotations, want.broken = c.totals()
			want.faults = 0
			err := c.carryOut(ctx)
			steps = c.results()
			return err
		}
		c := &conductor{stage: s, picture: p, duration: o.Duration, victims: s.victims(o.Revocations), faults: want.faults}
		var conducting errgroup.Group
		conducting.Go(func() error { return c.conduct(ctx) })
		if len(s.services) > 0 {
			company := &company{stage: s, picture: p, rotations: want.serviceRotations, within: cmp.Or(o.within, backWithin)}
			conducting.Go(func() error { return company.rehearse(ctx, o.Duration) })
		}
		err := carryOut(ctx, s, p, t, o)
		err = errors.Join(err, conducting.Wait())
		recovered = c.recovered
		return err
	})
	total, causes := t.totals()
	cut, cutLatency := t.cut()
	result := Result{
		Requests: total.Requests, Failed: total.Failed, Connections: total.Connections, Resumed: total.Resumed,
		Rotations: t.rotations(), RefusedRotations: t.refusals(), BrokenServed: total.BrokenServed,
		Revocations: cut.Revocations, RevokedCut: cut.Cut + cut.Refused, RevokedServed: cut.Served, WronglyCut: cut.WronglyCut,
		ResumptionsRefused: cut.Resumptions, CRLFaults: int64(recovered),
		DurationSeconds: math.Round(t.seconds()*1000) / 1000, LatencyMS: t.latency(), CutLatencyMS: cutLatency,
		Services: []ServiceResult{}, Causes: causes, Steps: steps,
	}
	if requests != nil {
		result.CRLRequests = requests()
	}
	for _, v := range services {
		result.Services = append(result.Services, v.totals())
	}
	want.proved = cut.Proved
	result.Problems = result.judge(want)
	return result, err
}

// step is a part of a rehearsal: a good rotation, and what comes before it.
type step struct {
	slot   string
	how    style
	broken defect // "" for none
	proxy  bool   // the stand-in rotates too
}

// plan returns the steps of a rehearsal: the slots in turn, every style on each,
// one broken pair in ten on alternating slots, the stand-in in between.
func plan(rotations int) []step {
	steps := make([]step, rotations)
	for i := range steps {
		ten := i / brokenPer
		steps[i] = step{
			slot:  [...]string{providerSlot, consumerSlot}[i%2],
			how:   styles()[i/2%len(styles())],
			proxy: i%brokenPer == brokenPer/2,
		}
		// Within the last ten, which may be fewer, there is one as well.
		if i%brokenPer == min(ten%2, rotations-1-ten*brokenPer) {
			steps[i].broken = defects()[ten/2%len(defects())]
		}
	}
	return steps
}

// brokenOf is how many broken pairs there are to so many good ones.
func brokenOf(rotations int) int { return (rotations + brokenPer - 1) / brokenPer }

// victims are the peers that will be revoked, in their order.
func (c *cast) victims(n int) []*peer {
	var out []*peer
	for client := 0; len(out) < n; {
		if len(out)+1 == farTurn {
			out = append(out, c.far.peer)
			continue
		}
		out = append(out, c.peers[client])
		client++
	}
	return out
}

// carryOut carries out the plan, each step at its time or, when the machine is
// slow, as soon as the one before is done; then the load runs on to the end.
func carryOut(ctx context.Context, s *stage, p *picture, t *tally, o RehearseOptions) error {
	began := time.Now()
	if err := s.spread(ctx, p, t, plan(o.Rotations), o.Duration); err != nil {
		return err
	}
	return s.lastUntil(ctx, began.Add(o.Duration))
}

// spread takes the steps one after the other, spread over a time.
func (s *stage) spread(ctx context.Context, p *picture, t *tally, steps []step, over time.Duration) error {
	began := time.Now()
	interval := over / time.Duration(len(steps))
	for i, step := range steps {
		if !s.wait(ctx, began.Add(time.Duration(i)*interval)) {
			break
		}
		if err := s.take(ctx, p, t, step); err != nil {
			return err
		}
	}
	return nil
}

// lastUntil lets the load run on. The error says that the daemon has ended.
func (s *stage) lastUntil(ctx context.Context, then time.Time) error {
	s.wait(ctx, then)
	select {
	case <-s.daemon.exited:
		return fmt.Errorf("%w%s", s.daemon.ended(), s.daemon.tail())
	default:
		return nil
	}
}

// take carries out one step. What the daemon gets wrong is entered in the books;
// an error is returned only for what the sandbox itself could not do.
func (s *stage) take(ctx context.Context, p *picture, t *tally, next step) error {
	if next.slot == providerSlot {
		s.quiet.Lock()
		defer s.quiet.Unlock()
	}
	if next.proxy {
		if err := s.rotateProxy(time.Now()); err != nil {
			return err
		}
	}
	if next.broken != "" {
		err := s.spoil(ctx, next.slot, next.how, next.broken)
		switch {
		case err == nil:
			t.refusal()
		case !over(ctx):
			s.ledger.remark(err.Error())
			p.event(err.Error())
		}
	}
	latency, err := s.rotate(ctx, next.slot, next.how)
	switch {
	case err == nil:
		t.rotated(latency)
	case !over(ctx):
		s.ledger.remark(err.Error())
		p.event(err.Error())
	}
	return nil
}

// wait sleeps until then. It is false when ctx or the daemon ended first.
func (s *stage) wait(ctx context.Context, then time.Time) bool {
	timer := time.NewTimer(time.Until(then))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.daemon.exited:
		return false
	case <-timer.C:
		return !over(ctx)
	}
}
