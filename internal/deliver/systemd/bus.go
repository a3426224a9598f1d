package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names on the bus.
const (
	systemdName      = "org.freedesktop.systemd1"
	systemdPath      = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerInterface = systemdName + ".Manager"
	unitInterface    = systemdName + ".Unit"
	serviceInterface = systemdName + ".Service"
	busName          = "org.freedesktop.DBus"
	getProperty      = busName + ".Properties.Get"

	defaultAddress = "unix:path=/run/dbus/system_bus_socket"
)

// maxCalls bounds the calls under way: the system bus allows a connection 128 open replies, and refuses more.
const maxCalls = 32

// errLost is what ends a call or a wait when the connection does.
var errLost = errors.New("the connection was lost")

// errUnderWay goes with the error of a context that ended while there was a job: systemd had the request, and the unit is what is late.
var errUnderWay = errors.New("the job is under way")

// bus is one connection, with those who wait for jobs.
type bus struct {
	conn  *dbus.Conn
	calls chan struct{}   // one entry for each call under way
	own   dbus.ObjectPath // the unit whose main process this is; "" if there is none

	mu    sync.Mutex
	owner string // the unique name of systemd's connection; "" while it has none
	// systemd replies with the path of a job and sends a signal when that has ended, in this order; but replies are handed to who asked and signals are not, so a job
	// may have ended before anybody waits for it. What ended while requests were open is therefore kept until they are answered.
	open    int
	ended   map[dbus.ObjectPath]string
	waiting map[dbus.ObjectPath][]chan string // systemd makes one job of equal requests
}

