package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/rotate"
)

// One diff is made at a time, and who waits for the turn may go away. Nothing is done
// for who is gone.
func TestTrustDiffTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Daemon{diffs: make(chan struct{}, 1), keeper: rotate.New(rotate.Options{})}
		ctx, cancel := context.WithCancel(t.Context())
		d.diffs <- struct{}{} // somebody's is being made
		done := make(chan error, 1)
		go func() {
			_, err := d.trustDiff(ctx, admin.TrustDiffRequest{Environment: "none"})
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("while it waits: %v", err)
		}
		<-d.diffs
		for range 20 { // whether it gets the turn or not
			if _, err := d.trustDiff(ctx, admin.TrustDiffRequest{Environment: "none"}); !errors.Is(err, context.Canceled) {
				t.Fatalf("for who is gone: %v", err)
			}
		}
		for range 2 { // the turn is given back
			var e *admin.Error
			if _, err := d.trustDiff(t.Context(), admin.TrustDiffRequest{Environment: "none"}); !errors.As(err, &e) || e.Code != admin.CodeUnknown {
				t.Fatalf("%v", err)
			}
		}
	})
}
