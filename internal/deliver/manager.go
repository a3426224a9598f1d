package deliver

import (
	"context"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/systemd"
)

// Manager keeps services. Make it with New.
type Manager struct {
	options Options
	bus     *systemd.Manager

	mu       sync.Mutex
	ctx      context.Context // of Run; nil before
	order    []string
	services map[string]*service
	claims   map[place]*service       // who works in a directory
	ending   map[string]chan struct{} // by name: closed when what was done for it is over
	writers  chan struct{}            // full: enough sets are made at once
	verdict  atomic.Pointer[verdict]  // the last one on an identity of ours
	workers  sync.WaitGroup
}

// New returns a Manager without services.
func New(o Options) *Manager {
	return &Manager{options: o, bus: systemd.New(), services: map[string]*service{}, claims: map[place]*service{}, ending: map[string]chan struct{}{},
		writers: make(chan struct{}, 2*runtime.NumCPU())}
}

// Run works until ctx ends, and returns when nothing is done any more. Called again, it
// begins with what is recorded, as after a restart.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	m.ctx = ctx
	for i, name := range m.order {
		m.start(m.services[name], i)
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.ctx = nil // nothing is started any more
	m.mu.Unlock()
	m.workers.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, s := range m.services {
		if s.cancel == nil { // it came while nothing ran
			continue
		}
		again := newService(m, s.config.Load().Service)
		again.status.Store(s.status.Load())
		m.services[name] = again
	}
	bus := m.bus
	m.bus = systemd.New()
	return bus.Close()
}

// start has a service looked after. m.mu is held.
func (m *Manager) start(s *service, position int) {
	ctx, cancel := context.WithCancel(m.ctx)
	s.cancel = cancel
	s.position = position
	s.before = m.ending[s.name]
	m.workers.Go(func() {
		defer cancel()
		s.run(ctx)
	})
}

// Apply puts services in force, in the place of those there were. What is done for a
// service that is gone is cut short; its files stay where they are.
func (m *Manager) Apply(services []config.Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.services
	m.order, m.services = nil, make(map[string]*service, len(services))
	for i, c := range services {
		s := old[c.Name]
		delete(old, c.Name)
		switch {
		case s == nil:
			s = newService(m, c)
			if m.ctx != nil {
				m.start(s, i)
			}
		case !reflect.DeepEqual(s.config.Load().Service, c):
			s.config.Store(newSettings(c))
			s.renew()
		}
		m.order = append(m.order, c.Name)
		m.services[c.Name] = s
	}
	for _, s := range old {
		s.end()
		m.ending[s.name] = s.gone
	}
}

// place is a directory, by whatever path.
type place struct{ device, inode uint64 }

// claim gives a service a directory for itself. It returns who has it already, be that
// a service that is gone from the configuration and hangs.
func (m *Manager) claim(s *service, at place) *service {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.claims[at]; other != nil && other != s {
		select {
		case <-other.gone:
		default:
			return other
		}
	}
	if s.claimed != at {
		delete(m.claims, s.claimed)
	}
	m.claims[at], s.claimed = s, at
	return nil
}

// release ends what a service has claimed.
func (m *Manager) release(s *service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.claims[s.claimed] == s {
		delete(m.claims, s.claimed)
	}
	if m.ending[s.name] == s.gone {
		delete(m.ending, s.name)
	}
}

func (m *Manager) find(name string) *service {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.services[name]
}

func (m *Manager) all() []*service {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*service, 0, len(m.order))
	for _, name := range m.order {
		out = append(out, m.services[name])
	}
	return out
}

// WakeSlot has the services of a slot looked at.
func (m *Manager) WakeSlot(slot string) {
	m.wake(func(c *config.Service) bool { return c.Slot == slot })
}

// WakeEnvironment has the services of all slots of an environment looked at.
func (m *Manager) WakeEnvironment(environment string) {
	m.wake(func(c *config.Service) bool {
		slot := m.options.Slot(c.Slot)
		return slot != nil && slot.Status().Config.Environment == environment
	})
}

func (m *Manager) wake(which func(*config.Service) bool) {
	for _, s := range m.all() {
		if which(&s.config.Load().Service) {
			s.rouse()
		}
	}
}

// Status returns how every service stands, in the order of the configuration.
func (m *Manager) Status() []Status {
	all := m.all()
	out := make([]Status, 0, len(all))
	for _, s := range all {
		out = append(out, s.stands())
	}
	return out
}

// StatusOf returns how one service stands. The error is ErrUnknown.
func (m *Manager) StatusOf(name string) (Status, error) {
	s := m.find(name)
	if s == nil {
		return Status{}, ErrUnknown
	}
	return s.stands(), nil
}

// Deliver brings a service to what its slot has, and waits for the outcome. The error
// is a *failure.Error, ErrUnknown, or that of ctx.
func (m *Manager) Deliver(ctx context.Context, name string, o Order) (Status, error) {
	s := m.find(name)
	if s == nil {
		return Status{}, ErrUnknown
	}
	a := asked{Order: o, answer: make(chan outcome, 1)}
	select {
	case s.orders <- a:
	case <-ctx.Done():
		return *s.status.Load(), ctx.Err()
	case <-s.gone:
		return *s.status.Load(), ErrUnknown
	}
	select {
	case out := <-a.answer:
		return out.status, out.err
	case <-ctx.Done(): // it goes on
		return *s.status.Load(), ctx.Err()
	case <-s.gone:
		return *s.status.Load(), ErrUnknown
	}
}

// asked is an order and who waits for its outcome.
type asked struct {
	Order
	answer chan outcome // with room for it
}

type outcome struct {
	status Status
	err    error
}

// tell hands an event to whoever wants it.
func (m *Manager) tell(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if m.options.Events != nil {
		m.options.Events(e)
	}
}
