package haproxy

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const usualBuffer = 16384 // bytes: tune.bufsize where it is not set

// fits returns an error when a file is too large for HAProxy's buffer. It must not come to that: HAProxy 2.6 hangs up without a word,
// and a command of exactly the buffer's size makes it spin and then abort itself (tried with 2.6.12).
func (s *session) fits(ctx context.Context) error {
	answer, err := s.ask(ctx, "show pools", nil)
	if err != nil {
		return err
	}
	buffer := bufferOf(answer)
	for _, file := range s.files {
		payload, err := payloadOf(file)
		if err != nil {
			return err
		}
		length := len(setCommand(file)) + len(".crt\n") + len(payload) + len("\n")
		clear(payload)
		if length >= buffer {
			return tooLarge(file, buffer)
		}
	}
	return nil
}

// bufferOf returns the size of HAProxy's buffers, in bytes, from its list of pools.
func bufferOf(answer string) int {
	if _, rest, ok := strings.Cut(answer, "Pool buffer ("); ok {
		number, _, _ := strings.Cut(rest, " ")
		if size, err := strconv.Atoi(number); err == nil && size > 0 {
			return size
		}
	}
	return usualBuffer
}

// takeTurn waits until no other Update works on a socket of the same directory, and returns what ends the turn. HAProxy would mix the files
// of two. Whoever can read the directory can hold the lock, so it is waited for only so long: what HAProxy answers is looked at in any case.
func takeTurn(ctx context.Context, socket string) func() {
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return func() {}
	}
	wait, stop := context.WithTimeout(ctx, busyFor)
	defer stop()
	for {
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			break
		}
		select {
		case <-wait.Done():
			_ = dir.Close()
			return func() {}
		case <-time.After(busyAgain / 5):
		}
	}
	return func() { _ = dir.Close() }
}
