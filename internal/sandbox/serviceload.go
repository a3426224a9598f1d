package sandbox

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// The pace of the clients of a service: a full handshake costs it an RSA signature,
// and the reload is to be met, not held up.
const (
	keptEvery  = 20 * time.Millisecond
	freshEvery = 60 * time.Millisecond
)

// load runs the clients of a service until ctx ends: two that keep their connection
// and one that makes a new one each time. Requests in flight are finished.
func (v *service) load(ctx context.Context, l *ledger) {
	var group sync.WaitGroup
	for _, c := range []struct {
		kind  kind
		every time.Duration
	}{{keepAlive, keptEvery}, {keepAlive, keptEvery}, {fresh, freshEvery}} {
		group.Go(func() {
			transport := &http.Transport{DialTLSContext: v.dial, DisableKeepAlives: c.kind != keepAlive, MaxConnsPerHost: 1, DisableCompression: true}
			defer transport.CloseIdleConnections()
			tick := time.NewTicker(c.every)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				// The end of the run must not cut the last request.
				again, err := v.ask(context.WithoutCancel(ctx), transport)
				l.request(v.name+", "+string(c.kind), err)
				v.note(func(r *ServiceResult) {
					r.Requests++
					r.SentAgain += again
					if err != nil {
						r.FailedRequests++
					}
				})
			}
		})
	}
	group.Wait()
}

// ask sends one GET and compares the answer. It returns how many times it was sent
// over: a server that reloads may close a kept connection just as a request comes, and
// net/http, as every client, then takes a new connection, if no byte of an answer
// had come (RFC 9110, Section 9.2.2; RFC 9112, Section 9.3.1).
func (v *service) ask(ctx context.Context, transport *http.Transport) (again int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var connections atomic.Int64
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connections.Add(1) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+serviceName+"/sandbox", nil)
	if err != nil {
		return 0, err
	}
	response, err := transport.RoundTrip(request)
	again = max(connections.Load()-1, 0)
	if err != nil {
		return again, plainError(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	switch {
	case err != nil:
		return again, plainError(err)
	case response.StatusCode != http.StatusOK:
		return again, fmt.Errorf("answered %s", response.Status)
	case string(answer) != v.answer():
		return again, fmt.Errorf("answered what is not its answer: %.40q", answer)
	}
	return again, nil
}
