package admin

import (
	"context"
	"net/http"
)

// UpgradeRequest asks the daemon to leave its place to the program that is installed now.
type UpgradeRequest struct {
	// TimeoutMS is how long the new one may take to be ready, in milliseconds, at most and, if it is 0, 30 s.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
	// Force has the new one take over although a slot would serve nothing there, or a CA would not be trusted any more.
	Force bool `json:"force,omitempty"`
	// Unsupervised has the daemon leave its place although systemd did not start it.
	Unsupervised bool `json:"unsupervised,omitempty"`
}

// UpgradeResult says what an upgrade did, or how far it came.
type UpgradeResult struct {
	From        string `json:"from"` // versions
	To          string `json:"to"`   // "" if the new one did not come to say it
	Program     string `json:"program"`
	PID         int    `json:"pid"`         // of the new process; 0 if the old one goes on
	Summary     string `json:"summary"`     // how the new one stands
	Connections int    `json:"connections"` // open ones, which the old process keeps until they end, for limits.drain at most
}

func upgradeRoute(mux *http.ServeMux, b Backend) {
	if b.Upgrade == nil {
		return // what no pattern matches is not supported
	}
	mux.HandleFunc("POST /v1/upgrade", change(b, "upgrade", func(ctx context.Context, c Caller, in UpgradeRequest) (any, error) {
		return b.Upgrade(ctx, c, in)
	}))
}

// Upgrade has the daemon leave its place to the program that is installed now, and waits until that one serves. On an error the
// one that was asked goes on.
func (c *Client) Upgrade(ctx context.Context, r UpgradeRequest) (UpgradeResult, error) {
	var res UpgradeResult
	return res, c.call(ctx, http.MethodPost, "/v1/upgrade", r, &res)
}
