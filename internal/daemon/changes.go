package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

// changes are what people ask for that changes something. None may be under way while another process reads everything
// to take over: it would be answered, and not be there.
type changes struct {
	mu sync.RWMutex // held for reading by a change, for writing by an upgrade
}

// begin waits until no upgrade is under way.
func (c *changes) begin() (end func()) {
	c.mu.RLock()
	return c.mu.RUnlock
}

const changesLook = 5 * time.Millisecond

// stop waits until no change is under way, and lets none begin before resume.
func (c *changes) stop(ctx context.Context) (resume func(), err error) {
	// A writer that waits for the lock would hold up changes all the while.
	look := time.NewTicker(changesLook)
	defer look.Stop()
	for !c.mu.TryLock() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return c.mu.Unlock, nil
}

// errLater is the answer to a change that another process has to make.
var errLater = &admin.Error{Code: admin.CodeFailed, Message: "another daemon has taken over meanwhile; nothing was changed", Hint: "ask again: it answers on the same socket"}

// exclusive is do, but not while another process takes over, nor afterwards.
func exclusive[In, Out any](d *Daemon, do func(context.Context, admin.Caller, In) (Out, error)) func(context.Context, admin.Caller, In) (Out, error) {
	return func(ctx context.Context, c admin.Caller, in In) (Out, error) {
		defer d.changes.begin()()
		if d.handedOver.Load() {
			return *new(Out), errLater
		}
		return do(ctx, c, in)
	}
}
