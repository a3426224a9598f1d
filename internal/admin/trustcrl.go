package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// MaxCRL bounds the bytes of a list that is carried here.
const MaxCRL = 64 << 20

// The values of CRL.Source.
const (
	CRLOfFile    = "file"    // a file of crl.files
	CRLOfOwn     = "own"     // fetched: one of our certificates names it
	CRLOfBundle  = "bundle"  // fetched: a CA of the bundle names it
	CRLOfPeer    = "peer"    // fetched: a peer that passed everything else names it
	CRLOfCarrier = "carried" // carried here by hand
)

// CRL is one revocation list that is known to an environment. Of one that was never
// had there is only Address, and what became of asking.
type CRL struct {
	Origin     string   `json:"origin"` // the file or the address it came from
	Source     string   `json:"source"` // file, own, bundle, peer or carried
	Address    string   `json:"address"`
	InForce    bool     `json:"in_force"` // peers are judged by it
	Issuer     string   `json:"issuer"`
	Number     string   `json:"number"` // decimal; "" where it has none
	Entries    int      `json:"entries"`
	ThisUpdate Time     `json:"this_update"`
	NextUpdate Time     `json:"next_update"`
	SHA256     string   `json:"sha256"`
	Covers     []string `json:"covers"` // the addresses whose certificates it covers; none: it does not say
	Only       string   `json:"only"`   // users or cas, where it covers only those; else ""
	Fetched    Time     `json:"fetched"`
	Tried      Time     `json:"tried"`
	Next       Time     `json:"next"`     // when it is asked for again
	Failures   int      `json:"failures"` // since it was had last
	Error      string   `json:"error"`    // of the last attempt
	Hint       string   `json:"hint"`
}

// CarriedCRL is a list that was carried here, and is in force.
type CarriedCRL struct {
	Environment string `json:"environment"`
	Name        string `json:"name"` // of its file
	CRL         CRL    `json:"crl"`
}

// CarryRequest hands over one list, DER or PEM. Name is the base name of its file.
type CarryRequest struct {
	Environment string
	Name        string
	Data        []byte
}

// carryRoute takes lists. They are not sent as JSON, which would have them in memory
// several times, and one is taken at a time.
func carryRoute(mux *http.ServeMux, b Backend) {
	if b.Trust.Carry == nil {
		return
	}
	busy := make(chan struct{}, 1)
	mux.HandleFunc("POST /v1/trust/crl", func(w http.ResponseWriter, r *http.Request) {
		caller, err := permitted(b, r, "trust crl")
		if err != nil {
			answer(w, nil, err)
			return
		}
		select {
		case busy <- struct{}{}:
			defer func() { <-busy }()
		case <-r.Context().Done():
			return
		}
		// The time that it waited is not its own.
		if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
			now, own := time.Now(), http.NewResponseController(w)
			_ = own.SetReadDeadline(now.Add(s.ReadTimeout)) // they fail on a closed connection only
			_ = own.SetWriteDeadline(now.Add(s.WriteTimeout))
		}
		data, err := readCRL(w, r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		q := r.URL.Query()
		carried, err := b.Trust.Carry(r.Context(), caller, CarryRequest{Environment: q.Get("environment"), Name: q.Get("name"), Data: data})
		answer(w, carried, err)
	})
}

// readCRL reads a list of a size that is told before it comes.
func readCRL(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := &Error{Code: CodeRefused, Reason: "too_large", Message: fmt.Sprintf("the list has more than %d bytes", MaxCRL), Hint: "name it in crl.files of the environment, and see crl.max_size"}
	if r.ContentLength > MaxCRL {
		return nil, tooLarge
	}
	var data bytes.Buffer
	data.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
	_, err := data.ReadFrom(http.MaxBytesReader(w, r.Body, MaxCRL))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge
	case err != nil:
		return nil, &Error{Code: CodeUsage, Message: "read request: " + err.Error()}
	}
	return data.Bytes(), nil
}

// CarryCRL hands over a list, which is in force when the error is nil.
func (c *Client) CarryCRL(ctx context.Context, r CarryRequest) (CarriedCRL, error) {
	var out CarriedCRL
	q := url.Values{"environment": {r.Environment}, "name": {r.Name}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://spinecertd/v1/trust/crl?"+q.Encode(), bytes.NewReader(r.Data))
	if err != nil {
		return out, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue") // who may not, or has to wait, need not send it
	return out, c.send(ctx, req, &out)
}
