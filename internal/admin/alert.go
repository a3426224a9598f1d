package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
)

// AlertList is what people are told of, and how that goes.
type AlertList struct {
	Alerts []Alert      `json:"alerts"` // the gravest first
	Sinks  []SinkStatus `json:"sinks"`
}

// The states of an alert.
const (
	AlertWaiting      = "waiting"      // nobody is to be told yet
	AlertActive       = "active"       // told, and again as configured
	AlertAcknowledged = "acknowledged" // somebody sees to it
	AlertResolving    = "resolving"    // gone for a moment; resolved if it stays away
)

// Alert is a condition, and who was told of it.
type Alert struct {
	condition.Condition
	State  string   `json:"state"`
	Opened Time     `json:"opened"` // when it was told first
	Told   Time     `json:"told"`   // when it was told last
	Next   Time     `json:"next"`   // when it is told again, if nothing changes
	Ack    *Ack     `json:"ack"`
	Sinks  []string `json:"told_to"` // names of sinks that know of it
}

// Ack is the word of an operator that an alert is being seen to. Repeats are silent until
// it ends; what grows worse is told all the same, and ends it.
type Ack struct {
	By    string    `json:"by"` // name of the user, else the number
	UID   int       `json:"uid"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
}

// SinkStatus is how a sink stands.
type SinkStatus struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Min       string `json:"min"` // least severity that it is told
	State     string `json:"state"`
	Pending   int    `json:"pending"` // alerts of which it is still to be told something
	LastSent  Time   `json:"last_sent"`
	Failures  int    `json:"failures"` // in a row
	LastError string `json:"last_error"`
	Hint      string `json:"hint"`
	NextTry   Time   `json:"next_try"`
}

// The states of a sink.
const (
	SinkWorks   = "ok"
	SinkFailing = "failing"
)

// AckRequest acknowledges an alert for a time; none ends an acknowledgement.
type AckRequest struct {
	ID  string        `json:"id"`
	For time.Duration `json:"for"` // nanoseconds
}

// TestRequest has a message sent that says that nothing is wrong.
type TestRequest struct {
	Sink string `json:"sink"`
}

// TestResult says how long the sink took.
type TestResult struct {
	Sink   string `json:"sink"`
	Type   string `json:"type"`
	TookMS int64  `json:"took_ms"`
}

// AlertBackend is what the API needs of alerts. Errors are those of Backend.
type AlertBackend struct {
	List func(context.Context) (AlertList, error)
	Ack  func(context.Context, Caller, AckRequest) (Alert, error)
	Test func(context.Context, Caller, TestRequest) (TestResult, error)
}

// alertRoutes adds alerts to the API.
func alertRoutes(mux *http.ServeMux, b Backend) {
	if b.Alerts == nil {
		return
	}
	mux.HandleFunc("GET /v1/alerts", func(w http.ResponseWriter, r *http.Request) {
		list, err := b.Alerts.List(r.Context())
		answer(w, list, err)
	})
	mux.HandleFunc("POST /v1/alerts/ack", change(b, "alerts ack", func(ctx context.Context, c Caller, in AckRequest) (any, error) {
		return b.Alerts.Ack(ctx, c, in)
	}))
	mux.HandleFunc("POST /v1/alerts/test", change(b, "alerts test", func(ctx context.Context, c Caller, in TestRequest) (any, error) {
		return b.Alerts.Test(ctx, c, in)
	}))
}

// Alerts asks what people are told of.
func (c *Client) Alerts(ctx context.Context) (AlertList, error) {
	var l AlertList
	return l, c.call(ctx, http.MethodGet, "/v1/alerts", nil, &l)
}

// AckAlert acknowledges an alert.
func (c *Client) AckAlert(ctx context.Context, r AckRequest) (Alert, error) {
	var a Alert
	return a, c.call(ctx, http.MethodPost, "/v1/alerts/ack", r, &a)
}

// TestSink has a sink sent a message, and waits until it has taken it.
func (c *Client) TestSink(ctx context.Context, r TestRequest) (TestResult, error) {
	var res TestResult
	return res, c.call(ctx, http.MethodPost, "/v1/alerts/test", r, &res)
}
