package deliver

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
)

// TestRunAgain: a manager that has ended begins anew with what is recorded, also with a delivery that
// was cut short, and with services that were put in force meanwhile.
func TestRunAgain(t *testing.T) {
	r := newRig(t)
	a, b := newProgram(r, "a"), newProgram(r, "b")
	a.run()
	b.run()
	hang := a.service("a", func(c *config.Service) {
		c.Reload.Exec = []string{"/bin/sleep", "1000"}
		c.Reload.Timeout = time.Minute
	})
	r.start(hang)
	m := r.live()
	r.until("a is under way", func() bool { _, err := os.Stat(filepath.Join(a.dir, "current", "key.pem")); return err == nil })
	r.mu.Lock()
	end := r.ended
	r.ended = nil
	r.mu.Unlock()
	end()
	m.Apply([]config.Service{a.service("a"), b.service("b")})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	r.mu.Lock()
	r.ended = func() { cancel(); <-done }
	r.mu.Unlock()
	r.until("a is in sync", func() bool { return r.status("a").State == InSync })
	leaf := r.rotate()
	r.synced("a", leaf)
	r.synced("b", leaf)
	if len(r.told(EventResumed)) != 1 {
		t.Errorf("that a goes on was told %d times", len(r.told(EventResumed)))
	}
	if st, err := m.Deliver(t.Context(), "a", Order{Now: true}); err != nil || st.State != InSync {
		t.Errorf("deliver a: %v, %s", err, st.State)
	}
}
