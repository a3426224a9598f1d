package box

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dial connects to an address of the box, which its loopback alone may have, from the process of the test. address is numeric, or the path of a unix
// socket in the box.
func (b *Box) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "unix" {
		address = b.Root + address
	}
	var conn net.Conn
	err := b.inNetwork(func() error {
		var err error
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a socket of the process of the test at a numeric address of the box.
func (b *Box) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.Listener
	err := b.inNetwork(func() error {
		var err error
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// inNetwork calls open in the network of the box. What it opens stays there.
func (b *Box) inNetwork(open func() error) error {
	if !b.machine.isUp() {
		return errDown // see Command
	}
	space, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", b.leader))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		// A thread that is not unlocked ends with its goroutine, and its place in the other network with it.
		runtime.LockOSThread()
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		done <- open()
	}()
	return errors.Join(<-done, space.Close())
}
