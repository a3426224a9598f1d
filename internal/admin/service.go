package admin

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Service is one local service that reads files. State is in_sync, delivering,
// failed or held. Generations are those of its slot.
type Service struct {
	Name       string         `json:"name"`
	Slot       string         `json:"slot"`
	State      string         `json:"state"`
	Since      Time           `json:"since"`      // of the state
	Generation uint64         `json:"generation"` // desired
	Desired    ServiceVersion `json:"desired"`    // what its slot has
	Delivered  ServiceVersion `json:"delivered"`  // what is in its directory
	Served     ServiceVersion `json:"served"`     // what it was seen to serve
	Proved     ServiceVersion `json:"proved"`     // what it was last seen to serve, of what was delivered
	Waits      string         `json:"waits"`      // delivering: for what; "" if something is being done
	Step       string         `json:"step"`       // where it failed; "" if it did not
	Reason     string         `json:"reason"`
	LastError  string         `json:"last_error"`
	Hint       string         `json:"hint"`
	Retry      Time           `json:"retry"`  // when it is tried again by itself
	Looked     Time           `json:"looked"` // when it was last looked at
	After      []string       `json:"after"`  // services that must be proved first
	Directory  string         `json:"directory"`
	Probe      []string       `json:"probe"`  // addresses, or the program; empty for none
	Reload     string         `json:"reload"` // unit, haproxy, signal, exec or none
}

// ServiceVersion is a set of files: what it was made of.
type ServiceVersion struct {
	Digest     string `json:"digest"`     // of all it was made of; "" for none, or none that is known
	Generation uint64 `json:"generation"` // 0 likewise
	Leaf       string `json:"leaf"`       // SHA-256 of the leaf
	Since      Time   `json:"since"`
	NotAfter   Time   `json:"not_after"` // when the first of its certificates and lists ends, where that is known
}

// DeliverRequest asks to bring a service to what its slot has.
type DeliverRequest struct {
	Service string `json:"service"`
	Now     bool   `json:"now,omitempty"`     // also what is held, and outside its window
	DryRun  bool   `json:"dry_run,omitempty"` // say what would be done, and do nothing
	// TimeoutMS is how long the outcome is waited for, in milliseconds; 0 is as long as
	// the daemon lets anybody wait. What was begun goes on.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
}

// DeliverResult is the service afterwards. It is returned also where the delivery
// failed: then the error is CodeRefused or CodeFailed, with the reason.
type DeliverResult struct {
	Service   Service      `json:"service"`
	Delivered bool         `json:"delivered"` // what it serves has changed, or was proved again
	Plan      *DeliverPlan `json:"plan"`      // of a dry run; else null
}

// DeliverPlan is what a delivery would do.
type DeliverPlan struct {
	Files []PlannedFile `json:"files"`
	Steps []string      `json:"steps"` // sentences, in order
}

// PlannedFile is one file of a delivery.
type PlannedFile struct {
	Path   string `json:"path"`
	Format string `json:"format"`
	Mode   string `json:"mode"`  // octal
	Owner  string `json:"owner"` // "" is the daemon's
	Group  string `json:"group"` // likewise
	Bytes  int    `json:"bytes"`
	Change string `json:"change"` // new, same or changed
}

// serviceRoute adds delivery to the API.
func serviceRoute(mux *http.ServeMux, b Backend) {
	if b.Deliver == nil {
		return // what no pattern matches is not supported
	}
	waiting := &orders{of: map[string]int{}}
	mux.HandleFunc("POST /v1/deliver", change(b, "deliver", func(ctx context.Context, c Caller, in DeliverRequest) (any, error) {
		if err := waiting.enter(in); err != nil {
			return nil, err
		}
		defer waiting.leave(in)
		return b.Deliver(ctx, c, in)
	}))
}

// How many orders are waited for at once: each of them has a connection for minutes. The
// second for a service finds what the first has done; a third would learn no more.
const (
	maxOrders      = 16
	maxOrdersOfOne = 2
)

func busy(format string, args ...any) error {
	return &Error{Code: CodeFailed, Reason: "busy", Message: fmt.Sprintf(format, args...),
		Hint: "try again when one has ended; spinecert services says what they are about"}
}

// orders counts the orders that somebody waits for.
type orders struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by service, without dry runs, which change nothing
}

// enter counts an order, or says that there are too many.
func (o *orders) enter(r DeliverRequest) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.all >= maxOrders:
		return busy("%d deliveries are waited for already", o.all)
	case r.DryRun:
	case o.of[r.Service] >= maxOrdersOfOne:
		return busy("%d deliveries to service %q are waited for already", o.of[r.Service], r.Service)
	default:
		o.of[r.Service]++
	}
	o.all++
	return nil
}

// leave counts the end of an order that was let in.
func (o *orders) leave(r DeliverRequest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all--
	if r.DryRun {
		return
	}
	if o.of[r.Service]--; o.of[r.Service] == 0 {
		delete(o.of, r.Service)
	}
}

// Deliver brings a service to what its slot has, and waits for the outcome within
// patience. The error is an *Error with CodeRefused where the service did not take it,
// or it is held or waits; the result is valid then too. With CodeFailed and the reason
// busy nothing was asked of the service: too many wait for deliveries already.
func (c *Client) Deliver(ctx context.Context, r DeliverRequest, patience time.Duration) (DeliverResult, error) {
	r.TimeoutMS = patience.Milliseconds()
	var out DeliverResult
	return out, c.call(ctx, http.MethodPost, "/v1/deliver", r, &out)
}
