package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// child is a program that the sandbox has started. It does not outlive the sandbox,
// in whatever way that ends.
type child struct {
	name   string // for messages
	log    string // what it says
	pid    int
	exited chan struct{} // closed when it has ended
	err    error         // how it ended, once exited is closed
}

// startChild starts a program in a directory and returns at once. What it says is
// added to the file log; environ is added to our environment.
func startChild(ctx context.Context, name, log, dir string, environ []string, program string, args ...string) (*child, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	c := &child{name: name, log: log, exited: make(chan struct{})}
	// The end of ctx must not kill it: it is stopped after the traffic, by SIGTERM.
	command := exec.CommandContext(context.WithoutCancel(ctx), program, args...)
	command.Dir, command.Env = dir, append(os.Environ(), environ...)
	command.Stdout, command.Stderr = out, out
	// Its own process group, so that Ctrl-C reaches it only through us, after the
	// traffic has stopped; and it does not outlive us.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() {
		defer close(c.exited)
		defer out.Close()
		// Pdeathsig is sent when the thread that started the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		if err == nil {
			c.pid = command.Process.Pid
		}
		started <- err
		if err == nil {
			c.err = command.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// ended is how it ended, nil while it runs.
func (c *child) ended() error {
	select {
	case <-c.exited:
		return fmt.Errorf("%s ended: %w", c.name, cmpError(c.err, errors.New("exit status 0")))
	default:
		return nil
	}
}

// stop sends SIGTERM and waits; after stopTimeout it kills, with all that it started.
// It returns how it ended, nil for exit status 0.
func (c *child) stop() error {
	select {
	case <-c.exited:
		return fmt.Errorf("%s ended before it was asked to: %w%s", c.name, cmpError(c.err, errors.New("exit status 0")), c.tail())
	default:
	}
	// It may end in between; Wait tells.
	_ = syscall.Kill(c.pid, syscall.SIGTERM)
	select {
	case <-c.exited:
		if c.err != nil {
			return fmt.Errorf("stop %s: %w%s", c.name, c.err, c.tail())
		}
		return nil
	case <-time.After(stopTimeout):
		_ = syscall.Kill(-c.pid, syscall.SIGKILL)
		<-c.exited
		return fmt.Errorf("stop %s: still running %s after SIGTERM, killed", c.name, stopTimeout)
	}
}

// tail returns the last lines of its log, to go below an error.
func (c *child) tail() string {
	content, err := os.ReadFile(c.log)
	if err != nil || len(content) == 0 {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return "\n" + string(bytes.Join(lines[max(len(lines)-10, 0):], []byte("\n")))
}
