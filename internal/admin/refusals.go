package admin

import (
	"context"
	"net/http"
	"time"
)

// Refusal is a peer that was not let in, or would not have been (policy: audit), or
// whose connection was cut. Those that are alike are one: same tunnel, source,
// result, reason and certificate.
type Refusal struct {
	Time    time.Time `json:"time"` // of the first
	Last    time.Time `json:"last"`
	Count   uint64    `json:"count"`
	Tunnel  string    `json:"tunnel"`
	Peer    string    `json:"peer"`   // address of the last; "" behind a unix socket
	Name    string    `json:"name"`   // of the certificate that was presented; "" if none was
	Serial  string    `json:"serial"` // hex
	Issuer  string    `json:"issuer"`
	Result  string    `json:"result"` // refused, failed, limited, audited or cut
	Reason  string    `json:"reason"`
	Rule    string    `json:"rule"` // where it is written what the reason stands for
	Message string    `json:"message"`
	Hint    string    `json:"hint"`
}

// Refusals asks which peers were refused last, the newest first.
func (c *Client) Refusals(ctx context.Context) ([]Refusal, error) {
	out := []Refusal{}
	return out, c.call(ctx, http.MethodGet, "/v1/refusals", nil, &out)
}

func refusalRoutes(mux *http.ServeMux, b Backend) {
	if b.Refusals == nil {
		return
	}
	mux.HandleFunc("GET /v1/refusals", func(w http.ResponseWriter, r *http.Request) {
		answerList(w, b.Refusals(r.Context()))
	})
}
