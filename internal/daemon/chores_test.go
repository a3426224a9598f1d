package daemon

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestChores: however many wanted them ended, and gave up waiting, they run once; and they do not while one still wants
// them ended.
func TestChores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c chores
		var running, begun atomic.Int64
		slow := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		c.start(ctx, func(ctx context.Context) error {
			running.Add(1)
			begun.Add(1)
			defer running.Add(-1)
			<-ctx.Done()
			<-slow // does not end at once
			return nil
		})
		over, end := context.WithCancel(ctx)
		end()
		for range 2 {
			restart, err := c.stop(over)
			if err == nil {
				t.Fatal("they have ended")
			}
			restart()
		}
		ended := make(chan func(), 1)
		go func() {
			restart, err := c.stop(ctx)
			if err != nil {
				t.Error(err)
			}
			ended <- restart
		}()
		synctest.Wait()
		close(slow)
		restart := <-ended
		synctest.Wait()
		if n := running.Load(); n != 0 {
			t.Errorf("they were said to have ended, and %d run", n)
		}
		restart()
		synctest.Wait()
		if n, all := running.Load(), begun.Load(); n != 1 || all != 2 {
			t.Errorf("%d run, and %d were begun", n, all)
		}
		cancel()
		c.wait()
	})
}
