package admin

import (
	"context"
	"net/http"
)

// Generation is one line of a slot's timeline: an identity that it served, serves
// or is going to serve. What is not known is 0, "" or null.
type Generation struct {
	Number    uint64 `json:"number"`     // 0: it has none yet
	State     string `json:"state"`      // past, present or coming
	Origin    string `json:"origin"`     // files, import or rollback
	NotBefore Time   `json:"not_before"` // of the leaf
	NotAfter  Time   `json:"not_after"`  // of leaf and chain, the earliest
	From      Time   `json:"from"`       // when it was served
	To        Time   `json:"to"`
	Asked     Time   `json:"asked"`   // coming: when its request was made, or will be made by itself
	Request   string `json:"request"` // coming: the ID of its request
	Serial    string `json:"serial"`
	SHA256    string `json:"sha256"` // of the leaf
	Note      string `json:"note"`   // a few words for people
}

// The states of a Generation. Of those that are coming there are three kinds: one
// whose certificate is there and waits (NotAfter is set), a request that waits for
// its certificate (Request is set, NotAfter is not), and the next request, which the
// daemon makes by itself (Asked alone is set). Of a certificate in files that waits,
// nothing may be known but what it waits for, which is its Note.
const (
	GenerationPast    = "past"
	GenerationPresent = "present"
	GenerationComing  = "coming"
)

// statusRoute adds how the daemon stands to the API. With ?timeline=1 the slots
// have their timelines, where the daemon knows them.
func statusRoute(mux *http.ServeMux, b Backend) {
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		ask := b.Status
		if r.URL.Query().Get("timeline") == "1" && b.Timeline != nil {
			ask = b.Timeline
		}
		answer(w, ask(r.Context()), nil)
	})
}

// StatusWithTimeline asks how the daemon stands, and for the timeline of each slot.
// A daemon that knows none answers without.
func (c *Client) StatusWithTimeline(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "/v1/status?timeline=1", nil, &s)
}
