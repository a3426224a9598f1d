package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxBody bounds what the actors of the sandbox read from each other.
const maxBody = 64 << 10

// listenLoopback listens on a port that the kernel chooses.
func listenLoopback(ctx context.Context) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}

// spareTimeout is how long a connection may wait for its first request. A client that opens
// one, and meanwhile sends its request over another that has become free, keeps it as a
// spare; it closes what it does not use after a minute, and ours must not be earlier: that
// would look like a connection that the daemon has cut.
const spareTimeout = 5 * time.Minute

// provider is the local service behind the inbound tunnel: plain HTTP on
// loopback that answers with what it was sent.
func provider() *http.Server {
	return &http.Server{
		ReadHeaderTimeout: spareTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			if err != nil {
				http.Error(w, "read request: "+err.Error(), http.StatusBadRequest)
				return
			}
			// SPINE.md, 2: answers of a provider are not stored on the way.
			w.Header().Set("Cache-Control", "no-store")
			_, _ = w.Write(body)
		}),
	}
}

// serve runs an HTTP server until ctx ends, then lets requests in flight finish.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
		defer cancel()
		err := server.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			// What still runs then are connections kept open, not requests.
			err = server.Close()
		}
		stopped <- err
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
