package rotate

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inChild is set in a copy of the test binary that one test runs in.
const inChild = "ROTATE_TEST_CHILD"

// child runs the calling test again in a process of its own with the given
// attributes and reports whether it is the parent, which is then done.
func child(t *testing.T, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(inChild) != "" {
		return false
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inChild+"=1")
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	switch {
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("in the child:\n%s", out)
	case cmd.ProcessState == nil:
		t.Skipf("no such child process can be had: %v", err)
	case err != nil:
		t.Fatalf("in the child: %v\n%s", err, out)
	}
	return true
}
