package handover

import (
	"errors"
	"fmt"
	"os"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// barrierLimit bounds the wait for systemd to have read what it was told.
const barrierLimit = 5 * time.Second

// MainPID tells systemd which process is the main one from now on: what it said before would not count
// (NotifyAccess=main), and what this one says after it does not. Without a notify socket nobody is told.
func MainPID(pid int) error {
	if _, err := sd.SdNotify(false, fmt.Sprintf("MAINPID=%d", pid)); err != nil {
		return fmt.Errorf("tell systemd the main process: %w", err)
	}
	return nil
}

// Barrier waits until systemd has read all that it was told: it does not know a process that has ended.
func Barrier() error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	if err := barrier(socket); err != nil {
		return fmt.Errorf("wait for systemd: %w", err)
	}
	return nil
}

// barrier sends a descriptor that systemd closes when it has read everything before it (sd_notify_barrier(3)).
func barrier(socket string) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	err = send(socket, "BARRIER=1", int(write.Fd()))
	if err = errors.Join(err, write.Close()); err != nil {
		return err
	}
	if err := read.SetReadDeadline(time.Now().Add(barrierLimit)); err != nil {
		return err
	}
	if _, err := read.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil // its end is all there is to read
}

// send sends a datagram with a descriptor, which package net does not on a connected socket.
func send(socket, text string, descriptor int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendmsg(fd, []byte(text), unix.UnixRights(descriptor), &unix.SockaddrUnix{Name: socket}, unix.MSG_NOSIGNAL); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	return nil
}
