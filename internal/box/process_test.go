package box

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestKillEnded: the processes of a machine that has ended are not signalled.
func TestKillEnded(t *testing.T) {
	victim := sleeper(t)
	m := &machine{parent: victim.Process, leader: victim.Process, ended: make(chan struct{})}
	close(m.ended)
	if err := m.kill(); err != nil {
		t.Fatal(err)
	}
	if stateOf(t, victim.Process.Pid) == "Z" {
		t.Error("killed")
	}
}

// TestReusedNumber: what was found by its number is not mistaken for a later process of this number.
func TestReusedNumber(t *testing.T) {
	Start(t).Run("true") // else this is skipped
	// In a namespace of its own, where numbers can be given away at will.
	cmd := childCommand("reuse", t.TempDir(), "unshare", "--pid", "--mount", "--propagation", "private", "--fork", "--kill-child", "--mount-proc", "--")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS: TestChild") {
		t.Errorf("%v\n%s", err, out)
	}
}

func reuse(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	for range 100 {
		first := sleeper(t)
		pid := first.Process.Pid
		if err := os.WriteFile(list, []byte(strconv.Itoa(pid)+"\n0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		found := processes(list)
		if len(found) != 1 || found[0].Pid != pid {
			t.Fatalf("found %v, not process %d alone", found, pid)
		}
		m := &machine{leader: found[0]}
		if !m.isUp() {
			t.Fatal("it is said to have ended")
		}
		_ = first.Process.Kill()
		_ = first.Wait()
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Fatal(err)
		}
		second := sleeper(t)
		if second.Process.Pid != pid {
			continue // a thread has taken it
		}
		if m.isUp() {
			t.Error("another is taken for it")
		}
		if err := found[0].Kill(); err == nil || stateOf(t, pid) == "Z" {
			t.Errorf("another was killed in its place: %v", err)
		}
		return
	}
	t.Fatal("no number was given to a process twice")
}

// TestFirst: of the processes of a group only PID 1 is taken for it.
func TestFirst(t *testing.T) {
	b := Start(t)
	if !isFirst(b.machine.leader) {
		t.Error("PID 1 is not seen")
	}
	for name, pid := range map[string]int{"the test": os.Getpid(), "another of the box": other(t, b)} {
		process, err := os.FindProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		if isFirst(process) {
			t.Errorf("%s is taken for PID 1", name)
		}
	}
}

// other returns the number, on the host, of a process in the box that is not its PID 1.
func other(t *testing.T, b *Box) int {
	t.Helper()
	for _, group := range b.machine.groups {
		if found := processes(filepath.Join(group, "payload/system.slice/dbus.service/cgroup.procs")); len(found) > 0 {
			return found[0].Pid
		}
	}
	t.Fatal("dbus.service has no process")
	return 0
}

// sleeper starts a process, which is killed when the test ends.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// stateOf returns the state of a process that nobody waits for: Z when it was killed.
func stateOf(t *testing.T, pid int) string {
	t.Helper()
	// A signal is acted upon before the process is seen stopped.
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	for {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(data), ") ")
		if state := strings.Fields(after)[0]; state == "T" || state == "Z" {
			return state
		}
	}
}
