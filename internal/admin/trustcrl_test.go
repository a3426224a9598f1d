package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
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

// TestCarryWaits: the time that a list waits for another one is not counted as if its
// sender were slow.
func TestCarryWaits(t *testing.T) {
	first, free := make(chan struct{}), make(chan struct{})
	b := Backend{Writers: func() []int { return []int{os.Getuid()} }, Trust: &TrustBackend{
		Carry: func(_ context.Context, _ Caller, r CarryRequest) (CarriedCRL, error) {
			if r.Name == "first" {
				close(first)
				<-free
			}
			return CarriedCRL{CRL: CRL{Entries: len(r.Data)}}, nil
		},
	}}
	s := NewServer(b)
	s.ReadTimeout = 200 * time.Millisecond
	path, _ := ends(t, s)
	done := make(chan error, 1)
	go func() {
		_, err := NewClient(path).CarryCRL(context.Background(), CarryRequest{Name: "first", Data: []byte("a")})
		done <- err
	}()
	wait(t, "the first list is there", first)
	c := dial(t, path)
	if _, err := io.WriteString(c, "POST /v1/trust/crl?name=second HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * s.ReadTimeout) // the deadline that is not to count
	close(free)
	if err := <-done; err != nil {
		t.Error(err)
	}
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := io.WriteString(c, "b"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	if err != nil || !strings.Contains(string(rest), `"entries":1`) {
		t.Errorf("%q, %v", rest, err)
	}
}
