package tunnel

import (
	"crypto/x509"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// Review judges the peers of all open connections again, with the Endpoint of the
// settings that are in force now, and cuts those that it refuses. With undated no
// date counts. It returns how many connections it looked at and how many it cut.
//
// Call it after the trust or the settings have changed. A handshake that is on its
// way meanwhile is none of its business: one that Review does not see registered
// sees that Review has begun, and judges itself again. A tunnel that drains is
// reviewed by the last settings it had.
func (t *Tunnel) Review(undated bool) (looked, cut int) {
	t.reviews.Lock()
	defer t.reviews.Unlock()
	t.epoch.Add(1) // before the list is made: see Conn.register
	set := t.settings.Load()
	open := t.reviewable()
	var next, cuts atomic.Int64
	now := time.Now()
	work := func() {
		for {
			end := int(next.Add(reviewTurn))
			if end-reviewTurn >= len(open) {
				return
			}
			for _, c := range open[end-reviewTurn : min(end, len(open))] {
				if c.review(set, now, undated) {
					cuts.Add(1)
				}
			}
			runtime.Gosched()
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0)/2, len(open)/reviewTurn) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	return len(open), int(cuts.Load())
}

// reviewTurn is how many connections are looked at before others get the
// processor: some 100 microseconds. Half of the processors take turns, so that
// what flows through 10,000 connections does not stand still while all are judged.
const reviewTurn = 32

// reviewable returns the connections that Review looks at.
func (t *Tunnel) reviewable() []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.judgedLocked()
}

// review judges the peer of c again and ends the connection if set says so. It
// reports whether it did.
func (c *Conn) review(set *settings, now time.Time, undated bool) bool {
	refusal := c.again(set, now, undated)
	if refusal == nil {
		return false
	}
	if set.Audit {
		if c.tell(refusal.Reason) {
			c.tunnel.observer.wouldCut(c, refusal)
		}
		return false
	}
	return c.cut(refusal)
}

// cut ends the connection for a refusal. It returns false if it had ended, or was
// not let in yet: register then finds the cause, and the handshake is what is refused.
func (c *Conn) cut(refusal *trust.VerifyError) bool {
	c.telling.Lock() // before others can see the cause, and tell the end
	defer c.telling.Unlock()
	if !c.stop(string(refusal.Reason), refusal) {
		return false
	}
	c.mu.Lock()
	opened := c.opened
	c.mu.Unlock()
	if opened {
		c.tunnel.observer.cut(c, refusal)
	}
	return opened
}

// again asks the Endpoint of set about the peer, and keeps the verdict. One that
// cannot judge for the moment, as its slot serves nothing, refuses nobody that it has
// judged before. Whom another Endpoint let in, which is in force no longer, it refuses:
// nobody would ever find that he is permitted no longer.
func (c *Conn) again(set *settings, now time.Time, undated bool) *trust.VerifyError {
	if set.Audit && len(c.chain) == 0 {
		return nil // said when it connected; there is nothing to judge
	}
	c.mu.Lock()
	ended, last, by := c.cause != "", c.verdict, c.by
	c.mu.Unlock()
	if ended {
		return nil
	}
	v, err := set.Endpoint.Review(c.chain, last, now, undated)
	if err != nil {
		if refusal := refusalOf(err); refusal != nil || by == set.Endpoint {
			return refusal
		}
		return unjudged(c.chain, err)
	}
	c.mu.Lock()
	c.verdict, c.by = v, set.Endpoint
	c.mu.Unlock()
	return nil
}

// unjudged refuses a peer that nobody can judge.
func unjudged(chain []*x509.Certificate, err error) *trust.VerifyError {
	e := &trust.VerifyError{Reason: trust.UnknownIssuer, Err: err,
		Detail: "nobody can judge the peer by the configuration in force: " + err.Error(),
		Advice: "see what the slot of the tunnel and its environment lack: spinecert status"}
	if len(chain) > 0 {
		e.Certificate = chain[0]
	}
	return e
}

// tell notes why the connection would have been refused. It returns false if that
// is known.
func (c *Conn) tell(r trust.Reason) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.told, r) {
		return false
	}
	c.told = append(c.told, r)
	return true
}

// register makes the connection one that Review looks at. epoch is that of before
// its peer was judged, with the outcome h. Registration comes first, comparison
// second: either a Review finds the connection, or the connection finds that a
// Review began without it, or that the settings it was judged by were replaced. It
// then judges itself, by those in force, before a byte is forwarded. It returns the
// outcome that counts.
func (c *Conn) register(h Handshake, epoch uint64) Handshake {
	t := c.tunnel
	t.mu.Lock()
	c.judged = true
	t.mu.Unlock()
	if set := t.settings.Load(); set != c.set || t.epoch.Load() != epoch {
		var let *trust.VerifyError // let in by an audit that is over
		if h.Result == Audited && !set.Audit && errors.As(h.Err, &let) {
			h = outcome(trust.Verdict{}, let, false)
		} else if refusal := c.again(set, time.Now(), false); refusal != nil {
			h = outcome(trust.Verdict{}, refusal, set.Audit)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var refusal *trust.VerifyError
	if errors.As(c.err, &refusal) {
		return outcome(trust.Verdict{}, refusal, false) // a Review was faster
	}
	c.opened = h.passed()
	if h.Result == Audited && !slices.Contains(c.told, trust.Reason(h.Reason)) {
		c.told = append(c.told, trust.Reason(h.Reason))
	}
	return h
}
