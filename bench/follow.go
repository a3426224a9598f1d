package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// follower reads what a daemon logs.
type follower struct {
	in   *instance
	file *os.File
	rest []byte // of a line that is not whole
}

func follow(in *instance) (*follower, error) {
	file, err := os.Open(in.output)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	return &follower{in: in, file: file}, nil
}

func (w *follower) close() { w.file.Close() }

// skip forgets what was logged so far.
func (w *follower) skip() error {
	w.rest = nil
	_, err := w.file.Seek(0, io.SeekEnd)
	return err
}

// await waits until the daemon has told n times that a service is proved, and returns
// when it read the last of them, at most a millisecond late. A service that failed ends it.
func (w *follower) await(ctx context.Context, n int, limit time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%d services are not proved after %s", n, limit))
	defer cancel()
	var buf [64 << 10]byte
	for {
		k, err := w.file.Read(buf[:])
		at := time.Now()
		if err != nil && !errors.Is(err, io.EOF) {
			return at, fmt.Errorf("read log: %w", err)
		}
		w.rest = append(w.rest, buf[:k]...)
		for {
			line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
			if !whole {
				break
			}
			w.rest = rest
			switch {
			case bytes.Contains(line, []byte("event=service_delivered ")):
				n--
			case bytes.Contains(line, []byte("event=service_")):
				return at, fmt.Errorf("a service: %s", line)
			}
		}
		if n <= 0 {
			return at, nil
		}
		if k > 0 {
			continue
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return at, fmt.Errorf("%w%s", err, w.in.tail())
		}
	}
}
