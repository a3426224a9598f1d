package main

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"
)

// lookEvery is how often somebody who reloads by hand looks.
const lookEvery = 5 * time.Millisecond

// surelyOver is how long no look may have shown what was served before. nginx gives new
// workers 100 ms before it has the old ones go.
const surelyOver = 150 * time.Millisecond

// server is one nginx with two listeners: one has the files that spinecertd delivers,
// the other those that are changed by hand. A reload reads all of them.
type server struct {
	Name      string
	Dir       string
	Spine     string // directory that is delivered into
	Delivered string // address
	Hand      door
	Superuser bool
	User      string
	*instance
}

const serverConfig = `daemon off;
{{if .Superuser}}user {{.User}};{{end}}
worker_processes 1;
pid {{.Dir}}/nginx.pid;
error_log {{.Dir}}/error.log;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path {{.Dir}}/body;
    proxy_temp_path {{.Dir}}/proxy;
    fastcgi_temp_path {{.Dir}}/fastcgi;
    uwsgi_temp_path {{.Dir}}/uwsgi;
    scgi_temp_path {{.Dir}}/scgi;
    server {
        listen {{.Delivered}} ssl;
        ssl_certificate {{.Spine}}/current/fullchain.pem;
        ssl_certificate_key {{.Spine}}/current/key.pem;
    }
    server {
        listen {{.Hand.Listen}} ssl;
        ssl_certificate {{.Hand.Certificate}};
        ssl_certificate_key {{.Hand.Key}};
    }
}
`

// firstSet has the shape of a set, so that spinecertd puts its own in its place.
const firstSet = "set-20260101T000000Z-00000000"

// startFleet starts n nginx. The function it returns ends them.
func (f *feeding) startFleet(ctx context.Context, n int) (fleet []*server, stop func(), err error) {
	stop = func() {
		for _, s := range fleet {
			s.stop()
		}
	}
	base, err := f.newSite(1)
	if err != nil {
		return nil, nil, err
	}
	addrs, err := freeAddrs(2 * n)
	if err != nil {
		return nil, nil, err
	}
	for i := range n {
		s := &server{Name: fmt.Sprintf("nginx-%d", i), Delivered: addrs[2*i], Superuser: base.Superuser, User: base.User}
		s.Dir = filepath.Join(base.Dir, s.Name)
		s.Spine = filepath.Join(s.Dir, "spine")
		s.Hand = door{Listen: addrs[2*i+1], Certificate: filepath.Join(s.Dir, "hand.crt"), Key: filepath.Join(s.Dir, "hand.key")}
		if err := f.startServer(s); err != nil {
			stop()
			return nil, nil, err
		}
		fleet = append(fleet, s)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not serving after %s", startLimit))
	defer cancel()
	for _, s := range fleet {
		if err := errors.Join(s.awaitListener(ctx, s.Delivered), s.awaitListener(ctx, s.Hand.Listen)); err != nil {
			err = fmt.Errorf("start %s: %w%s", s.Name, err, s.tail())
			stop()
			return nil, nil, err
		}
	}
	return fleet, stop, nil
}

func (f *feeding) startServer(s *server) error {
	if err := f.firstFiles(s.Spine); err != nil {
		return err
	}
	if _, err := replacePair(s.Hand, f.servers[0], false); err != nil {
		return err
	}
	var text strings.Builder
	tmpl, err := template.New(s.Name).Parse(serverConfig)
	if err == nil {
		err = tmpl.Execute(&text, s)
	}
	if err != nil {
		return fmt.Errorf("render configuration of %s: %w", s.Name, err)
	}
	if err := os.WriteFile(s.config(), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write configuration %q: %w", s.config(), err)
	}
	s.instance, err = f.nginx.spawn(&site{Dir: s.Dir}, s.arguments()...)
	return err
}

func (s *server) config() string      { return filepath.Join(s.Dir, "nginx.conf") }
func (s *server) arguments() []string { return []string{"-p", s.Dir, "-c", s.config(), "-e", "stderr"} }

// firstFiles puts a pair where spinecertd will put its own: a server needs one to start.
func (f *feeding) firstFiles(directory string) error {
	set := filepath.Join(directory, firstSet)
	if err := os.MkdirAll(set, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Symlink(firstSet, filepath.Join(directory, "current")); err != nil {
		return fmt.Errorf("make link: %w", err)
	}
	_, err := replacePair(door{Certificate: filepath.Join(set, "fullchain.pem"), Key: filepath.Join(set, "key.pem")}, f.servers[0], false)
	return err
}

// hangup tells nginx to read its files again.
func (s *server) hangup() error { return s.cmd.Process.Signal(syscall.SIGHUP) }

// byHand changes the files of a server, tells it, and looks until its reload is over: no
// look shows what was served before any more, be it from a worker that is about to go.
// It returns when that was.
func (f *feeding) byHand(ctx context.Context, s *server, id *identity, every time.Duration, tell func(context.Context, *server) error) (time.Duration, error) {
	begun, err := replacePair(s.Hand, id, false)
	if err != nil {
		return 0, err
	}
	if err := tell(ctx, s); err != nil {
		return 0, fmt.Errorf("reload %s: %w", s.Name, err)
	}
	var since time.Time // when the first of a row of looks showed the new one
	for time.Since(begun) < rotationLimit {
		switch {
		case !f.glance(ctx, s.Hand.Listen, id):
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > surelyOver:
			return since.Sub(begun), nil
		}
		if err := sleep(ctx, every); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%s does not serve what was put there by hand%s", s.Name, s.tail())
}

// errSeen ends a handshake that has shown what it was made for.
var errSeen = errors.New("seen")

// glance reports whether a server serves a certificate. It costs the server no
// signature: with RSA key exchange there is none before the client has gone on.
func (f *feeding) glance(ctx context.Context, addr string, id *identity) bool {
	var serves bool
	c := f.client.Clone()
	c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_256_GCM_SHA384}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		serves = cs.PeerCertificates[0].Equal(id.cert)
		return errSeen
	}
	if conn, err := open(ctx, addr, c); err == nil {
		conn.NetConn().Close()
	}
	return serves
}

// eachByHand does byHand for one after the other, and returns what the slowest took,
// in milliseconds.
func (f *feeding) eachByHand(ctx context.Context, fleet []*server, key *rsa.PrivateKey, tell func(context.Context, *server) error) (float64, error) {
	id, err := f.authority.issue(serverName, key)
	if err != nil {
		return 0, err
	}
	var slowest time.Duration
	for _, s := range fleet {
		took, err := f.byHand(ctx, s, id, lookEvery, tell)
		if err != nil {
			return 0, err
		}
		slowest = max(slowest, took)
	}
	return milliseconds(slowest), nil
}

// allByHand does byHand for all at once, and returns how long the last one took, in
// milliseconds.
func (f *feeding) allByHand(ctx context.Context, fleet []*server, key *rsa.PrivateKey, tell func(context.Context, *server) error) (float64, error) {
	id, err := f.authority.issue(serverName, key)
	if err != nil {
		return 0, err
	}
	if err := sleep(ctx, betweenTurns+rand.N(betweenTurns)); err != nil {
		return 0, err
	}
	var all sync.WaitGroup
	took, errs := make([]time.Duration, len(fleet)), make([]error, len(fleet))
	for i, s := range fleet {
		all.Go(func() { took[i], errs[i] = f.byHand(ctx, s, id, lookEvery, tell) })
	}
	all.Wait()
	return milliseconds(slices.Max(took)), errors.Join(errs...)
}
