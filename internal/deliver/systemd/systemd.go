package systemd

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// dialLimit bounds a dial, however long the one who asked for it would wait.
const dialLimit = 10 * time.Second

// Manager is systemd's, over the system bus. It dials when it is first needed, and
// again when the connection is lost. Its methods may be called by many goroutines.
type Manager struct {
	mu     sync.Mutex
	bus    *bus      // the last one; it may be broken
	dial   *dialling // under way; nil if none is
	closed bool
	checks map[string]chan struct{} // by unit: one entry while a Check of it is under way
}

// dialling is an attempt that all who need a connection wait for.
type dialling struct {
	done   chan struct{} // closed when bus and err are set
	cancel context.CancelFunc
	bus    *bus
	err    error
}

// New returns a Manager. Nothing is dialled.
func New() *Manager { return &Manager{checks: map[string]chan struct{}{}} }

// Close ends the connection. What waits for a job ends with bus_away.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	b, d := m.bus, m.dial
	m.mu.Unlock()
	if d != nil {
		d.cancel()
		<-d.done
		b = d.bus
	}
	if b == nil {
		return nil
	}
	return b.close()
}

// connect returns the connection, and dials if there is none.
func (m *Manager) connect(ctx context.Context) (*bus, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	switch {
	case m.closed:
		m.mu.Unlock()
		return nil, away(errors.New("closed"))
	case m.bus != nil && !m.bus.broken():
		defer m.mu.Unlock()
		return m.bus, nil
	}
	d := m.dial
	if d == nil {
		// Not with the context of whoever came first: others wait for it too.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialLimit)
		d = &dialling{done: make(chan struct{}), cancel: cancel}
		m.dial = d
		go m.run(limited, d)
	}
	m.mu.Unlock()
	select {
	case <-d.done:
		return d.bus, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *Manager) run(ctx context.Context, d *dialling) {
	defer close(d.done)
	defer d.cancel()
	b, err := dialBus(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dial = nil
	if err == nil {
		m.bus, d.bus = b, b
		return
	}
	if ctx.Err() != nil {
		err = errors.New("it accepts connections and does not answer")
	}
	d.err = away(err)
}

// Supervised reports whether this process is the main process of a unit of systemd, so that
// commands run in hook units. systemd 248 and later say so to the process; what that starts inherits the word, and
// is not meant.
func Supervised() bool {
	return os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid())
}

func away(err error) *failure.Error {
	return failure.New(failure.BusAway, "is D-Bus there? systemctl status dbus.service; the daemon needs the socket /run/dbus/system_bus_socket", "talk to systemd over D-Bus: %w", err)
}
