package testprogram

import (
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// endLimit is what a program has to end by itself, with its children.
const endLimit = 5 * time.Second

// Output is what a program says, while it says it. The zero value is empty.
type Output struct {
	mu   sync.Mutex
	said bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.Write(p)
}

// String returns all that was said until now.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.String()
}

// Account is who a program runs as; nil is who runs the tests.
type Account = *syscall.Credential

// Nobody is a plain user, or nil where the tests have no right to be another.
func Nobody(t testing.TB) Account {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// Start starts a program in a directory. It is ended with its children when the test ends, and a test that failed
// shows what it said.
func Start(t testing.TB, as Account, dir, program string, args ...string) (*exec.Cmd, *Output) {
	t.Helper()
	out := &Output{}
	cmd := exec.Command(program, args...) //nolint:noctx // the cleanup ends it, and its children
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
	cmd.WaitDelay = endLimit
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Of its group, which is its own: servers have workers.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		late := time.AfterFunc(endLimit, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		_ = cmd.Wait()
		late.Stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, out)
		}
	})
	return cmd, out
}
