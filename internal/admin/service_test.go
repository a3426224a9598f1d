package admin

import (
	"context"
	"errors"
	"fmt"
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

// TestTooManyDeliveries: orders that take long leave room for everything else, whoever gave
// them. Those too many are told so at once.
func TestTooManyDeliveries(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	began, end := make(chan struct{}, 100), make(chan struct{})
	b := deliverer([]int{os.Getuid()}, func(ctx context.Context, _ Caller, r DeliverRequest) (DeliverResult, error) {
		began <- struct{}{}
		select {
		case <-end:
		case <-ctx.Done():
		}
		return DeliverResult{Service: Service{Name: r.Service}}, nil
	})
	b.Status = func(context.Context) Status { return Status{Version: "it answers"} }
	path, ended := ends(t, NewServer(b))
	c, answers := NewClient(path), make(chan error, 100)
	order := func(r DeliverRequest) {
		go func() {
			_, err := c.Deliver(ctx, r, time.Minute)
			answers <- err
		}()
	}
	refused := func(r DeliverRequest, text string) {
		t.Helper()
		_, err := c.Deliver(ctx, r, time.Minute)
		var busy *Error
		if !errors.As(err, &busy) || busy.Code != CodeFailed || busy.Reason != "busy" || !strings.Contains(busy.Message, text) || busy.Hint == "" {
			t.Errorf("%+v: %v, want that it is busy: %s", r, err, text)
		}
	}

	for range maxOrdersOfOne {
		order(DeliverRequest{Service: "nginx"})
		wait(t, "an order begins", began)
	}
	refused(DeliverRequest{Service: "nginx"}, `2 deliveries to service "nginx" are waited for already`)
	order(DeliverRequest{Service: "nginx", DryRun: true}) // which changes nothing
	wait(t, "a dry run begins", began)
	for i := range maxOrders - maxOrdersOfOne - 1 {
		order(DeliverRequest{Service: fmt.Sprint("service-", i)})
		wait(t, "an order begins", began)
	}
	refused(DeliverRequest{Service: "other"}, "16 deliveries are waited for already")
	refused(DeliverRequest{Service: "other", DryRun: true}, "16 deliveries are waited for already")
	flood := make(chan error, maxOpen)
	for range maxOpen {
		go func() {
			_, err := c.Deliver(ctx, DeliverRequest{Service: "other"}, time.Minute)
			flood <- err
		}()
	}
	for range maxOpen { // some find no connection
		if err := <-flood; err == nil {
			t.Error("an order too many was let in")
		}
	}
	for range maxOpen + 3 {
		wait(t, "those that were refused are gone", ended)
	}
	if s, err := c.Status(ctx); err != nil || s.Version != "it answers" {
		t.Errorf("status, while deliveries are waited for: %v", err)
	}

	close(end)
	for range maxOrders {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	for range 2 * maxOrders { // each that ended made room
		if _, err := c.Deliver(ctx, DeliverRequest{Service: "nginx"}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if len(began) != 2*maxOrders {
		t.Errorf("%d orders began afterwards", len(began))
	}
}
