package admin

import (
	"context"
	"net/http"
	"time"
)

// TrustCA is one CA certificate of an environment, and what depends on it.
type TrustCA struct {
	Subject  string     `json:"subject"`
	SHA256   string     `json:"sha256"`
	NotAfter time.Time  `json:"not_after"`
	Root     bool       `json:"root"`
	Expired  bool       `json:"expired"`
	Known    string     `json:"known"` // what the program knows of it by its fingerprint; "" is nothing
	File     string     `json:"file"`
	Slots    []string   `json:"slots"` // those whose chain goes through it
	Peers    []SeenPeer `json:"peers"` // accepted under it since the daemon started, the latest 1,000 of the environment
}

// SeenPeer is a peer that was accepted.
type SeenPeer struct {
	Name     string    `json:"name"`
	Tunnel   string    `json:"tunnel"`
	LastSeen time.Time `json:"last_seen"`
}

// TrustEnvironment is the trust of one environment.
type TrustEnvironment struct {
	Name     string     `json:"name"`
	Bundle   string     `json:"bundle_sha256"`
	CAs      []TrustCA  `json:"cas"`
	Refused  string     `json:"refused"`  // why the trust files are not in force; "" if they are
	Proposed *TrustDiff `json:"proposed"` // what they would change, where they lack a CA
}

// TrustDiff is what another bundle would change.
type TrustDiff struct {
	Environment string    `json:"environment"`
	Digest      string    `json:"bundle_sha256"` // of the other bundle
	Added       []TrustCA `json:"added"`
	Removed     []TrustCA `json:"removed"`
	Shrinks     bool      `json:"shrinks"` // a CA that has not expired would go
	Breaks      []string  `json:"breaks"`  // what would no longer work, a sentence each
}

// File is a file as it was read by the caller: the daemon opens no paths for others.
type File struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// TrustDiffRequest asks what Files would change in the place of the trust files;
// none asks for what is proposed. Drop names CAs, by SHA-256, that were added with
// trust add and would go as well.
type TrustDiffRequest struct {
	Environment string   `json:"environment"`
	Files       []File   `json:"files,omitempty"`
	Drop        []string `json:"drop,omitempty"`
}

// TrustAddRequest adds the CAs in Files to an environment. SHA256 confirms each by
// its fingerprint; without any, nothing is added and the result says what would be.
type TrustAddRequest struct {
	Environment string   `json:"environment"`
	Files       []File   `json:"files"`
	SHA256      []string `json:"sha256,omitempty"`
}

// TrustAddResult says what was, or would be, added.
type TrustAddResult struct {
	Environment string    `json:"environment"`
	Added       []TrustCA `json:"added"`
	Already     []TrustCA `json:"already"` // in force already
	Notes       []string  `json:"notes"`
	Done        bool      `json:"done"`
}

// TrustAcceptRequest takes the trust files of an environment as they are, although
// a CA is gone. Digest is that of the bundle that was looked at (TrustDiff, with the
// same Drop), so that nothing else is accepted. Drop names CAs, by SHA-256, that were added with trust add and
// are to go.
type TrustAcceptRequest struct {
	Environment string   `json:"environment"`
	Digest      string   `json:"bundle_sha256,omitempty"`
	Drop        []string `json:"drop,omitempty"`
}

// TrustBackend does what the API asks of the trust of environments.
type TrustBackend struct {
	List   func(context.Context) ([]TrustEnvironment, error)
	Diff   func(context.Context, TrustDiffRequest) (TrustDiff, error)
	Add    func(context.Context, Caller, TrustAddRequest) (TrustAddResult, error)
	Accept func(context.Context, Caller, TrustAcceptRequest) (TrustEnvironment, error)
	Carry  func(context.Context, Caller, CarryRequest) (CarriedCRL, error) // may be nil
}

// trustRoutes adds the trust of environments to the API.
func trustRoutes(mux *http.ServeMux, b Backend) {
	if b.Trust == nil {
		return
	}
	mux.HandleFunc("GET /v1/trust", func(w http.ResponseWriter, r *http.Request) {
		list, err := b.Trust.List(r.Context())
		answer(w, list, err)
	})
	mux.HandleFunc("POST /v1/trust/diff", func(w http.ResponseWriter, r *http.Request) { // changes nothing: for readers as well
		var in TrustDiffRequest
		if err := decode(w, r, maxRequest, &in); err != nil {
			answer(w, nil, err)
			return
		}
		diff, err := b.Trust.Diff(r.Context(), in)
		answer(w, diff, err)
	})
	mux.HandleFunc("POST /v1/trust/add", change(b, "trust add", func(ctx context.Context, c Caller, in TrustAddRequest) (any, error) {
		return b.Trust.Add(ctx, c, in)
	}))
	mux.HandleFunc("POST /v1/trust/accept", change(b, "trust accept", func(ctx context.Context, c Caller, in TrustAcceptRequest) (any, error) {
		return b.Trust.Accept(ctx, c, in)
	}))
	carryRoute(mux, b)
}

// Trust asks for the trust of all environments.
func (c *Client) Trust(ctx context.Context) ([]TrustEnvironment, error) {
	var out []TrustEnvironment
	return out, c.call(ctx, http.MethodGet, "/v1/trust", nil, &out)
}

// TrustDiff asks what other trust files would change.
func (c *Client) TrustDiff(ctx context.Context, r TrustDiffRequest) (TrustDiff, error) {
	var out TrustDiff
	return out, c.call(ctx, http.MethodPost, "/v1/trust/diff", r, &out)
}

// TrustAdd adds CAs to an environment, or says what would be added.
func (c *Client) TrustAdd(ctx context.Context, r TrustAddRequest) (TrustAddResult, error) {
	var out TrustAddResult
	return out, c.call(ctx, http.MethodPost, "/v1/trust/add", r, &out)
}

// TrustAccept takes the trust files of an environment as they are.
func (c *Client) TrustAccept(ctx context.Context, r TrustAcceptRequest) (TrustEnvironment, error) {
	var out TrustEnvironment
	return out, c.call(ctx, http.MethodPost, "/v1/trust/accept", r, &out)
}
