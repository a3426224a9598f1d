package admin

import (
	"context"
	"net/http"
	"time"
)

// DoctorRequest asks for an examination. It changes nothing, so that whoever may
// read may ask.
type DoctorRequest struct {
	// TimeoutMS is how long it may take, in milliseconds; 0 is as long as the daemon
	// lets anybody wait. What there was no time for is said.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
}

// DoctorLine is one finding, see package doctor.
type DoctorLine struct {
	Level   string `json:"level"` // ok, warn or fail
	Code    string `json:"code"`
	Subject string `json:"subject"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
	// Condition is the ID of the condition that says the same; "" where there is none.
	Condition string `json:"condition,omitempty"`
}

// DoctorResult is what the daemon found.
type DoctorResult struct {
	Lines []DoctorLine `json:"lines"`
}

// doctorRoute adds the examination to the API.
func doctorRoute(mux *http.ServeMux, b Backend) {
	if b.Doctor == nil {
		return // what no pattern matches is not supported
	}
	mux.HandleFunc("POST /v1/doctor", func(w http.ResponseWriter, r *http.Request) { // for readers as well
		var in DoctorRequest
		if err := decode(w, r, maxRequest, &in); err != nil {
			answer(w, nil, err)
			return
		}
		result, err := b.Doctor(r.Context(), in)
		answer(w, result, err)
	})
}

// Doctor has the daemon examine what it has and whom it talks to, within patience.
func (c *Client) Doctor(ctx context.Context, patience time.Duration) (DoctorResult, error) {
	var out DoctorResult
	return out, c.call(ctx, http.MethodPost, "/v1/doctor", DoctorRequest{TimeoutMS: patience.Milliseconds()}, &out)
}
