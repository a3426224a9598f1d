package tunnel

import "errors"

var (
	errTaken = errors.New("listener taken by another tunnel")
	errOver  = errors.New("the tunnel is closed")
)

// Pending is a configuration that is ready to be used. Either Commit or Abort
// must be called, once.
//
// For a reload, Prepare every tunnel of the new configuration, then Commit them
// all, then Drain those that are gone: an address that moves from one tunnel to
// another then stays open throughout.
type Pending struct {
	tunnel   *Tunnel
	settings *settings
}

// Prepare checks c and opens the listeners that are new, without accepting from
// them. Listeners whose address stays are kept. An error leaves everything as it
// was; it names all that is wrong with c, or the listener that cannot be opened.
// While the tunnel is not ready new listeners are tried and closed again.
func (t *Tunnel) Prepare(c Config) (*Pending, error) {
	set, err := c.check(t.name)
	if err != nil {
		return nil, err
	}
	ss := &t.gate.sockets
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if t.closed {
		return nil, errOver
	}
	p := &Pending{tunnel: t, settings: set}
	for _, l := range set.listen {
		if err := ss.claimLocked(t.ctx, p, l, t.ready); err != nil {
			ss.unclaimLocked(p)
			return nil, err
		}
	}
	return p, nil
}

// Commit puts the configuration into force for connections accepted from now
// on, and closes the listeners that are gone. It cannot fail: what goes wrong
// with a listener after Prepare is reported as Trouble and tried again.
func (p *Pending) Commit() {
	t, ss := p.tunnel, &p.tunnel.gate.sockets
	ss.mu.Lock()
	t.settings.Store(p.settings)
	var events []Trouble
	for _, l := range p.settings.listen {
		s := ss.byKey[l.key]
		if s == nil || s.claim != p {
			continue
		}
		if err := s.giveLocked(t, l); err != nil {
			events = append(events, Trouble{Kind: TroubleListen, Address: l.Address, Err: err})
		}
	}
	events = append(events, t.reconcileLocked()...)
	ss.mu.Unlock()
	t.report(events)
}

// Abort gives the configuration up and closes the listeners opened for it.
func (p *Pending) Abort() {
	ss := &p.tunnel.gate.sockets
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.unclaimLocked(p)
}

// Update is Prepare and Commit in one, for a single tunnel.
func (t *Tunnel) Update(c Config) error {
	p, err := t.Prepare(c)
	if err != nil {
		return err
	}
	p.Commit()
	return nil
}
