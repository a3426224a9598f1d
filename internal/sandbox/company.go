package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// How long a service may take: to start, to be proved after a rotation, and to be
// rolled back after a broken delivery.
const (
	startWithin  = 10 * time.Second
	provedWithin = 10 * time.Second
	backWithin   = 10 * time.Second
)

// fastest is how many rotations of the services there are in a second at most: each
// is a reload, which is waited for.
const fastest = 2

// serviceRotations is how often the services rotate in a rehearsal.
func serviceRotations(rotations int, duration time.Duration) int {
	return max(min(rotations, int(duration.Seconds()*fastest)), 1)
}

// serviceStatus is how a service stands by the word of the daemon.
type serviceStatus struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Step      string `json:"step"`
	Reason    string `json:"reason"`
	LastError string `json:"last_error"`

	Desired, Delivered, Proved struct {
		Leaf string `json:"leaf"`
	}
}

// String says how it stands.
func (s serviceStatus) String() string {
	text := "the daemon says " + cmp.Or(s.State, "nothing")
	for _, word := range []string{s.Step, s.Reason, s.LastError} {
		if word != "" {
			text += ", " + word
		}
	}
	return text
}

func (s status) service(name string) serviceStatus {
	for _, service := range s.Services {
		if service.Name == name {
			return service
		}
	}
	return serviceStatus{Name: name}
}

// awaitService waits until a service stands as it should. The error says how it
// stands instead.
func (s *stage) awaitService(ctx context.Context, name string, within time.Duration, done func(serviceStatus) bool) (last serviceStatus, err error) {
	err = s.daemon.await(ctx, within, func(now status) bool {
		last = now.service(name)
		return done(last)
	})
	if err != nil && s.daemon.ended() == nil {
		err = fmt.Errorf("not within %s: %s", within, last)
	}
	return last, err
}

// deliver has the daemon deliver to a service now, held or not.
func (d *daemon) deliver(ctx context.Context, service string) error {
	wait := apiTimeout - time.Second
	return d.post(ctx, "/v1/deliver", map[string]any{"service": service, "now": true, "timeout_ms": wait.Milliseconds()}, nil)
}

// plainPath are the letters that nginx, HAProxy and the commands of its socket take in
// a path as they are.
const plainPath = "/._-+@=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// maxHAProxySocket is the room that HAProxy leaves for the path of a socket.
const maxHAProxySocket = 97

// addServices makes what the programs need before they are started.
func (c *cast) addServices(o Options) error {
	if len(o.programs) == 0 {
		return nil
	}
	if strings.Trim(c.layout.dir, plainPath) != "" {
		return usageError{message: fmt.Sprintf("directory %q: not every program takes such a path", c.layout.dir), hint: "choose a --dir, or a TMPDIR, of letters, digits and / . _ -"}
	}
	if len(c.layout.haproxySocket()) > maxHAProxySocket {
		return usageError{message: fmt.Sprintf("directory %q: path too long for a socket of HAProxy", c.layout.dir), hint: "choose a shorter --dir"}
	}
	for _, p := range o.programs {
		v, err := newService(c.layout, p, c.proxy, o.keepBad)
		if err != nil {
			return err
		}
		c.services = append(c.services, v)
	}
	return nil
}

func (c *cast) closeServices() error {
	var err error
	for _, v := range c.services {
		err = errors.Join(err, v.close())
	}
	c.services = nil
	return err
}

