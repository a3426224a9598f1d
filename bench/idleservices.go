package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

const (
	// looksEvery is how often spinecertd shakes hands with a service that has nothing to do.
	looksEvery = 10 * time.Minute
	// askEvery is how often a daemon that starts is asked how its services are.
	askEvery = 200 * time.Millisecond
	// atRest is when what a start does is over.
	atRest = 10 * time.Second
)

// idle measures many services with nothing to do, beside a daemon without services.
func (f *feeding) idle(ctx context.Context) error {
	base, err := f.newSite(1)
	if err != nil {
		return err
	}
	var services []told
	var address string
	for i := range f.sizes.many {
		directory := filepath.Join(base.Dir, fmt.Sprintf("spine-%d", i))
		if err := f.firstFiles(directory); err != nil {
			return err
		}
		if address == "" { // one that answers for all
			addr, stop, err := listenFresh(directory)
			if err != nil {
				return err
			}
			defer stop()
			address = addr
		}
		services = append(services, told{fmt.Sprintf("idle-%d", i), directory, "none", address})
	}
	begun := time.Now()
	first, w, err := f.serving(ctx, services)
	if err != nil {
		return err
	}
	w.close()
	delivered := time.Since(begun)
	first.stop()
	in, err := f.again(first)
	if err != nil {
		return err
	}
	defer in.stop()
	started, err := f.synced(ctx, in)
	if err != nil {
		return err
	}
	looks, err := in.cpu()
	if err != nil {
		return err
	}
	return f.rest(ctx, in, delivered, started, looks)
}

// again starts a daemon on the files of one that has ended.
func (f *feeding) again(old *instance) (*instance, error) {
	return f.daemon.spawn(old.site, f.daemon.arguments(filepath.Join(old.site.Dir, f.daemon.name+".conf"))...)
}

// synced waits until every service is in sync, and returns how long after the start
// that was.
func (f *feeding) synced(ctx context.Context, in *instance) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, provedLimit, fmt.Errorf("services are not in sync after %s", provedLimit))
	defer cancel()
	client := admin.NewClient(filepath.Join(in.site.Dir, "admin.sock"))
	for {
		status, err := client.Status(ctx)
		took := time.Since(in.begun)
		good := 0
		for _, s := range status.Services {
			if s.State == "in_sync" {
				good++
			}
		}
		if err == nil && good == len(in.site.Services) {
			return took, nil
		}
		if err := sleep(ctx, askEvery); err != nil {
			return 0, fmt.Errorf("%w%s", err, in.tail())
		}
	}
}

// rest takes the figures of a daemon whose services have nothing to do.
func (f *feeding) rest(ctx context.Context, in *instance, delivered, started, looks time.Duration) error {
	empty, err := f.start(ctx, f.daemon, 1)
	if err != nil {
		return err
	}
	defer empty.stop()
	if err := sleep(ctx, atRest); err != nil {
		return err
	}
	both := [2]*instance{in, empty}
	var before, spent [2]time.Duration
	for i, d := range both {
		if before[i], err = d.cpu(); err != nil {
			return err
		}
	}
	if err := sleep(ctx, f.sizes.quiet); err != nil {
		return err
	}
	var mem [2]memory
	for i, d := range both {
		now, err := d.cpu()
		if err != nil {
			return err
		}
		spent[i] = now - before[i]
		if mem[i], err = d.memory(); err != nil {
			return err
		}
	}
	n := len(in.site.Services)
	polls := 100 * spent[0].Seconds() / f.sizes.quiet.Seconds()
	each := looks.Seconds() / float64(n)
	looking := 100 * each * float64(n) / looksEvery.Seconds()
	f.fact(fmt.Sprintf("%d services with nothing to do, CPU over %s", n, f.sizes.quiet), polls, "% of a core", noTarget, 2)
	f.fact("of that a daemon without services takes", 100*spent[1].Seconds()/f.sizes.quiet.Seconds(), "% of a core", noTarget, 2)
	f.fact(fmt.Sprintf("a look at a service, every %s: its files read, a handshake; at most, from a start", looksEvery), 1000*each, "ms of CPU", noTarget, 2)
	f.fact("all of it: the first with the looks", polls+looking, "% of a core", 1, 2)
	f.fact(fmt.Sprintf("resident memory with %d services", n), float64(mem[0].rss)/1e6, "MB", noTarget, 1)
	f.fact("resident memory without services", float64(mem[1].rss)/1e6, "MB", noTarget, 1)
	f.fact(fmt.Sprintf("start to %d services in sync, all proved before", n), started.Seconds(), "s", noTarget, 1)
	f.fact(fmt.Sprintf("start to %d services delivered and proved, nothing proved before", n), delivered.Seconds(), "s", noTarget, 1)
	return nil
}

// listenFresh serves what is in a directory that is delivered into: at each handshake
// it looks where the link leads to.
func listenFresh(directory string) (addr string, stop func(), err error) {
	var mu sync.Mutex
	var pair tls.Certificate
	var set string
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		now, err := os.Readlink(filepath.Join(directory, "current"))
		if err == nil && now != set {
			pair, err = tls.LoadX509KeyPair(filepath.Join(directory, now, "fullchain.pem"), filepath.Join(directory, now, "key.pem"))
			set = now
		}
		c := pair
		return &c, err
	}})
	if err != nil {
		return "", nil, fmt.Errorf("listen: %w", err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go drain(c)
		}
	}()
	return ln.Addr().String(), func() { ln.Close() }, nil
}

// drain makes the handshake and reads until the other side ends it.
func drain(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(visitLimit))
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}
