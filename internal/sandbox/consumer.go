package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// requestTimeout bounds one request; a slower one has failed.
const requestTimeout = 5 * time.Second

// endpoint is where the daemon's outbound tunnel listens for local clients.
type endpoint struct{ network, address string }

func (e endpoint) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, e.network, e.address)
}

// client is one local program that calls the provider through the tunnels: plain
// HTTP, one request after the other.
type client struct {
	kind  kind
	via   endpoint
	every time.Duration
}

// crew is the load: about 105 requests a second, of which 7 with a full
// handshake on both legs. An RSA-2048 signature takes a millisecond of a core,
// and the daemon is to be measured, not starved.
func crew(resuming, unix, full endpoint) []client {
	return []client{
		{keepAlive, resuming, 25 * time.Millisecond},
		{keepAlive, unix, 25 * time.Millisecond},
		{resumed, resuming, 100 * time.Millisecond},
		{resumed, unix, 100 * time.Millisecond},
		{fresh, full, 150 * time.Millisecond},
	}
}

// load runs the clients until ctx ends. Requests in flight are finished.
func load(ctx context.Context, clients []client, l *ledger, k *cuts) {
	var group errgroup.Group
	for _, c := range clients {
		group.Go(func() error {
			c.run(ctx, l, k)
			return nil
		})
	}
	_ = group.Wait() // the clients return no errors: the ledger has them
}

func (c client) run(ctx context.Context, l *ledger, k *cuts) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := c.via.dial(ctx, network, address)
			if err != nil || c.kind != keepAlive {
				return conn, err
			}
			return k.watch(conn, "consumer"), nil
		},
		DisableKeepAlives:  c.kind != keepAlive,
		MaxConnsPerHost:    1,
		DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// The end of the run must not cut the last request.
		l.request(string(c.kind), c.call(context.WithoutCancel(ctx), transport, n))
	}
}

// call sends one request and compares the answer. Nothing tries again: the
// transport is used without http.Client, the method is POST, and the body
// cannot be rewound (net/http repeats a request that it finds replayable).
func (c client) call(ctx context.Context, transport *http.Transport, n int) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	message := []byte(fmt.Sprintf("%s %d %s", c.kind, n, strings.Repeat("x", 200)))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+providerName+"/sandbox/STU3/1", onlyReader{bytes.NewReader(message)})
	if err != nil {
		return err
	}
	request.ContentLength = int64(len(message))
	request.Header.Set(kindHeader, string(c.kind))
	response, err := transport.RoundTrip(request)
	if err != nil {
		return plainError(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	switch {
	case err != nil:
		return plainError(err)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(answer)))
	case !bytes.Equal(answer, message):
		return errors.New("the answer is not what was sent")
	}
	return nil
}

// onlyReader hides every method but Read, so that there is no GetBody.
type onlyReader struct{ io.Reader }

// plainError drops the addresses of a net error: the cause is what is counted.
func plainError(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}