// startServices starts the programs as a host does for the first time: the daemon
// has delivered, and says failed, as nobody answers; then they start with what is
// there, and the daemon is told to look again, which it would do by itself a little later.
func (s *stage) startServices(ctx context.Context) error {
	var group sync.WaitGroup
	errs := make([]error, len(s.services))
	for i, v := range s.services {
		s.listeners[v.name] = v.address
		group.Go(func() { errs[i] = s.startService(ctx, v) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func (s *stage) startService(ctx context.Context, v *service) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if _, err := s.awaitService(ctx, v.name, startWithin, func(now serviceStatus) bool {
		_, err := os.Stat(v.delivered(v.needs))
		return err == nil && now.State == "failed"
	}); err != nil {
		return fmt.Errorf("wait for the first delivery to %s: %w", v.name, err)
	}
	if err := v.start(ctx); err != nil {
		return err
	}
	for {
		leaf, err := v.look(ctx)
		if err == nil {
			v.leaf = leaf
			break
		}
		select {
		case <-v.child.exited:
			return fmt.Errorf("%w%s", v.child.ended(), v.child.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w%s", v.name, err, v.child.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
	refused := s.daemon.deliver(ctx, v.name)
	if _, err := s.awaitService(ctx, v.name, startWithin, func(now serviceStatus) bool { return now.State == "in_sync" }); err != nil {
		return errors.Join(fmt.Errorf("wait for the proof of %s: %w", v.name, err), refused)
	}
	return nil
}

// A company is the services in a rehearsal.
type company struct {
	*stage
	picture   *picture
	rotations int
	within    time.Duration // for a broken one to be rolled back
}

// rehearse rotates the slot of the services, spread over a time: each next one when the one
// before is proved everywhere. The error is for what the sandbox could not do.
func (c *company) rehearse(ctx context.Context, over time.Duration) error {
	began := time.Now()
	for i := range c.rotations {
		if !c.wait(ctx, began.Add(over*time.Duration(i)/time.Duration(c.rotations))) {
			return nil
		}
		if err := c.rotate(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// breaks reports whether the delivery to the service in a place is broken in a
// rotation: one of each, spread over all.
func breaks(place, services, rotation, rotations int) bool {
	return rotation == rotations*(place+1)/(services+1)
}

// rotate writes the next pair of the slot and follows all services.
func (c *company) rotate(ctx context.Context, n int) error {
	id, next, number, err := c.good(serviceSlot, time.Now())
	if err != nil {
		return err
	}
	var broken []bool
	for i, v := range c.services {
		broken = append(broken, breaks(i, len(c.services), n, c.rotations))
		if broken[i] {
			if err := v.spoil(); err != nil {
				return fmt.Errorf("break %s: %w", v.name, err)
			}
		}
	}
	how := styles()[n%len(styles())]
	completed, err := c.places[serviceSlot].write(how, next)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	errs := make([]error, len(c.services))
	for i, v := range c.services {
		f := &following{company: c, service: v, number: number, leaf: fingerprint(id.leaf), completed: completed}
		group.Go(func() { errs[i] = f.follow(ctx, broken[i]) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// following is one service in one rotation.
type following struct {
	*company
	service   *service
	number    int    // of the rotation
	leaf      string // that it has to serve
	completed time.Time
}

// follow sees what becomes of the rotation. What the daemon gets wrong is entered in
// the books.
func (f *following) follow(ctx context.Context, broken bool) error {
	v := f.service
	v.note(func(r *ServiceResult) { r.Rotations++ })
	if broken {
		switch held, err := f.goesBack(ctx); {
		case err == nil:
			v.note(func(r *ServiceResult) { r.RolledBack++ })
			f.picture.event(fmt.Sprintf("%s broken: the delivery was rolled back after %.1f ms (%s, %s)", v.name, milliseconds(time.Since(f.completed)), held.Step, held.Reason))
		case !over(ctx):
			f.remark(fmt.Errorf("a broken delivery was not rolled back: %w", err))
		}
		if err := v.mend(); err != nil {
			return fmt.Errorf("mend %s: %w", v.name, err)
		}
		if err := f.daemon.deliver(ctx, v.name); err != nil && !over(ctx) {
			f.remark(fmt.Errorf("mended and delivered now: %w", err))
		}
	}
	seen, err := f.proved(ctx)
	switch {
	case err == nil && broken:
		v.proved(0) // it waited for us
	case err == nil:
		v.proved(seen.Sub(f.completed))
	case !over(ctx):
		f.remark(fmt.Errorf("a rotation was not proved: %w", err))
	}
	return nil
}

func (f *following) remark(err error) {
	text := f.service.name + ": " + strings.ReplaceAll(err.Error(), "\n", "; ")
	f.ledger.remark(text)
	f.picture.event(text)
}

// goesBack waits until the daemon says that it holds the delivery, with the set before in
// place; then every new connection has to be shown the certificate before.
func (f *following) goesBack(ctx context.Context) (serviceStatus, error) {
	held, err := f.awaitService(ctx, f.service.name, f.within, func(now serviceStatus) bool {
		return now.State == "held" && now.Desired.Leaf == f.leaf && now.Delivered.Leaf == f.service.leaf
	})
	if err != nil {
		return held, err
	}
	for range 3 {
		got, err := f.look(ctx)
		if err != nil {
			return held, err
		}
		if got != f.service.leaf {
			return held, fmt.Errorf("it serves %.16s, not the certificate before, %.16s", got, f.service.leaf)
		}
	}
	return held, nil
}

// proved waits until the daemon says that the service serves the certificate, and a handshake
// of our own shows it. It returns the time of the later of the two.
func (f *following) proved(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, provedWithin)
	defer cancel()
	if _, err := f.awaitService(ctx, f.service.name, provedWithin, func(now serviceStatus) bool {
		return now.State == "in_sync" && now.Proved.Leaf == f.leaf
	}); err != nil {
		return time.Time{}, err
	}
	for {
		got, err := f.look(ctx)
		now := time.Now()
		if err != nil {
			return now, err
		}
		if got == f.leaf {
			f.service.leaf = got
			f.ledger.confirm(f.service.name, f.number, now)
			return now, nil
		}
		select { // an old worker may answer a moment longer
		case <-ctx.Done():
			return now, fmt.Errorf("the daemon says that it is proved, and it serves %.16s, not %.16s", got, f.leaf)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// look makes a connection of our own, which is a request as any.
func (f *following) look(ctx context.Context) (string, error) {
	leaf, err := f.service.look(ctx)
	if !over(ctx) {
		f.ledger.request("probe of "+f.service.name, err)
	}
	return leaf, err
}
