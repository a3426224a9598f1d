package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Options of [Run]. The zero value is a sandbox with G1 certificates in a
// temporary directory.
type Options struct {
	Dir         string        // files go here and stay; "" is a temporary directory
	Keep        bool          // keep the temporary directory
	Profile     string        // [ProfileG1], [ProfileG2]; "" is G1
	Duration    time.Duration // 0: until ctx ends on a terminal, else [DefaultDuration]
	RotateEvery time.Duration // between two rotations; 0 is [DefaultRotateEvery]
	Daemon      string        // the spinecertd to start; "" is the one beside this executable
	Program     string        // how the user calls spinecert, for the commands to try; "" is this executable
	Out         io.Writer     // the picture: live on a terminal, else plain lines; nil is none

	change bool // make a second hierarchy, to move to
	peers  int  // clients of the inbound tunnel that may be revoked
	hands  bool // revoke what files name

	programs []installed // that take part as services

	// For tests.
	within   time.Duration // cutWithin and backWithin, if not 0
	patience time.Duration // overtime, if not 0
	keepBad  bool          // the daemon leaves a bad set where it is
	pool     *keyPool      // made before, if not nil
	environ  []string      // of the daemon, beside ours
}

// Defaults of [Options].
const (
	DefaultDuration    = 60 * time.Second
	DefaultRotateEvery = 10 * time.Second
)

// withDefaults checks the options and fills in what is left out.
func (o Options) withDefaults() (Options, error) {
	if o.Profile == "" {
		o.Profile = ProfileG1
	}
	if o.Profile != ProfileG1 && o.Profile != ProfileG2 {
		return o, usageError{message: fmt.Sprintf("profile %q: unknown", o.Profile), hint: "use g1 or g2"}
	}
	if o.Duration < 0 || o.RotateEvery < 0 {
		return o, usageError{message: "a duration is negative", hint: "write for example 60s"}
	}
	if o.RotateEvery == 0 {
		o.RotateEvery = DefaultRotateEvery
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	var err error
	if o.Daemon, err = findDaemon(o.Daemon); err != nil {
		return o, err
	}
	if o.Program == "" {
		if o.Program, err = os.Executable(); err != nil {
			return o, fmt.Errorf("find own executable: %w", err)
		}
	}
	return o, nil
}

// Run shows the main job: traffic flows, and every identity rotates in turn. It
// ends when ctx ends or after the duration, and returns what it saw; an error
// only when the sandbox could not be set up or kept up. See [Summary.Passed].
func Run(ctx context.Context, o Options) (Summary, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Summary{}, err
	}
	if o.Duration == 0 && !isTerminal(o.Out) {
		o.Duration = DefaultDuration
	}
	o.peers, o.hands = visitors, true
	t := &tally{began: time.Now()}
	dir, err := perform(ctx, o, t, func(ctx context.Context, s *stage, p *picture) error {
		if o.Duration > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.Duration)
			defer cancel()
		}
		return rotateInTurn(ctx, s, p, t, o.RotateEvery)
	})
	total, causes := t.totals()
	cut, cutLatency := t.cut()
	return Summary{
		Directory: dir, Requests: total.Requests, Failed: total.Failed, Connections: total.Connections, Resumed: total.Resumed,
		Rotations: t.rotations(), BrokenServed: total.BrokenServed,
		Revocations: cut.Revocations, RevokedCut: cut.Cut + cut.Refused, RevokedServed: cut.Served, WronglyCut: cut.WronglyCut,
		DurationSeconds: t.seconds(), LatencyMS: t.latency(), CutLatencyMS: cutLatency, Causes: causes,
	}, err
}

// visitors is how many clients of the inbound tunnel may be revoked in [Run].
const visitors = 2

// firstRotation is when the first identity rotates at the latest.
const firstRotation = 2 * time.Second

// rotateInTurn rotates provider, consumer and stand-in, and revokes a peer, one after
// the other until ctx ends. A rotation that is not seen is a failure, not the end.
func rotateInTurn(ctx context.Context, s *stage, p *picture, t *tally, every time.Duration) error {
	// The first one comes soon: whoever watches wants to see one.
	tick := time.NewTicker(min(every, firstRotation))
	defer tick.Stop()
	for n := 0; ; n++ {
		if n == 1 {
			tick.Reset(every)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.daemon.exited:
			return fmt.Errorf("%w%s", s.daemon.ended(), s.daemon.tail())
		case <-tick.C:
		}
		switch n % 4 {
		case 3:
			if err := s.rotateProxy(time.Now()); err != nil {
				return err
			}
			p.event("stand-in rotated: its next connections show a new certificate")
			continue
		case 1:
			if err := s.revokeInTurn(ctx, p, s.peers[n/4%len(s.peers)]); err != nil {
				return err
			}
			continue
		}
		turn := n / 2
		slot, how := [...]string{providerSlot, consumerSlot}[turn%2], styles()[turn%len(styles())]
		latency, err := s.rotate(ctx, slot, how)
		switch {
		case err == nil:
			t.rotated(latency)
			p.event(fmt.Sprintf("%s rotated (%s): served after %.1f ms", slot, how, milliseconds(latency)))
		case !over(ctx):
			s.ledger.request("rotation", err)
			p.event("rotation failed: " + err.Error())
		}
	}
}

