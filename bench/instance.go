package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	startAttempts = 3
	startLimit    = 20 * time.Second
	stopLimit     = 5 * time.Second
	// warmUp lets a proxy load its libraries and grow its heap before anything
	// is counted.
	warmUp = 40
)

// instance is one running proxy, the leader of its own process group.
type instance struct {
	proxy  proxy
	site   *site
	cmd    *exec.Cmd
	begun  time.Time     // just before the process was
	output string        // file: stdout and stderr
	ended  chan struct{} // closed when the process has ended
}

// start starts p with that many listeners, and returns once it serves, asks for
// client certificates and has been warmed up. What is to be other than usual is for changes.
func (l *lab) start(ctx context.Context, p proxy, doors int, changes ...func(*site)) (*instance, error) {
	var err error
	for range startAttempts {
		var in *instance
		if in, err = l.launch(p, doors, changes); err != nil {
			return nil, err
		}
		if err = l.ready(ctx, in); err == nil {
			return in, nil
		}
		tail := in.tail()
		in.stop()
		err = fmt.Errorf("start %s: %w%s", p.name, err, tail)
		if ctx.Err() != nil || !strings.Contains(strings.ToLower(tail), "in use") {
			break // only a port that was taken in between is worth another try
		}
	}
	return nil, err
}

func (l *lab) launch(p proxy, doors int, changes []func(*site)) (*instance, error) {
	s, err := l.newSite(doors)
	if err != nil {
		return nil, err
	}
	for _, change := range changes {
		change(s)
	}
	config, err := s.write(p)
	if err != nil {
		return nil, err
	}
	return p.spawn(s, p.arguments(config)...)
}

// spawn starts p on the files of a site.
func (p proxy) spawn(s *site, arguments ...string) (*instance, error) {
	in := &instance{proxy: p, site: s, output: filepath.Join(s.Dir, "output"), ended: make(chan struct{})}
	out, err := os.OpenFile(in.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open output of %s: %w", p.name, err)
	}
	defer out.Close()
	in.cmd = exec.Command(p.binary, arguments...)
	in.cmd.Dir, in.cmd.Stdout, in.cmd.Stderr = s.Dir, out, out
	// A group of its own, so that a Ctrl-C reaches it through stop alone.
	in.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in.begun = time.Now()
	if err := in.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		_ = in.cmd.Wait() // ProcessState says how
		close(in.ended)
	}()
	return in, nil
}

// ready waits until every listener accepts, checks the first one's manners and
// warms it up.
func (l *lab) ready(ctx context.Context, in *instance) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not serving after %s", startLimit))
	defer cancel()
	for _, d := range in.site.Doors {
		if err := in.awaitListener(ctx, d.Listen); err != nil {
			return err
		}
	}
	addr := in.addr()
	if cs, err := visit(ctx, addr, l.client); err != nil {
		return err
	} else if err := checkConditions(cs); err != nil {
		return err
	}
	anonymous := l.client.Clone()
	anonymous.GetClientCertificate = nil
	if _, err := visit(ctx, addr, anonymous); err == nil {
		return errors.New("it served a client without a certificate")
	}
	return runClients(ctx, warmUp, func(ctx context.Context, _ int) error {
		_, err := visit(ctx, addr, l.client)
		return err
	})
}

func (in *instance) awaitListener(ctx context.Context, addr string) error {
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-in.ended:
			return fmt.Errorf("it ended: %s", in.cmd.ProcessState)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the process group, first politely.
func (in *instance) stop() {
	group := -in.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-in.ended:
	case <-time.After(stopLimit):
	}
	// Also when the leader has ended: a worker may have outlived it. The
	// group's number cannot have been given to another while a member lives.
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-in.ended
}

func (in *instance) addr() string                { return in.site.Doors[0].Listen }
func (in *instance) cpu() (time.Duration, error) { return treeCPU(in.cmd.Process.Pid) }
func (in *instance) memory() (memory, error)     { return treeMemory(in.cmd.Process.Pid) }

// tail returns the last lines of the output, indented, for an error.
func (in *instance) tail() string {
	data, err := os.ReadFile(in.output)
	if err != nil || len(data) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	lines = lines[max(0, len(lines)-8):]
	return "\n    " + strings.Join(lines, "\n    ")
}
