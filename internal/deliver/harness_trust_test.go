package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// options are those of start, with the lists that are in force.
func (r *rig) options() Options {
	return Options{Records: r.records, Slot: r.keeper.Slot, Events: r.event, Poll: 50 * time.Millisecond, Look: 200 * time.Millisecond,
		CRL: func(_ string, l *trust.CRL) ([]byte, error) { return r.keeper.Environments()[0].CRLData(l) }}
}

// startWith is start with other options.
func (r *rig) startWith(o Options, services ...config.Service) {
	r.Helper()
	r.stop()
	m := New(o)
	m.Apply(services)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	r.mu.Lock()
	r.manager = m
	r.ended = func() { cancel(); <-done }
	r.mu.Unlock()
}

// meanwhile is until, where something must hold each time that is looked.
func (r *rig) meanwhile(what string, holds, ok func() bool) {
	r.Helper()
	r.until(what, func() bool {
		if !holds() {
			r.Fatalf("before %s: %+v", what, r.status(r.live().Status()[0].Config.Name))
		}
		return ok()
	})
}

// turns waits until a service was looked at n times more.
func (r *rig) turns(name string, n int) {
	r.Helper()
	for range n {
		was := r.live().find(name).status.Load()
		r.until("one turn more", func() bool { return r.live().find(name).status.Load() != was })
	}
}

// takes waits until the slot has a pair.
func (r *rig) takes(leaf string) {
	r.Helper()
	r.until2(func() bool { s := r.keeper.Slot("pcs").Snapshot(); return s != nil && leafOf(s) == leaf })
}

// grow adds a CA to the environment, and nothing else changes. It returns its certificate.
func (r *rig) grow() []byte {
	r.Helper()
	data, err := os.ReadFile(r.path("trust.pem"))
	if err != nil {
		r.Fatal(err)
	}
	name := fmt.Sprintf("Another root %d", bytes.Count(data, []byte("BEGIN")))
	added := testpki.EncodeCerts(testpki.NewRoot(r.T, testpki.Name(name)).Cert)
	r.write("trust.pem", append(data, added...), 0o644)
	return added
}

// script writes a program of the operator's, and returns its path.
func (r *rig) script(name, body string) string {
	r.Helper()
	r.write(name, []byte("#!/bin/sh\n"+body+"\n"), 0o755)
	return r.path(name)
}

// lines counts what scripts have noted.
func (r *rig) lines(name string) int {
	data, _ := os.ReadFile(r.path(name))
	return bytes.Count(data, []byte("\n"))
}

// withTrust is a service that is given its identity and the CAs.
func (p *program) withTrust(name string, change ...func(*config.Service)) config.Service {
	c := p.service(name)
	c.Files = append(c.Files, config.ServiceFile{Format: "trust-pem", Name: "trust.pem", Mode: 0o644})
	for _, f := range change {
		f(&c)
	}
	return c
}

// trusts reports whether a CA is in the file that is in place.
func (p *program) trusts(ca []byte) bool {
	data, _ := os.ReadFile(filepath.Join(p.dir, "current", "trust.pem"))
	return bytes.Contains(data, bytes.TrimSpace(bytes.ReplaceAll(ca, []byte("\r"), nil)))
}

// swap has it serve something else, and returns what it served.
func (p *program) swap(cert *tls.Certificate) *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.cert
	p.cert = cert
	return was
}

// dead reports whether nobody listens.
func (p *program) dead() bool {
	c, err := net.DialTimeout("tcp", p.address, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return err != nil
}

// ofSlot is what the slot has, for a program to serve.
func (r *rig) ofSlot() *tls.Certificate {
	id := r.keeper.Slot("pcs").Snapshot().Generation.Identity
	out := &tls.Certificate{PrivateKey: id.Signer()}
	for _, c := range id.Certificates() {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}
