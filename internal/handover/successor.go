package handover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Offer is what a new process is started with.
type Offer struct {
	Program    string   // path
	Arguments  []string // without the program
	Version    string   // of the old process
	State      string   // the state directory
	Supervised bool     // by systemd, whose child the new process is to be
	Files      []File   // with File; they stay the caller's
}

// Successor is the new process, seen by the old one.
type Successor struct {
	PID   int
	pidfd int
	line  *line
}

// firstFile is the descriptor of the socket pair in the new process; what is offered follows it.
const firstFile = 3

// Start starts the new process. Output goes where that of this process goes. The error says why it could not be started.
func Start(o Offer) (*Successor, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "handover"), os.NewFile(uintptr(pair[1]), "handover")
	defer theirs.Close()
	l, err := newLine(ours)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	s := &Successor{line: l, pidfd: -1}
	if err := s.start(o, pair[1]); err != nil {
		_ = l.conn.Close()
		return nil, fmt.Errorf("start %q: %w", o.Program, err)
	}
	files := slices.Clone(o.Files)
	for i := range files {
		files[i].FD = firstFile + 1 + i
	}
	if err := l.say(message{Step: stepOffer, Protocol: protocol, Version: o.Version, State: o.State, Supervised: o.Supervised, Files: files}); err != nil {
		s.Kill()
		return nil, fmt.Errorf("talk to the new process: %w", err)
	}
	return s, nil
}

// start forks. os/exec does not: it would wait for the process, which is not ours to wait for when systemd is its parent.
func (s *Successor) start(o Offer, control int) error {
	attr := &syscall.ProcAttr{Env: environment(os.Environ()), Sys: &syscall.SysProcAttr{PidFD: &s.pidfd}}
	if o.Supervised {
		attr.Sys.Cloneflags = syscall.CLONE_PARENT
	}
	err := withDescriptors([]uintptr{0, 1, 2, uintptr(control)}, o.Files, func(all []uintptr) (err error) {
		attr.Files = all
		s.PID, err = syscall.ForkExec(o.Program, append([]string{o.Program}, o.Arguments...), attr)
		return err
	})
	if err != nil {
		return err
	}
	if !o.Supervised {
		go func() { _, _ = syscall.Wait4(s.PID, nil, 0, nil) }() // no zombie
	}
	return nil
}

// withDescriptors calls do with the numbers before and those of the files, which stay open until it returns.
func withDescriptors(before []uintptr, files []File, do func(all []uintptr) error) error {
	if len(files) == 0 {
		return do(before)
	}
	f := files[0]
	raw, err := f.File.SyscallConn()
	var done error
	if err == nil {
		// Not Fd(), which would make the socket a blocking one, for everybody who has it.
		err = raw.Control(func(fd uintptr) { done = withDescriptors(append(before, fd), files[1:], do) })
	}
	if err != nil {
		return fmt.Errorf("give %s %q: %w", f.Kind, f.Address, err)
	}
	return done
}

// ofOneProcess are the variables that are about this process alone.
var ofOneProcess = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", Variable}

func environment(all []string) []string {
	kept := slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(ofOneProcess, name)
	})
	return append(kept, fmt.Sprintf("%s=%d", Variable, firstFile))
}

// Hello waits until the new process has read its configuration, and returns its version.
func (s *Successor) Hello(ctx context.Context) (version string, err error) {
	m, err := s.line.await(ctx, stepHello)
	return m.Version, err
}

// Stock is what a process would serve.
type Stock struct {
	Serving []string            `json:"serving,omitempty"` // slots
	Missing map[string]string   `json:"missing,omitempty"` // slots that would serve nothing, and why
	CAs     map[string][]string `json:"cas,omitempty"`     // by environment: those in force, SHA-256 in hex
}

// Stage has it read everything, and waits until it is ready; the summary is one sentence. The error is a *Refusal
// if it says why not.
func (s *Successor) Stage(ctx context.Context) (summary string, stock Stock, err error) {
	if err := s.line.say(message{Step: stepStage}); err != nil {
		return "", stock, err
	}
	m, err := s.line.await(ctx, stepReady)
	if err == nil && m.Stock == nil {
		err = errors.New("it does not say what it would serve")
	}
	if err != nil {
		return "", stock, err
	}
	return m.Summary, *m.Stock, nil
}

// Go leaves everything to it, and waits until it accepts connections. There is no way back, also where that fails.
func (s *Successor) Go(ctx context.Context) error {
	if err := s.line.say(message{Step: stepGo}); err != nil {
		return err
	}
	_, err := s.line.await(ctx, stepServing)
	return err
}

// Kill ends the process.
func (s *Successor) Kill() {
	_ = s.line.conn.Close()
	if s.pidfd >= 0 {
		_ = unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0) // it may have ended
	}
}

// Hangup has the process reload.
func (s *Successor) Hangup() { _ = unix.PidfdSendSignal(s.pidfd, unix.SIGHUP, nil, 0) }

// Close lets go of the process, which goes on.
func (s *Successor) Close() {
	_ = s.line.conn.Close()
	if s.pidfd >= 0 {
		_ = unix.Close(s.pidfd)
		s.pidfd = -1
	}
}
