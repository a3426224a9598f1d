package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// clients is how many clients work at once: few, because a queue in front of
// the proxy adds noise and nothing to learn.
const clients = 4

// visitLimit bounds one connection's handshake and exchange.
const visitLimit = 20 * time.Second

// open connects, shakes hands and sets no deadline on what follows.
func open(ctx context.Context, addr string, cfg *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, visitLimit)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return c, nil
}

// visit is the unit of the handshake measures: a connection, a handshake, one
// exchange with the backend, and the end.
func visit(ctx context.Context, addr string, cfg *tls.Config) (tls.ConnectionState, error) {
	c, err := open(ctx, addr, cfg)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	if err := startEcho(c); err != nil {
		return tls.ConnectionState{}, err
	}
	return c.ConnectionState(), nil
}

// startEcho turns a fresh connection into an echo and proves it with a few
// bytes.
func startEcho(c *tls.Conn) error {
	if _, err := c.Write(append(header(modeEcho, 0), "hello, backend"...)); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	return readBack(c, len("hello, backend"))
}

// ping sends n bytes and waits until they have come back.
func ping(c *tls.Conn, n int) error {
	if _, err := c.Write(make([]byte, n)); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	return readBack(c, n)
}

func readBack(c *tls.Conn, n int) error {
	if err := c.SetReadDeadline(time.Now().Add(visitLimit)); err != nil {
		return err
	}
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// checkConditions makes sure that the proxy did the work that is compared.
func checkConditions(cs tls.ConnectionState) error {
	switch {
	case cs.Version != tls.VersionTLS12:
		return fmt.Errorf("negotiated %s", tls.VersionName(cs.Version))
	case cs.CipherSuite != tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return fmt.Errorf("negotiated %s", tls.CipherSuiteName(cs.CipherSuite))
	case cs.CurveID != tls.X25519:
		return fmt.Errorf("negotiated %s", cs.CurveID)
	case len(cs.PeerCertificates) != 2:
		return fmt.Errorf("it sent %d certificates instead of leaf and subCA", len(cs.PeerCertificates))
	case cs.DidResume:
		return errors.New("it resumed the first session")
	}
	return nil
}

// runClients calls work n times, from clients goroutines; client is the number
// of the goroutine. It stops at the first error.
func runClients(ctx context.Context, n int, work func(ctx context.Context, client int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for client := range clients {
		g.Go(func() error {
			for next.Add(1) <= int64(n) {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := work(ctx, client); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}
