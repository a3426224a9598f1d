package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	kmsapi "go.step.sm/crypto/kms/apiv1"
	"golang.org/x/sync/errgroup"
)

// poolSize is the number of RSA keys that the identities share, in turn.
const poolSize = 8

// halfPause is the time between the two files of a pair that are written one
// after the other: long enough for the daemon to read a pair that does not fit.
const halfPause = 15 * time.Millisecond

// cast is everything that can be made before anything listens: authorities,
// keys, identities and their files.
type cast struct {
	layout  *layout
	ledger  *ledger
	cuts    *cuts
	crl     *crlServer
	spine   *authority // issues for the slots
	nation  *authority // issues for the stand-in
	next    *authority // the hierarchy to come; nil without a change
	foreign *authority
	pool    *keyPool
	places  map[string]*place
	proxy   *proxy
	probe   *identity
	peers   []*peer // that may be revoked; the last is the far server
	far     *farServer

	services []*service // none, but in a rehearsal that has some

	mu      sync.Mutex
	numbers map[string]int // good generations of each slot so far
}

// newCast makes keys and authorities, writes the first pairs and the trust files,
// and listens for those who want CRLs. With o.change it makes a second hierarchy as
// well, of which no file speaks yet.
func newCast(ctx context.Context, l *layout, o Options) (_ *cast, err error) {
	c := &cast{layout: l, ledger: newLedger(), places: map[string]*place{}, numbers: map[string]int{}}
	c.cuts = newCuts(c.ledger)
	if o.within > 0 {
		c.cuts.within = o.within
	}
	if c.crl, err = newCRLServer(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.crl.listener.Close(), c.closeServices())
		}
	}()
	now := time.Now()
	var group errgroup.Group
	if c.pool = o.pool; c.pool == nil {
		group.Go(func() (err error) { c.pool, err = newKeyPool(poolSize); return err })
	}
	group.Go(func() (err error) {
		c.spine, err = newAuthority(ctx, "Sandbox", o.Profile, c.crl.base(o.Profile), kmsapi.SHA256WithRSA, now)
		return err
	})
	group.Go(func() (err error) {
		// Whose keys these are makes no difference to a refusal.
		c.foreign, err = newAuthority(ctx, "Elsewhere", o.Profile, c.crl.base("elsewhere"), kmsapi.ECDSAWithSHA256, now)
		return err
	})
	if o.change {
		group.Go(func() (err error) {
			c.next, err = newAuthority(ctx, "Sandbox G2", ProfileG2, c.crl.base(ProfileG2), kmsapi.SHA256WithRSA, now)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	c.nation = c.spine
	if err := errors.Join(l.writeBundle(c.spine), c.refresh(ctx, c.spine)); err != nil {
		return nil, err
	}
	slots := []string{providerSlot, consumerSlot}
	if len(o.programs) > 0 {
		slots = append(slots, serviceSlot)
	}
	for _, slot := range slots {
		_, first, _, err := c.good(slot, now)
		if err != nil {
			return nil, err
		}
		if c.places[slot], err = newPlace(l.slot(slot), first, halfPause); err != nil {
			return nil, fmt.Errorf("write first pair of slot %q: %w", slot, err)
		}
	}
	c.proxy = newProxy(c.ledger, c.cuts, c.spine)
	if err := c.rotateProxy(now); err != nil {
		return nil, err
	}
	if c.probe, err = probeIdentity(c.spine, now); err != nil {
		return nil, err
	}
	if err := c.addServices(o); err != nil {
		return nil, err
	}
	return c, c.addPeers(o, now)
}

// addPeers makes the clients of the inbound tunnel that may be revoked, and the far
// server. Nobody plays them while the hierarchy changes: they would have to move.
func (c *cast) addPeers(o Options, now time.Time) error {
	c.far = &farServer{peer: &peer{name: farName, cuts: c.cuts}, key: c.pool.take()}
	if o.change {
		return nil
	}
	for n := range o.peers {
		c.peers = append(c.peers, &peer{name: peerName(n + 1), cuts: c.cuts})
	}
	c.peers = append(c.peers, c.far.peer)
	for _, p := range c.peers {
		if err := c.embody(p, now); err != nil {
			return err
		}
	}
	return nil
}

func slotName(slot string) string {
	return map[string]string{providerSlot: providerName, consumerSlot: consumerName, serviceSlot: serviceName}[slot]
}

// good issues the next identity of a slot and enters it in the ledger, with its number.
func (c *cast) good(slot string, now time.Time) (*identity, pair, int, error) {
	id, err := c.spine.issue(slotName(slot), c.pool.take(), now.Add(-backdate), now.Add(leafLife))
	if err != nil {
		return nil, pair{}, 0, err
	}
	key, err := id.keyPEM()
	if err != nil {
		return nil, pair{}, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.numbers[slot]++
	c.ledger.expect(id.leaf, entry{slot: slot, number: c.numbers[slot]})
	return id, pair{certificate: id.certificatePEM(), key: key}, c.numbers[slot], nil
}

// broken makes a pair of a slot that must never be served.
func (c *cast) broken(slot string, d defect, now time.Time) (pair, error) {
	authority, notAfter := c.spine, now.Add(leafLife)
	switch d {
	case otherCA:
		authority = c.foreign
	case expired:
		// Later than the notBefore of the one in use, so that it is not refused for
		// being older, and over before it is written.
		notAfter = now.Add(-backdate / 2)
	}
	id, err := authority.issue(slotName(slot), c.pool.take(), now.Add(-backdate), notAfter)
	if err != nil {
		return pair{}, err
	}
	c.ledger.expect(id.leaf, entry{slot: slot, broken: d})
	if d == foreignKey {
		id.key = c.pool.take()
	}
	key, err := id.keyPEM()
	if err != nil {
		return pair{}, err
	}
	if d == tornPair {
		key = key[:len(key)/2]
	}
	return pair{certificate: id.certificatePEM(), key: key}, nil
}

// rotateProxy gives the stand-in its next identity.
func (c *cast) rotateProxy(now time.Time) error {
	id, err := c.nation.issue(proxyName, c.pool.take(), now.Add(-backdate), now.Add(leafLife))
	if err != nil {
		return err
	}
	c.proxy.present(id)
	return nil
}

// stage is a cast with everybody listening.
type stage struct {
	*cast
	daemon    *daemon
	status    status // when it was ready
	listeners map[string]string
	clients   []client
	looks     map[string]look
	group     *errgroup.Group
	quit      context.CancelFunc // of provider, stand-in, far server and CRL server
	talking   sync.WaitGroup     // of the connections of peers
	quiet     sync.Mutex         // held while the provider must not rotate
}

// open starts the provider, the stand-in and the others, then the daemon, and waits
// until all listen.
func open(ctx context.Context, c *cast, o Options) (*stage, error) {
	// They outlive the traffic, which ends with ctx.
	serving, quit := context.WithCancel(context.WithoutCancel(ctx))
	s := &stage{cast: c, quit: quit, group: new(errgroup.Group), listeners: map[string]string{"crl": c.crl.host}}
	s.group.Go(func() error { return serve(serving, c.crl.server(), c.crl.listener) })
	for _, party := range []struct {
		name   string
		server *http.Server
		secure func(net.Listener) net.Listener
	}{
		{"provider", provider(), func(l net.Listener) net.Listener { return l }},
		{"proxy", c.proxy.server(), c.proxy.listener},
		{"far", c.far.server(), c.far.listener},
	} {
		listener, err := listenLoopback(ctx)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.listeners[party.name] = listener.Addr().String()
		s.group.Go(func() error { return serve(serving, party.server, party.secure(listener)) })
	}
	if err := s.start(ctx, o); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// parties are those that the daemon's configuration names.
func (s *stage) parties() parties {
	who := parties{provider: s.listeners["provider"], proxy: s.listeners["proxy"], far: s.listeners["far"], crl: s.listeners["crl"]}
	for _, p := range s.peers {
		if p != s.far.peer {
			who.peers = append(who.peers, p.name)
		}
	}
	for _, v := range s.services {
		who.services = append(who.services, v.configured)
	}
	return who
}

func (s *stage) start(ctx context.Context, o Options) error {
	if err := s.layout.writeConfig(o.Profile, s.places, s.parties()); err != nil {
		return err
	}
	var err error
	if s.daemon, err = startDaemon(ctx, o.Daemon, o.environ, s.layout); err != nil {
		return err
	}
	if s.status, err = s.daemon.ready(ctx); err != nil {
		return err
	}
	inbound, outbound, full := s.status.tcp(providerTunnel), s.status.tcp(consumerTunnel), s.status.tcp(freshTunnel)
	s.proxy.target = inbound
	s.listeners[providerTunnel], s.listeners[consumerTunnel], s.listeners[freshTunnel] = inbound, outbound, full
	s.listeners[farTunnel] = s.status.tcp(farTunnel)
	s.far.peer.reach(endpoint{"tcp", s.listeners[farTunnel]})
	if err := s.startServices(ctx); err != nil {
		return err
	}
	s.clients = crew(endpoint{"tcp", outbound}, endpoint{"unix", s.layout.tunnelSocket()}, endpoint{"tcp", full})
	s.looks = map[string]look{
		providerSlot: lookInbound(s.proxy, s.probe),
		consumerSlot: lookOutbound(endpoint{"tcp", full}),
	}
	return nil
}

// quietPeers is how many peers talk at their full pace; more of them talk less, as
// the machine is to be measured and not filled.
const quietPeers = 8

func (s *stage) talkEvery() time.Duration {
	return 200 * time.Millisecond * time.Duration(max(len(s.peers)/quietPeers, 1))
}

// connect has the peers connect and talk until ctx ends.
func (s *stage) connect(ctx context.Context) error {
	var group errgroup.Group
	for _, p := range s.peers {
		group.Go(func() error {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.open(ctx, s.talkEvery(), &s.talking)
		})
	}
	return group.Wait()
}

// close stops the daemon, then the others. The traffic must have ended.
func (s *stage) close() error {
	var err error
	if s.daemon != nil {
		err = s.daemon.stop()
	}
	s.quit()
	return errors.Join(err, s.closeServices(), s.group.Wait())
}

// rotate writes the next good pair of a slot and waits until a handshake from
// outside shows it. It returns the time from the completing call to that handshake.
func (s *stage) rotate(ctx context.Context, slot string, how style) (time.Duration, error) {
	id, next, number, err := s.good(slot, time.Now())
	if err != nil {
		return 0, err
	}
	completed, err := s.places[slot].write(how, next)
	if err != nil {
		return 0, err
	}
	seen, err := until(ctx, slot, s.looks[slot], fingerprint(id.leaf), s.ledger)
	if err != nil {
		return 0, fmt.Errorf("%w (%s)", err, how)
	}
	s.ledger.confirm(slot, number, seen)
	return seen.Sub(completed), nil
}

// refusedWithin is how long the daemon may take to say what it makes of a broken pair.
const refusedWithin = 5 * time.Second

// spoil writes a broken pair and waits until the daemon says that it refuses it
// or waits for the rest; then one more handshake looks at what is served.
func (s *stage) spoil(ctx context.Context, slot string, how style, d defect) error {
	bad, err := s.broken(slot, d, time.Now())
	if err != nil {
		return err
	}
	if _, err := s.places[slot].write(how, bad); err != nil {
		return err
	}
	err = s.daemon.await(ctx, refusedWithin, func(now status) bool { return rejected(now.slot(slot), d) })
	if err != nil {
		return fmt.Errorf("slot %q: the daemon did not refuse a broken pair: %s (%s): %w", slot, d, how, err)
	}
	_, err = s.looks[slot](ctx)
	if !over(ctx) {
		s.ledger.request("probe of "+slot, err)
	}
	return nil
}

// rejected tells whether the state of a slot is what a defect leads to. A pair
// whose parts do not fit may be one that is still being written, so it is
// pending; the others are judged and refused.
func rejected(s slotStatus, d defect) bool {
	if !s.explained() {
		return false
	}
	if d == tornPair || d == foreignKey {
		return s.State == "pending" || s.State == "refused"
	}
	return s.State == "refused"
}
