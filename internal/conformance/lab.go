package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// patience is how long is waited for what must happen; it is never measured.
const patience = 20 * time.Second

// lab is what the cases of a suite share. It stands in for the testing.TB that
// package testpki asks for: a program has none.
type lab struct {
	testing.TB // nil: a method that lab lacks is a mistake here

	sample   bool // of BetterTLS, see sampled
	dir      string
	cleanups []func()
	failures []error
}

// fatal is what ends a case that could not be set up.
type fatal struct{ err error }

// guard runs f and turns what ended it by Fatal into an error.
func (l *lab) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			stop, ok := p.(fatal)
			if !ok {
				panic(p)
			}
			err = stop.err
		}
	}()
	return f()
}

// scope runs f and then what it left to clean up.
func (l *lab) scope(f func() error) error {
	outer := l.cleanups
	l.cleanups = nil
	defer func() { l.cleanups = outer }()
	err := l.guard(f)
	l.cleanup()
	return err
}

func (l *lab) cleanup() {
	for _, f := range slices.Backward(l.cleanups) {
		f()
	}
	l.cleanups = nil
}

func (l *lab) close() error {
	l.cleanup()
	if l.dir != "" {
		l.failures = append(l.failures, os.RemoveAll(l.dir))
	}
	return errors.Join(l.failures...)
}

// stride is which of the cases of BetterTLS are taken: each of this many.
func (l *lab) stride() uint {
	if l.sample {
		return sampled
	}
	return 1
}

// Helper does nothing.
func (l *lab) Helper() {}

// Fatalf ends the case.
func (l *lab) Fatalf(format string, args ...any) { panic(fatal{fmt.Errorf(format, args...)}) }

// Fatal ends the case.
func (l *lab) Fatal(args ...any) { panic(fatal{errors.New(fmt.Sprint(args...))}) }

// Errorf notes a failure of the suite.
func (l *lab) Errorf(format string, args ...any) {
	l.failures = append(l.failures, fmt.Errorf(format, args...))
}

// Cleanup has f run when the case ends, last first.
func (l *lab) Cleanup(f func()) { l.cleanups = append(l.cleanups, f) }

// Context ends with the case.
func (l *lab) Context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	l.Cleanup(cancel)
	return ctx
}

// TempDir returns a new directory, which goes with the suite.
func (l *lab) TempDir() string {
	if l.dir == "" {
		dir, err := os.MkdirTemp("", "conformance-")
		l.check(err)
		l.dir = dir
	}
	dir, err := os.MkdirTemp(l.dir, "case-")
	l.check(err)
	return dir
}

// check ends the case on an error.
func (l *lab) check(err error) {
	if err != nil {
		l.Fatal(err)
	}
}

// dial connects over TCP.
func (l *lab) dial(address string) net.Conn {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	l.check(err)
	return c
}

// listen listens on loopback.
func (l *lab) listen() net.Listener {
	var c net.ListenConfig
	ln, err := c.Listen(context.Background(), "tcp", "127.0.0.1:0")
	l.check(err)
	return ln
}

// shared returns the path of what lies beside the repository, or the reason why the suite cannot run.
func shared(parts ...string) (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	path := filepath.Join(append([]string{root, "..", "shared"}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		return "", &missing{what: fmt.Sprintf("%s is not beside the repository", filepath.Join(append([]string{"../shared"}, parts...)...))}
	}
	return path, nil
}

// repository returns the directory of go.mod at or above the working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find repository: no go.mod here or above")
		}
		dir = up
	}
}
