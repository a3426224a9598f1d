package box

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEnd: nothing is left, however the process of a test ends.
func TestEnd(t *testing.T) {
	Start(t).Run("true") // else this is skipped
	for _, how := range []string{"pass", "fail", "panic", "kill"} {
		t.Run(how, func(t *testing.T) {
			temp := t.TempDir()
			c, err := startChild(t, how, temp)
			if err != nil {
				t.Fatal(err)
			}
			if trace := c.trace(t); len(trace) < 4 || !alive(c.leader) {
				t.Errorf("there is nothing to be left: %v", trace)
			}
			if how == "kill" {
				_ = c.cmd.Process.Kill()
			}
			_ = c.end()
			c.awaitDeath(t)
			if how == "kill" { // the next one tidies up
				t.Setenv("TMPDIR", temp)
				mounts, err := groupMounts()
				if err != nil {
					t.Fatal(err)
				}
				sweep(mounts)
			}
			if trace := c.trace(t); len(trace) > 0 {
				t.Errorf("left: %v", trace)
			}
			if left, _ := os.ReadDir(temp); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// TestAtOnce: the tests of several packages have boxes at the same time. One is killed, the next Start tidies up after it, and the others do not notice.
func TestAtOnce(t *testing.T) {
	Start(t).Run("true") // else this is skipped
	temp := t.TempDir()
	var children [3]*child
	var errs [3]error
	done := make(chan bool)
	for i := range children {
		go func() {
			children[i], errs[i] = startChild(t, "pass", temp)
			done <- true
		}()
	}
	for range children {
		<-done
	}
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	killed := children[1]
	_ = killed.cmd.Process.Kill()
	_ = killed.end()
	killed.awaitDeath(t)
	t.Setenv("TMPDIR", temp)
	t.Run("next", func(t *testing.T) {
		Start(t).Run("true")
		if trace := killed.trace(t); len(trace) > 0 {
			t.Errorf("left of the one that was killed: %v", trace)
		}
	})
	for _, c := range []*child{children[0], children[2]} {
		if trace := c.trace(t); len(trace) < 4 || !alive(c.leader) {
			t.Errorf("of a box that is in use there is only %v", trace)
		}
		if err := c.end(); err != nil {
			t.Errorf("a test that had nothing to do with it: %v", err)
		}
		if trace := c.trace(t); len(trace) > 0 {
			t.Errorf("left: %v", trace)
		}
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestChild is what tests run in processes of their own.
func TestChild(t *testing.T) {
	how := os.Getenv("BOX_CHILD")
	switch how {
	case "":
		t.Skip("part of other tests")
	case "mounts":
		mounts, err := groupMounts()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("mounts %s\n", strings.Join(mounts, " "))
		return
	case "reuse":
		reuse(t)
		return
	case "busy":
		busy(t)
		return
	}
	b := Start(t)
	b.Run("systemd-run", "--quiet", "sleep", "infinity")
	go func() { _, _ = b.Exec(t.Context(), "sleep", "infinity") }()
	fmt.Printf("child %d %s\n", b.leader, filepath.Base(b.machine.base))
	_, _ = io.Copy(io.Discard, os.Stdin)
	switch how {
	case "fail":
		t.FailNow()
	case "panic":
		panic("as it is told")
	}
}

// child is a process of a test with a box.
type child struct {
	cmd    *exec.Cmd
	in     io.Closer
	out    io.Reader
	leader int    // PID 1 of its box
	base   string // the name of its directory
}

func childCommand(how, temp string, before ...string) *exec.Cmd {
	args := append(before, os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "BOX_CHILD="+how, "TMPDIR="+temp, "CI=true")
	return cmd
}

// startChild returns when the box of the child is up.
func startChild(t *testing.T, how, temp string) (*child, error) {
	c := &child{cmd: childCommand(how, temp)}
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in, c.out = in, out
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.end() })
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if n, _ := fmt.Sscanf(lines.Text(), "child %d %s", &c.leader, &c.base); n == 2 {
			return c, nil
		}
		fmt.Fprintln(&said, lines.Text())
	}
	return nil, fmt.Errorf("the child has no box:\n%s", said.String())
}

// end lets the child end as it was told, and waits for it.
func (c *child) end() error {
	_ = c.in.Close()
	_, _ = io.Copy(io.Discard, c.out)
	return c.cmd.Wait()
}

// awaitDeath waits for the end of the box, which comes a moment after that of a child that was killed.
func (c *child) awaitDeath(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); alive(c.leader); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d lives on", c.leader)
		}
	}
}

// trace returns what there is of the box: control groups, mounts in whatever namespace, and processes of the host. Those within it end with its
// PID 1. (The number of a namespace shows nothing: the next one gets it.)
func (c *child) trace(t *testing.T) (out []string) {
	t.Helper()
	mounts, err := groupMounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, mount := range mounts {
		if _, err := os.Stat(filepath.Join(mount, c.base)); err == nil {
			out = append(out, filepath.Join(mount, c.base))
		}
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range all {
		args, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		if strings.Contains(string(args), c.base) || strings.Contains(string(args), fmt.Sprintf("--target\x00%d\x00", c.leader)) {
			out = append(out, fmt.Sprintf("%s: %s", process, strings.ReplaceAll(string(args), "\x00", " ")))
		}
		if data, _ := os.ReadFile(filepath.Join(process, "mountinfo")); strings.Contains(string(data), c.base) {
			out = append(out, process+" has a mount of it")
		}
	}
	return out
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
