package box

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBox(t *testing.T) {
	b := Start(t)
	if state := b.Run("systemctl", "is-system-running"); state != "running" {
		t.Errorf("the box is %s", state)
	}
	// A unit that was pushed runs, and leaves its trace in the box alone.
	b.Push("/etc/systemd/system/pushed.service", []byte("[Service]\nType=oneshot\nExecStart=/opt/pushed\nPrivateTmp=yes\nProtectSystem=strict\nReadWritePaths=/srv\n"), 0o644)
	b.Push("/opt/pushed", []byte("#!/bin/sh\nid -u >/srv/spinecert-trace\n"), 0o755)
	b.Run("systemctl", "daemon-reload")
	b.Run("systemctl", "start", "pushed.service")
	if got := b.Run("cat", "/srv/spinecert-trace"); got != "0" {
		t.Errorf("the unit ran as user %s", got)
	}
	if _, err := os.Stat("/srv/spinecert-trace"); err == nil {
		t.Error("what the box writes is on the host")
	}
	if err := b.push("/var/run/through-a-link", nil, 0o600); err == nil {
		t.Error("pushed through a link that leads out of the box")
	}
	b.Push("/run/mode", nil, 0o4751)
	if got := b.Run("stat", "-c", "%a", "/run/mode"); got != "751" {
		t.Errorf("mode %s", got)
	}
	// D-Bus and polkit are there, and the loopback is its own.
	b.Run("busctl", "status", "org.freedesktop.systemd1")
	b.Run("systemctl", "start", "polkit.service")
	if links := b.Run("sh", "-c", "ls /sys/class/net"); links != "lo" {
		t.Errorf("network interfaces %q", links)
	}
	if out, err := b.Exec(t.Context(), "sh", "-c", "echo said; exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3") || out != "said\n" {
		t.Errorf("%q, %v", out, err)
	}
	// What the host has enabled does not run here.
	if running := b.Run("systemctl", "list-units", "--type=service", "--state=running", "--no-legend", "--plain", "--no-pager"); strings.Count(running, "\n") > 3 {
		t.Errorf("runs in the box:\n%s", running)
	}
}

// TestBeside: boxes do not know of each other.
func TestBeside(t *testing.T) {
	a, b := Start(t), Start(t)
	for i, box := range []*Box{a, b} {
		box.Push("/run/number", []byte(fmt.Sprint(i)), 0o644)
		box.Run("systemd-run", "--quiet", "--unit=same", "sleep", "infinity")
	}
	a.Run("systemctl", "stop", "same")
	if got := b.Run("cat", "/run/number") + b.Run("systemctl", "is-active", "same"); got != "1active" {
		t.Errorf("the other box has %s", got)
	}
	if a.Run("cat", "/etc/machine-id") == b.Run("cat", "/etc/machine-id") {
		t.Error("both are the same machine")
	}
}

// TestEnd: nothing is left, however the process of a test ends.
func TestEnd(t *testing.T) {
	Start(t).Run("true") // else this is skipped
	for _, how := range []string{"pass", "fail", "panic", "kill"} {
		t.Run(how, func(t *testing.T) {
			temp := t.TempDir()
			cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
			cmd.Env = append(os.Environ(), "BOX_CHILD="+how, "TMPDIR="+temp)
			cmd.Stderr = os.Stderr
			in, _ := cmd.StdinPipe()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			leader, base := 0, ""
			lines := bufio.NewScanner(out)
			for lines.Scan() {
				if n, _ := fmt.Sscanf(lines.Text(), "child %d %s", &leader, &base); n == 2 {
					break
				}
			}
			if leader == 0 {
				t.Fatal("the child has no box")
			}
			if groups(t, base) == 0 || !mounted(t, leader) || !alive(leader) {
				t.Error("there is nothing to be left")
			}
			if how == "kill" {
				_ = cmd.Process.Kill()
			}
			_ = in.Close() // now it ends
			_, _ = io.Copy(io.Discard, out)
			_ = cmd.Wait()
			for end := time.Now().Add(time.Minute); alive(leader); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("process %d lives on", leader)
				}
			}
			if how == "kill" { // the next one tidies up
				t.Setenv("TMPDIR", temp)
				for end := time.Now().Add(time.Minute); groups(t, base) > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
					mounts, err := groupMounts()
					if err != nil {
						t.Fatal(err)
					}
					sweep(mounts)
				}
			}
			if n := groups(t, base); n > 0 {
				t.Errorf("%d control groups are left", n)
			}
			if left, _ := os.ReadDir(temp); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
			if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), prefix) {
				t.Error("a mount is left")
			}
		})
	}
}

// TestSweep: what is in use is left alone, also before anything runs in it.
func TestSweep(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	base, err := os.MkdirTemp("", prefix)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(base, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	sweep(nil)
	if _, err := os.Stat(base); err != nil {
		t.Errorf("swept away: %v", err)
	}
	_ = lock.Close()
	sweep(nil)
	if _, err := os.Stat(base); err == nil {
		t.Error("what nobody uses is left")
	}
}

// TestChild is what TestEnd runs.
func TestChild(t *testing.T) {
	how := os.Getenv("BOX_CHILD")
	if how == "" {
		t.Skip("part of TestEnd")
	}
	b := Start(t)
	b.Run("systemd-run", "--quiet", "sleep", "infinity")
	fmt.Printf("child %d %s\n", b.leader, filepath.Base(b.machine.base))
	_, _ = io.Copy(io.Discard, os.Stdin)
	switch how {
	case "fail":
		t.FailNow()
	case "panic":
		panic("as it is told")
	}
}

// groups counts the control groups of a box.
func groups(t *testing.T, base string) (count int) {
	t.Helper()
	mounts, err := groupMounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, mount := range mounts {
		if _, err := os.Stat(filepath.Join(mount, base)); err == nil {
			count++
		}
	}
	return count
}

func mounted(t *testing.T, leader int) bool {
	t.Helper()
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", leader))
	return strings.Contains(string(data), " - overlay ")
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
