package admin

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// maxImport bounds the body of an import, MaxAnswer the bytes of its files: JSON
// writes them in base64.
const (
	maxImport = 24 << 20
	MaxAnswer = 17 << 20
)

// Request is a request for a certificate that waits.
type Request struct {
	ID          string    `json:"id"` // first 16 hex digits of the SHA-256 of the public key
	Slot        string    `json:"slot"`
	Environment string    `json:"environment"`
	FQDN        string    `json:"fqdn"`
	SANs        []string  `json:"sans"`
	Key         string    `json:"key"` // kind
	Created     time.Time `json:"created"`
	Age         int64     `json:"age_seconds"`
	By          string    `json:"by"`     // who asked: "uid 0", or "prepare"
	Reason      string    `json:"reason"` // new or expiring
	State       string    `json:"state"`  // open, or answered: its answer waits to come into force
	Answered    Time      `json:"answered"`
	LastError   string    `json:"last_error"` // answered: what it waits for
	LastReason  string    `json:"last_reason"`
	Hint        string    `json:"hint"`
}

// The states of a Request.
const (
	RequestOpen     = "open"
	RequestAnswered = "answered"
)

// Letter is the mail that asks for a certificate.
type Letter struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
	Body    string `json:"body"`
}

// CSRRequest asks for a key and a request for a managed slot.
type CSRRequest struct {
	Slot string   `json:"slot"`
	Key  string   `json:"key,omitempty"`  // kind; "" is the policy of the slot
	SANs []string `json:"sans,omitempty"` // none is the policy of the slot
}

// CSRResult is one request in full.
type CSRResult struct {
	Request   Request `json:"request"`
	KeySHA256 string  `json:"key_sha256"` // of the public key
	CSR       string  `json:"csr"`        // PEM
	Letter    Letter  `json:"letter"`
	Inbox     string  `json:"inbox"` // the directory that takes its answer
}

// CancelRequest removes a request with its key.
type CancelRequest struct {
	ID string `json:"id"`
}

// CancelResult is the request that is gone.
type CancelResult struct {
	Request Request `json:"request"`
}

// ImportRequest hands over what came back for a request, as bytes: the daemon
// opens no path for others.
type ImportRequest struct {
	Files    []File   `json:"files"`
	Password []byte   `json:"password,omitempty"` // of PKCS#12 files
	Request  string   `json:"request,omitempty"`  // ID; "" is found by public key
	Allow    []string `json:"allow,omitempty"`    // guard rules to override, once
	DryRun   bool     `json:"dry_run,omitempty"`
}

// ImportResult says where an answer belongs and what became of it. It is returned
// also when it fits and cannot be in force yet: then the error is CodeRefused with
// a reason, State is waiting, and Again says when it is tried again.
type ImportResult struct {
	Slot        string     `json:"slot"`
	Environment string     `json:"environment"`
	Request     string     `json:"request"` // ID; "" where the slot has the key already
	State       string     `json:"state"`   // in_force, unchanged, waiting, or fits: it would be in force
	From        uint64     `json:"from"`    // generations before and after; 0 is none
	Generation  uint64     `json:"generation"`
	Subject     string     `json:"subject"`
	Issuer      string     `json:"issuer"`
	Serial      string     `json:"serial"`
	Names       []string   `json:"names"`
	NotBefore   time.Time  `json:"not_before"`
	NotAfter    time.Time  `json:"not_after"`
	SHA256      string     `json:"sha256"`
	KeySHA256   string     `json:"key_sha256"`
	FoundIn     string     `json:"found_in"`
	Chain       []ImportCA `json:"chain"` // issuing CA first, without the root
	Root        string     `json:"root"`  // "" where the chain was not judged
	DryRun      bool       `json:"dry_run"`
	Again       string     `json:"again"`
	Notes       []string   `json:"notes"`
	Open        []string   `json:"open"` // IDs of the requests that wait for the slot besides
}

// ImportCA is one CA of an imported chain.
type ImportCA struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	SHA256   string    `json:"sha256"`
	From     string    `json:"from"` // answer or trust
}

// RollbackRequest puts an older generation in force again.
type RollbackRequest struct {
	Slot string `json:"slot"`
	To   uint64 `json:"to,omitempty"` // 0: the one before
}

// requestRoutes adds requests, their answers and generations to the API.
func requestRoutes(mux *http.ServeMux, b Backend) {
	handle(mux, b, "csr", "POST /v1/csr", maxRequest, b.NewRequest)
	handle(mux, b, "csr cancel", "POST /v1/csr/cancel", maxRequest, b.Cancel)
	handle(mux, b, "import", "POST /v1/import", maxImport, b.Import)
	handle(mux, b, "rollback", "POST /v1/rollback", maxRequest, b.Rollback)
	if b.Request != nil {
		mux.HandleFunc("GET /v1/request", func(w http.ResponseWriter, r *http.Request) {
			result, err := b.Request(r.Context(), r.URL.Query().Get("id"))
			answer(w, result, err)
		})
	}
}

// handle adds a change that may be nil.
func handle[T, R any](mux *http.ServeMux, b Backend, action, pattern string, limit int64, do func(context.Context, Caller, T) (R, error)) {
	if do == nil {
		return // what no pattern matches is not supported
	}
	mux.HandleFunc(pattern, changeUpTo(b, action, limit, func(ctx context.Context, c Caller, in T) (any, error) {
		return do(ctx, c, in)
	}))
}

// NewRequest has the daemon make a key and a request for a managed slot.
func (c *Client) NewRequest(ctx context.Context, r CSRRequest) (CSRResult, error) {
	var out CSRResult
	return out, c.call(ctx, http.MethodPost, "/v1/csr", r, &out)
}

// Cancel has the daemon remove a request with its key.
func (c *Client) Cancel(ctx context.Context, r CancelRequest) (CancelResult, error) {
	var out CancelResult
	return out, c.call(ctx, http.MethodPost, "/v1/csr/cancel", r, &out)
}

// Request asks for one request in full.
func (c *Client) Request(ctx context.Context, id string) (CSRResult, error) {
	var out CSRResult
	return out, c.call(ctx, http.MethodGet, "/v1/request?id="+url.QueryEscape(id), nil, &out)
}

// Import hands over what came back, and waits until it is in force. The error is
// an *Error with CodeRefused if it was judged bad, or is not in force yet; in the
// latter case the result is valid.
func (c *Client) Import(ctx context.Context, r ImportRequest) (ImportResult, error) {
	var out ImportResult
	return out, c.call(ctx, http.MethodPost, "/v1/import", r, &out)
}

// Rollback has the daemon put an older generation of a slot in force again. The
// error is an *Error with CodeRefused if that was judged bad; the result, how the
// slot stands, is valid then too.
func (c *Client) Rollback(ctx context.Context, r RollbackRequest) (RotateResult, error) {
	var out RotateResult
	return out, c.call(ctx, http.MethodPost, "/v1/rollback", r, &out)
}
