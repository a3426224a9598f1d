package admin

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// carrier takes lists and says what came.
func carrier(writers []int) Backend {
	return Backend{Writers: func() []int { return writers }, Trust: &TrustBackend{
		Carry: func(_ context.Context, c Caller, r CarryRequest) (CarriedCRL, error) {
			if c.UID != os.Getuid() {
				return CarriedCRL{}, &Error{Code: CodeFailed, Message: "another user"}
			}
			if r.Name == "older" {
				return CarriedCRL{}, &Error{Code: CodeRefused, Reason: "crl-number", Message: "older", Hint: "h"}
			}
			return CarriedCRL{Environment: r.Environment, Name: r.Name, CRL: CRL{Entries: len(r.Data)}}, nil
		},
	}}
}

func TestCarryCRL(t *testing.T) {
	ctx := context.Background()
	c := serve(t, carrier([]int{os.Getuid()}))
	for _, size := range []int{0, 1, MaxCRL} {
		out, err := c.CarryCRL(ctx, CarryRequest{Environment: "a&b=c", Name: "Ü &.crl", Data: make([]byte, size)})
		if err != nil || out.CRL.Entries != size || out.Environment != "a&b=c" || out.Name != "Ü &.crl" {
			t.Errorf("%d bytes: %+v, %v", size, out, err)
		}
	}
	if _, err := c.CarryCRL(ctx, CarryRequest{Data: make([]byte, MaxCRL+1)}); code(err) != CodeRefused || !strings.Contains(err.Error(), "more than") {
		t.Errorf("one byte too many: %v", err)
	}
	_, err := c.CarryCRL(ctx, CarryRequest{Name: "older"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != "crl-number" || e.Hint != "h" {
		t.Errorf("%v", err)
	}
	// A reader changes nothing, and is told so before it sends anything.
	var told atomic.Int64
	b := carrier(nil)
	b.Forbidden = func(_ Caller, action string) {
		if action == "trust crl" {
			told.Add(1)
		}
	}
	for _, size := range []int{1, MaxCRL} {
		if _, err := serve(t, b).CarryCRL(ctx, CarryRequest{Data: make([]byte, size)}); code(err) != CodeForbidden {
			t.Errorf("a reader with %d bytes: %v", size, err)
		}
	}
	if told.Load() != 2 {
		t.Errorf("told %d times", told.Load())
	}
	b = carrier([]int{os.Getuid()})
	b.Trust.Carry = nil
	if _, err := serve(t, b).CarryCRL(ctx, CarryRequest{}); code(err) != CodeUsage || !strings.Contains(err.Error(), "not supported") {
		t.Errorf("without a backend: %v", err)
	}
}
