package alert

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// returnPatience is how long a sink may take to return once its time is over: a program has
// half of it to end by itself.
const returnPatience = 4 * time.Second

// What is said of a sink that does not keep to its time.
var (
	errBusy    = errors.New("the attempt before this one has not ended yet")
	errStuck   = errors.New("it did not end when its time was over; nothing more is sent until it does")
	errPanic   = errors.New("it failed in a way that was not foreseen")
	errStopped = errors.New("given up, as the daemon stops or its configuration changed")
)

// turns sees to it that all who have the name of one sink, one after the other, run one
// after the other, and that what they give the sink is given one by one.
type turns struct {
	running, giving turn
}

func newTurns() *turns { return &turns{make(turn, 1), make(turn, 1)} }

// turn is held by one at a time.
type turn chan struct{}

// take waits for the turn; the error is that of ctx.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// call has a sink do something, which may take so long. One that does not return then is
// left alone: nothing waits for it, and it is given nothing else until it has returned.
func (t *turns) call(ctx context.Context, timeout time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	if err := t.giving.take(ctx); err != nil {
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return errBusy
		}
		return errStopped
	}
	returned := make(chan error, 1)
	go func() {
		defer cancel()
		defer t.giving.give()
		returned <- guarded(ctx, do)
	}()
	select {
	case err := <-returned:
		return err
	case <-ctx.Done():
	}
	patience := time.NewTimer(returnPatience)
	defer patience.Stop()
	select {
	case err := <-returned:
		return err
	case <-patience.C:
		return errStuck
	}
}

// guarded makes an error of a panic: a sink must not end the tunnels. What the panic says
// may be about a password, and is not passed on.
func guarded(ctx context.Context, do func(context.Context) error) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%w (%T)", errPanic, fault)
		}
	}()
	return do(ctx)
}
