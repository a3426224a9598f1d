package daemon

import (
	"context"
	"sync"
)

// chores are what the daemon does by itself that changes more than its own memory: they end before
// another process takes over, and begin anew when it does not.
type chores struct {
	mu    sync.Mutex
	ctx   context.Context // of all of them; nil before start
	run   []func(context.Context) error
	end   context.CancelFunc
	ended chan struct{}
}

// start begins them; they end with ctx.
func (c *chores) start(ctx context.Context, run ...func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctx, c.run = ctx, run
	c.begin()
}

// begin is start with what is known. c.mu is held.
func (c *chores) begin() {
	ctx, end := context.WithCancel(c.ctx)
	ended := make(chan struct{})
	c.end, c.ended = end, ended
	var group sync.WaitGroup
	for _, chore := range c.run {
		group.Go(func() { _ = chore(ctx) }) // each tells what goes wrong itself
	}
	go func() {
		group.Wait()
		end()
		close(ended)
	}()
}

// stop ends them and waits until nothing is done any more, or ctx ends. restart has them begin anew, once
// that is so.
func (c *chores) stop(ctx context.Context) (restart func(), err error) {
	c.mu.Lock()
	end, ended := c.end, c.ended
	c.mu.Unlock()
	if end == nil {
		return func() {}, nil
	}
	end()
	select {
	case <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return func() {
		go func() {
			<-ended
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.ctx.Err() == nil {
				c.begin()
			}
		}()
	}, err
}

// wait returns when they have ended, which they do with the context of start.
func (c *chores) wait() {
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	if ended != nil {
		<-ended
	}
}
