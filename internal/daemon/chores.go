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
	ended chan struct{} // closed when those that were begun last have ended
	holds int           // how many want them ended
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
	if end == nil {
		c.mu.Unlock()
		return func() {}, nil
	}
	c.holds++
	c.mu.Unlock()
	end()
	select {
	case <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return func() {
		c.mu.Lock()
		c.holds--
		c.mu.Unlock()
		go func() {
			<-ended
			c.mu.Lock()
			defer c.mu.Unlock()
			// Several may have waited for the same end, and one of them begins them, once nobody wants them ended.
			if c.ctx.Err() == nil && c.holds == 0 && c.ended == ended {
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
