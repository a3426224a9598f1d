package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// host is a keeper that runs, with one environment and the slot "own", as a
// daemon has it. Tunnels of it are real ones.
type host struct {
	l      *lab
	dir    string
	keeper *rotate.Keeper
	ctx    context.Context
	env    rotate.EnvironmentConfig
	slot   rotate.SlotConfig
}

// never is a poll that no case lives to see.
const never = time.Hour

// newHost starts a keeper that trusts bundle and serves own. edit may change its
// environment first, and write files into its directory.
func newHost(l *lab, bundle []byte, own *testpki.Leaf, edit func(*host)) *host {
	dir := l.TempDir()
	h := &host{l: l, dir: dir}
	h.write("trust.pem", bundle)
	h.write("own.crt", own.FullChainPEM())
	h.write("own.key", own.KeyPEM())
	h.env = rotate.EnvironmentConfig{Name: "test", Profile: trust.Private, Trust: []string{h.path("trust.pem")}, Revocation: trust.Off, Poll: never}
	h.slot = rotate.SlotConfig{Name: "own", Environment: "test", Poll: never,
		Files: rotate.Files{Certificate: h.path("own.crt"), Key: h.path("own.key")}}
	if edit != nil {
		edit(h)
	}
	h.keeper = rotate.New(rotate.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = h.keeper.Run(ctx) }() // it ends with ctx
	l.Cleanup(func() { cancel(); <-ended })
	h.ctx = ctx
	l.check(h.keeper.Apply(l.Context(), rotate.Plan{Environments: []rotate.EnvironmentConfig{h.env}, Slots: []rotate.SlotConfig{h.slot}}))
	if h.own().Snapshot() == nil {
		l.Fatalf("the slot serves nothing: %+v; trust: %+v", h.own().Status().Refusal, h.keeper.Environments()[0].Status().Refusal)
	}
	return h
}

func (h *host) own() *rotate.Slot { return h.keeper.Slot("own") }

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// write replaces a file at once.
func (h *host) write(name string, data []byte) {
	h.l.check(os.WriteFile(h.path(name)+".new", data, 0o600))
	h.l.check(os.Rename(h.path(name)+".new", h.path(name)))
}

// refresh has everything read again.
func (h *host) refresh() { h.l.check(h.keeper.Refresh(h.l.Context())) }

func (h *host) endpoint(c rotate.EndpointConfig) *rotate.Endpoint {
	e, err := h.own().Endpoint(c)
	h.l.check(err)
	return e
}

// door is a tunnel of a host.
type door struct {
	l          *lab
	address    string
	tunnel     *tunnel.Tunnel
	handshakes chan tunnel.Handshake
}

// open opens a tunnel to forward.
func (h *host) open(d tunnel.Direction, forward string, e *rotate.Endpoint, edit func(*tunnel.Config)) *door {
	o := &door{l: h.l, handshakes: make(chan tunnel.Handshake, 16)}
	o.tunnel = tunnel.New(h.ctx, "case", tunnel.NewGate(tunnel.Limits{}), tunnel.Observer{
		Handshake: func(hs tunnel.Handshake) { o.handshakes <- hs },
	})
	c := tunnel.Config{Direction: d, Endpoint: e, Listen: []tunnel.Listen{{Network: "tcp", Address: "127.0.0.1:0"}},
		Forward: tunnel.Forward{Network: "tcp", Address: forward}}
	if edit != nil {
		edit(&c)
	}
	pending, err := o.tunnel.Prepare(c)
	h.l.check(err)
	pending.Commit()
	o.tunnel.SetReady(true)
	h.l.Cleanup(func() { o.tunnel.Close() })
	o.address = o.tunnel.Addrs()[0].String()
	return o
}

// verdict waits for the next handshake and returns why it was refused, or nil.
func (o *door) verdict() error {
	select {
	case hs := <-o.handshakes:
		if hs.Result == tunnel.Accepted {
			return nil
		}
		return &refusal{trust.Reason(hs.Reason), string(hs.Result) + ": " + errText(hs.Err)}
	case <-time.After(patience):
		return errors.New("no handshake was told")
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// greeting is what a backend sends to whoever gets through.
const greeting = "through"

// backend listens, and greets each connection; with a config it does so over TLS.
// With ends, it then ends its half; else it waits for the other side to end.
func backend(l *lab, config *tls.Config, ends bool) string {
	ln := l.listen()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				if config != nil {
					c = tls.Server(c, config)
				}
				if _, err := io.WriteString(c, greeting); err != nil {
					return
				}
				if half, ok := c.(interface{ CloseWrite() error }); ok && ends {
					_ = half.CloseWrite()
				}
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	l.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// greeted reads from c and reports whether the backend was reached.
func greeted(c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(patience))
	got, _ := io.ReadAll(c)
	return string(got) == greeting
}
