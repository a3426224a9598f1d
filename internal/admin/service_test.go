package admin

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func deliverer(writers []int, deliver func(context.Context, Caller, DeliverRequest) (DeliverResult, error)) Backend {
	return Backend{Writers: func() []int { return writers }, Deliver: deliver}
}

// TestDeliverWaits: a service may take longer than a request may take to be read, and
// whoever waits for it is not taken for gone.
func TestDeliverWaits(t *testing.T) {
	ended := make(chan error, 1)
	s := NewServer(deliverer([]int{os.Getuid()}, func(ctx context.Context, _ Caller, r DeliverRequest) (DeliverResult, error) {
		select {
		case <-ctx.Done():
			ended <- ctx.Err()
		case <-time.After(500 * time.Millisecond): // the deadline that is not to count is over
			ended <- nil
		}
		return DeliverResult{Service: Service{Name: r.Service}, Delivered: r.Now && !r.DryRun && r.TimeoutMS == 60_000}, nil
	}))
	s.ReadTimeout, s.WriteTimeout = 100*time.Millisecond, 200*time.Millisecond
	path, _ := ends(t, s)
	out, err := NewClient(path).Deliver(t.Context(), DeliverRequest{Service: "nginx", Now: true}, time.Minute)
	if err != nil || out.Service.Name != "nginx" || !out.Delivered {
		t.Errorf("%+v, %v", out, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the context ended: %v", err)
	}
}

// TestDeliverEndsWithItsCaller: who goes away is waited for no longer.
func TestDeliverEndsWithItsCaller(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	path, _ := ends(t, NewServer(deliverer([]int{os.Getuid()}, func(ctx context.Context, _ Caller, _ DeliverRequest) (DeliverResult, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return DeliverResult{}, ctx.Err()
	})))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := NewClient(path).Deliver(ctx, DeliverRequest{Service: "nginx"}, time.Minute)
		done <- err
	}()
	wait(t, "the delivery began", began)
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	wait(t, "the delivery is not waited for", ended)
}

// TestDeliverIsForWriters, a dry run included: it looks into directories of others.
func TestDeliverIsForWriters(t *testing.T) {
	b := deliverer(nil, func(context.Context, Caller, DeliverRequest) (DeliverResult, error) {
		t.Error("a reader got through")
		return DeliverResult{}, nil
	})
	var told string
	b.Forbidden = func(_ Caller, action string) { told = action }
	path, _ := ends(t, NewServer(b))
	if _, err := NewClient(path).Deliver(t.Context(), DeliverRequest{Service: "nginx", DryRun: true}, time.Minute); code(err) != CodeForbidden || told != "deliver" {
		t.Errorf("%v, told %q", err, told)
	}
	path, _ = ends(t, NewServer(deliverer([]int{os.Getuid()}, nil)))
	if _, err := NewClient(path).Deliver(t.Context(), DeliverRequest{Service: "nginx"}, time.Minute); code(err) != CodeUsage || !strings.Contains(err.Error(), "not supported") {
		t.Errorf("without a backend: %v", err)
	}
}