// dialBus returns a connection on which the end of every job is told.
func dialBus(ctx context.Context) (*bus, error) {
	b := &bus{calls: make(chan struct{}, maxCalls), ended: map[dbus.ObjectPath]string{}, waiting: map[dbus.ObjectPath][]chan string{}}
	address := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	if address == "" {
		address = defaultAddress
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	conn, err := dbus.Dial(address, dbus.WithContext(life), dbus.WithSignalHandler(b))
	if err != nil {
		end()
		return nil, err
	}
	b.conn = conn
	// The handshake knows no context: it ends with the connection.
	stop := context.AfterFunc(ctx, end)
	if err := b.begin(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if !stop() {
		return nil, ctx.Err()
	}
	return b, nil
}

// begin makes the connection one that hears of jobs.
func (b *bus) begin(ctx context.Context) error {
	if err := b.conn.Auth(nil); err != nil {
		return err
	}
	if err := b.conn.Hello(); err != nil {
		return err
	}
	for _, match := range []string{
		"type='signal',sender='" + systemdName + "',interface='" + managerInterface + "',member='JobRemoved',path='" + string(systemdPath) + "'",
		"type='signal',sender='" + busName + "',interface='" + busName + "',member='NameOwnerChanged',arg0='" + systemdName + "'",
	} {
		if _, err := b.call(ctx, b.conn.BusObject(), busName+".AddMatch", match); err != nil {
			return err
		}
	}
	var owner string
	reply, err := b.call(ctx, b.conn.BusObject(), busName+".GetNameOwner", systemdName)
	if err == nil {
		err = dbus.Store(reply, &owner)
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	if b.owner == "" { // else a signal was faster
		b.owner = owner
	}
	b.mu.Unlock()
	if _, err = b.call(ctx, b.object(systemdPath), managerInterface+".Subscribe"); err != nil || !Supervised() {
		return err
	}
	// Not 0 for who asks: systemd 252 ends, and the host with it, where that is of another PID namespace.
	reply, err = b.call(ctx, b.object(systemdPath), managerInterface+".GetUnitByPID", uint32(os.Getpid()))
	if err == nil {
		err = dbus.Store(reply, &b.own)
	}
	if _, none := errors.AsType[dbus.Error](err); none {
		return nil
	}
	return err
}

// close ends the connection. The library waits for who is stuck in sending, and close does not.
func (b *bus) close() error {
	done := make(chan error, 1)
	go func() { done <- b.conn.Close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(lastCall):
		return errors.New("close the connection to the bus: nobody reads what was sent")
	}
}

func (b *bus) broken() bool { return b.conn.Context().Err() != nil }

func (b *bus) object(path dbus.ObjectPath) dbus.BusObject { return b.conn.Object(systemdName, path) }

// call calls a method and returns the body of the reply. It ends with ctx, even where nobody reads what is sent: the library sends
// without one. The error is errLost when the connection broke, the context's, or a dbus.Error.
func (b *bus) call(ctx context.Context, object dbus.BusObject, method string, args ...any) ([]any, error) {
	select {
	case b.calls <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.conn.Context().Done():
		return nil, errLost
	}
	done := make(chan *dbus.Call, 1)
	go func() {
		defer func() { <-b.calls }() // not when ctx ends: who is stuck in sending counts until it is sent
		done <- object.CallWithContext(ctx, method, 0, args...)
	}()
	select {
	case c := <-done:
		if _, refused := errors.AsType[dbus.Error](c.Err); c.Err != nil && !refused && ctx.Err() == nil {
			return nil, errLost
		}
		return c.Body, c.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.conn.Context().Done():
		return nil, errLost
	}
}

// property returns a property, or the zero value where there is none of that type.
func property[T any](ctx context.Context, b *bus, path dbus.ObjectPath, of, name string) (T, error) {
	var zero T
	reply, err := b.call(ctx, b.object(path), getProperty, of, name)
	if err != nil || len(reply) != 1 {
		return zero, err
	}
	variant, _ := reply[0].(dbus.Variant)
	value, _ := variant.Value().(T)
	return value, nil
}

// DeliverSignal is called by the connection for every signal, in their order and that of replies. It must not block.
func (b *bus) DeliverSignal(of, name string, signal *dbus.Signal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case of == busName && name == "NameOwnerChanged" && signal.Sender == busName:
		var which, before, after string
		if dbus.Store(signal.Body, &which, &before, &after) == nil && which == systemdName {
			b.owner = after // systemd has another one after daemon-reexec
		}
	case of == managerInterface && name == "JobRemoved" && signal.Sender == b.owner && b.owner != "":
		// Anybody may send a signal to this connection alone: so the sender, which the bus vouches for, must be systemd.
		var (
			id           uint32
			job          dbus.ObjectPath
			unit, result string
		)
		if dbus.Store(signal.Body, &id, &job, &unit, &result) == nil {
			b.end(job, result)
		}
	}
}

// end tells who waits for a job how it ended. b.mu is held.
func (b *bus) end(job dbus.ObjectPath, result string) {
	for _, waiter := range b.waiting[job] {
		waiter <- result // has room
	}
	delete(b.waiting, job)
	if b.open > 0 {
		b.ended[job] = result
	}
}

// request asks for a job and returns its path, and a channel that gets its result.
func (b *bus) request(ctx context.Context, method, unit string) (dbus.ObjectPath, chan string, error) {
	b.mu.Lock()
	b.open++
	b.mu.Unlock()
	var job dbus.ObjectPath
	reply, err := b.call(ctx, b.object(systemdPath), managerInterface+"."+method, unit, "replace")
	if err == nil {
		err = dbus.Store(reply, &job)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	result, ended := b.ended[job]
	if b.open == 0 {
		clear(b.ended)
	}
	if err != nil {
		return "", nil, err
	}
	waiter := make(chan string, 1)
	if ended {
		waiter <- result
	} else {
		b.waiting[job] = append(b.waiting[job], waiter)
	}
	return job, waiter, nil
}

// leave stops waiting.
func (b *bus) leave(job dbus.ObjectPath, waiter chan string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := slices.DeleteFunc(b.waiting[job], func(w chan string) bool { return w == waiter })
	if len(left) == 0 {
		delete(b.waiting, job)
		return
	}
	b.waiting[job] = left
}

// wait has systemd do something with a unit, and returns the result of the job. When ctx ends, the job goes on: systemd answers equal requests with one
// job, and it may be that of somebody else, who typed systemctl reload; a restart that is cancelled may leave the unit stopped. The error has errUnderWay in it then.
func (b *bus) wait(ctx context.Context, method, unit string) (string, error) {
	job, waiter, err := b.request(ctx, method, unit)
	if err != nil {
		return "", err
	}
	select {
	case result := <-waiter:
		return result, nil
	case <-ctx.Done():
		b.leave(job, waiter)
		return "", fmt.Errorf("%w: %w", errUnderWay, ctx.Err())
	case <-b.conn.Context().Done():
		return "", errLost
	}
}

// stop has a unit stopped once ctx is over, and gives systemd a moment to take that on.
func (b *bus) stop(ctx context.Context, unit string) {
	moment, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCall)
	defer cancel()
	_, _ = b.call(moment, b.object(systemdPath), managerInterface+".StopUnit", unit, "replace")
}