// perform sets the stage, lets the load run while act runs, and takes everything
// down again. It returns the directory if that is still there.
func perform(ctx context.Context, o Options, t *tally, act func(context.Context, *stage, *picture) error) (string, error) {
	l, err := newLayout(o.Dir)
	if err != nil {
		return "", err
	}
	l.temporary = l.temporary && !o.Keep
	_, _ = fmt.Fprintf(o.Out, "spinecert sandbox: files in %s\n", l.dir)
	err = performIn(ctx, l, o, t, act)
	if l.temporary {
		return "", errors.Join(err, l.remove())
	}
	return l.dir, err
}

func performIn(ctx context.Context, l *layout, o Options, t *tally, act func(context.Context, *stage, *picture) error) error {
	c, err := newCast(ctx, l, o)
	if err != nil {
		return err
	}
	t.ledger, t.cuts = c.ledger, c.cuts
	s, err := open(ctx, c, o)
	if err != nil {
		return err
	}
	if err := s.announce(o); err != nil {
		return errors.Join(err, s.close())
	}
	t.start()
	traffic, stop := context.WithCancel(ctx)
	p := newPicture(o.Out, s, t)
	var group sync.WaitGroup
	group.Go(func() { load(traffic, s.clients, s.ledger, s.cuts) })
	for _, v := range s.services {
		group.Go(func() { v.load(traffic, s.ledger) })
	}
	group.Go(func() { p.run(traffic) })
	if err = s.connect(traffic); err == nil {
		if o.hands {
			group.Go(func() { s.obeyHands(traffic, p) })
		}
		err = act(ctx, s, p)
	}
	stop()
	group.Wait()
	s.talking.Wait()
	s.cuts.close()
	t.stop()
	return errors.Join(err, s.close())
}

// announce says where the files are, who listens where and what to try, and
// writes the same to sandbox.json.
func (s *stage) announce(o Options) error {
	f := facts{
		Directory: s.layout.dir, Profile: o.Profile, Config: s.layout.config(), Socket: s.layout.adminSocket(),
		Trust: s.layout.bundle(), Log: s.layout.daemonLog(), DaemonPID: s.daemon.pid, Page: s.status.Page,
		Names:     map[string]string{"provider": providerName, "consumer": consumerName, "proxy": proxyName},
		Listeners: s.listeners,
		Files:     map[string]string{providerSlot: s.places[providerSlot].certificate(), consumerSlot: s.places[consumerSlot].certificate()},
		CRLs:      s.spine.addresses(),
	}
	byHand := ""
	if o.hands {
		byHand, f.Revoke = s.peers[0].label(), s.layout.revoke()
		for _, p := range s.peers {
			f.Peers = append(f.Peers, p.label())
		}
	}
	f.Services = map[string]string{}
	for _, v := range s.services {
		f.Services[v.name] = v.address
	}
	f.Commands = s.layout.commands(o.Program, s.listeners[providerTunnel], s.listeners[consumerTunnel], byHand, s.places)
	if len(s.services) > 0 {
		f.Commands = append(f.Commands, fmt.Sprintf("%s services --socket %s", shellQuote(o.Program), shellQuote(s.layout.adminSocket())))
	}
	f.Listeners[consumerTunnel+" (unix)"] = s.layout.tunnelSocket()
	if err := s.layout.writeFacts(f); err != nil {
		return err
	}
	return describe(o.Out, f)
}

// tally is what a run adds up: the ledger's books, rotations and latencies. Safe
// for concurrent use once the ledger is set.
type tally struct {
	ledger *ledger
	cuts   *cuts
	began  time.Time
	ended  time.Time

	mu      sync.Mutex
	samples []time.Duration
	refused int64
}

func (t *tally) start() { t.began = time.Now() }
func (t *tally) stop()  { t.ended = time.Now() }

// seconds of traffic; 0 if none flowed.
func (t *tally) seconds() float64 {
	if t.ended.IsZero() {
		return 0
	}
	return t.ended.Sub(t.began).Seconds()
}

func (t *tally) rotated(latency time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.samples = append(t.samples, latency)
}

func (t *tally) refusal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused++
}

func (t *tally) rotations() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(len(t.samples))
}

func (t *tally) refusals() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}

func (t *tally) last() (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.samples) == 0 {
		return 0, false
	}
	return t.samples[len(t.samples)-1], true
}

func (t *tally) latency() Latency {
	t.mu.Lock()
	defer t.mu.Unlock()
	return distribution(t.samples)
}

// cut are the books of revocations.
func (t *tally) cut() (cutBooks, Latency) {
	if t.cuts == nil {
		return cutBooks{}, Latency{}
	}
	return t.cuts.totals()
}

func (t *tally) totals() (books, []Cause) {
	if t.ledger == nil {
		return books{}, []Cause{}
	}
	return t.ledger.totals()
}
