package state

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/pki"
)

// envWay holds the state directory of a child that acts as its owner and locks it.
const envWay = "SPINECERT_TEST_WAY"

// wayChild says as whom it acts, and then whether it could lock.
func wayChild() int {
	dir := os.Getenv(envWay)
	if err := ActAsOwner(dir); err != nil {
		fmt.Printf("%v; %s", err, pki.Hint(err))
		return 1
	}
	fmt.Printf("acts as %d:%d", os.Geteuid(), os.Getegid())
	d, err := Lock(dir, Options{})
	if err != nil {
		return 2
	}
	_ = d.Close()
	return 0
}

// TestActAsOwnerOnTheWay: who owns a directory or a link above the state directory
// decides where it is, and root writes nowhere for him.
func TestActAsOwnerOnTheWay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can act as another user")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	give := func(path string) error { return os.Lchown(path, 4711, 4712) }
	for name, c := range map[string]struct {
		plan func(base string) error // base is root's; victim in it, too
		dir  string                  // below base
		want string
		exit int
	}{
		"link below his directory": {dir: "his/state", want: "acts as 4711:4712", exit: 2, plan: func(base string) error {
			return errors.Join(os.Mkdir(base+"/his", 0o755), os.Symlink(base+"/victim", base+"/his/state"), give(base+"/his"))
		}},
		"his directory, a link to it": {dir: "ours/state", want: "acts as 4711:4712", exit: 2, plan: func(base string) error {
			return errors.Join(os.Mkdir(base+"/his", 0o755), os.Symlink("../victim", base+"/his/state"), give(base+"/his"), os.Symlink("his", base+"/ours"))
		}},
		"root's below his directory": {dir: "his/state", want: "acts as 4711:4712", exit: 2, plan: func(base string) error {
			return errors.Join(os.MkdirAll(base+"/his/state", 0o700), os.Chmod(base+"/his", 0o755), give(base+"/his"))
		}},
		"missing below his directory": {dir: "his/new/state", want: "acts as 4711:4712", plan: func(base string) error {
			return errors.Join(os.Mkdir(base+"/his", 0o755), give(base+"/his"))
		}},
		"his link in a sticky directory": {dir: "tmp/state", want: "acts as 4711:4712", exit: 2, plan: func(base string) error {
			return errors.Join(os.Mkdir(base+"/tmp", 0o755), os.Chmod(base+"/tmp", os.ModeSticky|0o777), os.Symlink("../victim", base+"/tmp/state"), give(base+"/tmp/state"))
		}},
		"missing in a sticky directory": {dir: "tmp/state", want: "others may put something in its place; make it", exit: 1, plan: func(base string) error {
			return errors.Join(os.Mkdir(base+"/tmp", 0o755), os.Chmod(base+"/tmp", os.ModeSticky|0o777))
		}},
		"missing behind a link in a sticky directory": {dir: "tmp/link", want: "others may put something in its place; make it", exit: 1, plan: func(base string) error {
			return errors.Join(os.Mkdir(base+"/tmp", 0o755), os.Chmod(base+"/tmp", os.ModeSticky|0o777), os.Symlink("state", base+"/tmp/link"))
		}},
		"root's in a sticky directory": {dir: "tmp/state", want: "acts as 0:0", plan: func(base string) error {
			return errors.Join(os.MkdirAll(base+"/tmp/state", 0o700), os.Chmod(base+"/tmp", os.ModeSticky|0o777))
		}},
		"all may write above it": {dir: "open/state", want: "/open\" above it, and put another in its place; chmod go-w", exit: 1, plan: func(base string) error {
			return errors.Join(os.MkdirAll(base+"/open/state", 0o700), os.Chmod(base+"/open", 0o777))
		}},
		"links in a circle": {dir: "a/state", want: "too many levels of symbolic links", exit: 1, plan: func(base string) error {
			return errors.Join(os.Symlink("b", base+"/a"), os.Symlink("./../"+filepath.Base(base)+"/a", base+"/b"))
		}},
		"missing, all root's": {dir: "a/b/state", want: "acts as 0:0", plan: func(string) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			base, err := os.MkdirTemp("", "way")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(base)
			if err := errors.Join(os.Chmod(base, 0o755), os.Mkdir(base+"/victim", 0o700), c.plan(base)); err != nil {
				t.Fatal(err)
			}
			child := exec.CommandContext(t.Context(), self)
			child.Env = append(os.Environ(), envWay+"="+filepath.Join(base, c.dir))
			out, err := child.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := child.ProcessState.ExitCode(); got != c.exit || !strings.Contains(string(out), c.want) {
				t.Errorf("exit %d, want %d: %s, want %s", got, c.exit, out, c.want)
			}
			if names, err := os.ReadDir(base + "/victim"); err != nil || len(names) > 0 {
				t.Errorf("written there: %v, %v", names, err)
			}
			if info, err := os.Stat(base + "/his/new/state/slots"); err == nil && info.Sys().(*syscall.Stat_t).Uid != 4711 {
				t.Error("what was made is not his")
			}
		})
	}
}
