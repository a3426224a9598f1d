package sandbox

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// conductor revokes peers and spoils the CRL server while a rehearsal goes on.
type conductor struct {
	*stage
	picture  *picture
	duration time.Duration
	victims  []*peer
	faults   int

	mu        sync.Mutex
	revoked   []*peer // so far
	recovered int
}

// recoverWithin is how long the daemon may take until it has asked for every list
// again after the CRL server was at fault.
const recoverWithin = 10 * time.Second

// secondsPerFault bounds the faults of a long plan: there must be time in between.
const secondsPerFault = 8

// faultsOf is how many times the CRL server misbehaves: as often as a pair is broken,
// as far as there is time.
func faultsOf(rotations int, duration time.Duration) int {
	return min(brokenOf(rotations), max(int(duration.Seconds())/secondsPerFault, 1))
}

// act is something to be done at a time.
type act struct {
	at    time.Duration
	fault fault // "": the next revocation
}

// score says what is done when: the revocations spread over the duration, and the
// faults between them.
func score(revocations, faultCount int, duration time.Duration) []act {
	var acts []act
	fault := func(n int) fault { return faults()[n%len(faults())] }
	if revocations == 0 {
		for n := range faultCount {
			acts = append(acts, act{at: duration * time.Duration(2*n+1) / time.Duration(2*faultCount), fault: fault(n)})
		}
		return acts
	}
	gap := duration / time.Duration(revocations)
	next := 0
	for i := range revocations {
		begin := gap * time.Duration(i)
		acts = append(acts, act{at: begin + min(gap/4, time.Second)})
		for ; next < faultCount && (2*next+1)*revocations/(2*faultCount) == i; next++ {
			acts = append(acts, act{at: begin + gap*5/8, fault: fault(next)})
		}
	}
	return acts
}

// conduct does what the score says. It returns when all revocations were followed
// to their end, or with ctx. The error is for what the sandbox could not do.
func (c *conductor) conduct(ctx context.Context) error {
	began := time.Now()
	// The first version of each list is what an old one is later.
	if err := c.refresh(ctx, c.spine); err != nil {
		return err
	}
	var following sync.WaitGroup
	defer following.Wait()
	next := 0
	for _, a := range score(len(c.victims), c.faults, c.duration) {
		if !c.wait(ctx, began.Add(a.at)) {
			return nil
		}
		if a.fault != "" {
			following.Wait() // the latency of a cut is that with a server that answers
			c.suffer(ctx, a.fault)
			continue
		}
		if err := c.revoke(ctx, c.victims[next], &following); err != nil {
			return err
		}
		next++
	}
	return nil
}

// revoke revokes a peer and has it followed. Until one refused connection has taken
// up a ticket, a rotation of the provider, which ends tickets, has to wait.
func (c *conductor) revoke(ctx context.Context, p *peer, following *sync.WaitGroup) error {
	total, _ := c.cuts.totals()
	quiet := total.Resumptions == 0 && p != c.far.peer
	if quiet {
		c.quiet.Lock()
	}
	p.mu.Lock()
	c.again(ctx, p, true) // for a ticket of this generation
	at, err := c.publish(ctx, p)
	follow := func() {
		defer p.mu.Unlock()
		if err == nil {
			c.follow(ctx, p, at)
			c.picture.event(c.outcome(p, at))
			c.mu.Lock()
			c.revoked = append(c.revoked, p)
			c.mu.Unlock()
		}
		if quiet {
			c.quiet.Unlock()
		}
	}
	if quiet || err != nil {
		follow()
		return err
	}
	following.Go(follow)
	return nil
}

// suffer has the CRL server misbehave for a while. Meanwhile those who were revoked
// try to get back in, and the load goes on; afterwards the daemon must ask again.
func (c *conductor) suffer(ctx context.Context, f fault) {
	var before []string
	for _, address := range c.spine.addresses() {
		if c.crl.wellAsked(address) {
			before = append(before, address)
		}
	}
	end := c.crl.misbehave(f)
	defer end()
	lasts := min(c.duration/10, 2*time.Second)
	if !c.wait(ctx, time.Now().Add(lasts)) {
		return
	}
	c.mu.Lock()
	revoked := c.revoked
	c.mu.Unlock()
	for _, p := range revoked {
		p.mu.Lock()
		c.again(ctx, p, true)
		c.again(ctx, p, false)
		p.mu.Unlock()
	}
	end()
	ended := time.Now()
	for _, address := range before {
		for !c.crl.wellAsked(address) {
			if time.Since(ended) > recoverWithin || !c.wait(ctx, time.Now().Add(20*time.Millisecond)) {
				c.ledger.remark(fmt.Sprintf("the CRL server %s: the daemon did not ask for %s again", f, address))
				return
			}
		}
	}
	c.mu.Lock()
	c.recovered++
	c.mu.Unlock()
	c.picture.event(fmt.Sprintf("the CRL server %s for %.1f s; the daemon asked again for every list %.1f s later", f, lasts.Seconds(), time.Since(ended).Seconds()))
}
