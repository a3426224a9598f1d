package command

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

const (
	grace     = 2 * time.Second        // between SIGTERM and SIGKILL
	giveUp    = 5 * time.Second        // after SIGKILL: what does not end now sits in the kernel
	lastWords = 100 * time.Millisecond // for output still in the pipe once the program has ended
)

// Run runs a program without a shell and with a clean environment (and env), until it
// ends or ctx does. The error is a *failure.Error: timeout when ctx reached its deadline, interrupted when it was
// cancelled, not_permitted when the program may not be executed, command_unusable when it is missing or cannot be started for
// another cause, and otherwise when it ended with anything but 0; it says how, with the last lines of what was
// printed, and never with an argument, which may hold a secret.
func Run(ctx context.Context, argv, env []string, otherwise string) error {
	return RunFile(ctx, first(argv), argv, env, otherwise)
}

// RunFile is Run for a program whose file is known already, such as by its path
// without links: that file is run, and argv[0] is only the name that it is told, and that errors have.
func RunFile(ctx context.Context, file string, argv, env []string, otherwise string) error {
	return execute(ctx, file, argv, env, nil, otherwise)
}

// RunInput is Run for a program that finds input on its standard input, and after it the end. One that does not
// read it, or not to its end, has not failed for that.
func RunInput(ctx context.Context, argv, env []string, input []byte, otherwise string) error {
	if input == nil {
		input = []byte{}
	}
	return execute(ctx, first(argv), argv, env, input, otherwise)
}

func execute(ctx context.Context, file string, argv, env []string, input []byte, otherwise string) error {
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) || !filepath.IsAbs(file) {
		return failure.New(failure.CommandUnusable, "write the program with its absolute path: it is not looked up in PATH", "run %q: the path is not absolute", first(argv))
	}
	if ctx.Err() != nil {
		return ended(ctx, argv, "not started", "")
	}
	out, err := start(ctx, file, argv, env, input)
	if err != nil {
		return notStarted(argv, err)
	}
	inTime := out.wait(ctx)
	text := out.finish()
	switch {
	case !inTime && out.lost:
		return ended(ctx, argv, "it does not end, even by SIGKILL", text)
	case !inTime:
		return ended(ctx, argv, "stopped", text)
	case out.err != nil:
		return failure.New(otherwise, "run it by hand as the daemon's user", "run %q: %w%s", argv[0], out.err, text)
	}
	return nil
}

// running is a program under way.
type running struct {
	cmd     *exec.Cmd
	output  *os.File
	feed    *feed // nil where standard input is /dev/null
	keeper  keeper
	drained chan struct{} // closed when nothing more is read
	exited  chan struct{} // closed when the program is a zombie: its number, and its group's, cannot be given away yet
	err     error
	lost    bool // it did not even end by SIGKILL
}

func start(ctx context.Context, file string, argv, env []string, input []byte) (*running, error) {
	// os/exec's own pipe is closed WaitDelay after ctx or the exit, whichever comes first, and its Cancel reaches the program
	// and not the group: so the pipe, the signals and the waiting are done here.
	output, said, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = said.Close() }()
	r := &running{output: output, drained: make(chan struct{}), exited: make(chan struct{})}
	r.cmd = exec.CommandContext(context.WithoutCancel(ctx), file, argv[1:]...)
	r.cmd.Args[0] = argv[0]
	r.cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}, env...)
	r.cmd.Dir = "/"
	r.cmd.Stdout, r.cmd.Stderr = said, said
	if input != nil {
		f, far, err := newFeed()
		if err != nil {
			_ = output.Close()
			return nil, err
		}
		defer func() { _ = far.Close() }()
		r.feed, r.cmd.Stdin = f, far
	}
	r.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	// What the daemon itself inherited without close-on-exec, from whoever started it, goes no further.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err := r.cmd.Start(); err != nil {
		_ = output.Close()
		r.feed.abandon()
		return nil, err
	}
	r.feed.begin(input)
	go func() {
		defer close(r.drained)
		r.keeper.drain(output)
	}()
	go func() {
		defer close(r.exited)
		for {
			err := unix.Waitid(unix.P_PID, r.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return r, nil
}

// wait returns whether the program ended before ctx did. If not, it is stopped, with its process group.
func (r *running) wait(ctx context.Context) bool {
	select {
	case <-r.exited:
		r.err = r.cmd.Wait()
		return true
	case <-ctx.Done():
	}
	group := -r.cmd.Process.Pid
	_ = unix.Kill(group, unix.SIGTERM)
	r.exitedWithin(grace)
	// Also when the program itself is gone: children of the group may have ignored SIGTERM. It is not reaped
	// yet, so the number is still its own.
	_ = unix.Kill(group, unix.SIGKILL)
	if !r.exitedWithin(giveUp) {
		r.lost = true
		go func() { <-r.exited; _ = r.cmd.Wait() }()
		return false
	}
	r.err = r.cmd.Wait()
	return false
}

func (r *running) exitedWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.exited:
		return true
	case <-timer.C:
		return false
	}
}

// finish returns what there is to quote. A child that keeps the pipe open is not waited for.
func (r *running) finish() string {
	r.feed.end()
	_ = r.output.SetReadDeadline(time.Now().Add(lastWords))
	<-r.drained
	_ = r.output.Close()
	return r.keeper.quote()
}

func notStarted(argv []string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if info, statErr := os.Stat(argv[0]); statErr == nil && info.IsDir() {
		return failure.New(failure.CommandUnusable, "name a program", "run %q: it is a directory", argv[0])
	}
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return failure.New(failure.NotPermitted, fmt.Sprintf("look at its mode and at those of the directories above, as the user that runs it: namei -l %s", quoteShell(argv[0])), "run %q: %w", argv[0], err)
	case errors.Is(err, unix.ENOENT):
		return failure.New(failure.CommandUnusable, "check the path, and for a script also the interpreter in its first line", "run %q: %w", argv[0], err)
	case errors.Is(err, unix.ENOEXEC):
		return failure.New(failure.CommandUnusable, "a script needs its interpreter in its first line, such as #!/bin/sh", "run %q: %w", argv[0], err)
	}
	return failure.New(failure.CommandUnusable, "", "run %q: %w", argv[0], err)
}

func ended(ctx context.Context, argv []string, how, text string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return failure.New(failure.Timeout, "find out what it waits for, or give it a longer timeout", "run %q: no end within its time, %s%s", argv[0], how, text)
	}
	return failure.New(failure.Interrupted, "", "run %q: interrupted, %s%s", argv[0], how, text)
}

// quoteShell returns a word as a POSIX shell reads it.
func quoteShell(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-=:,+@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(printable(word), "'", `'\''`) + "'"
}

func first(argv []string) string {
	if len(argv) == 0 {
		return ""
	}
	return argv[0]
}
