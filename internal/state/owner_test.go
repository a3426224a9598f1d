package state

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/pki"
)

// envOwner holds the state directory of a child that acts as its owner.
const envOwner = "SPINECERT_TEST_OWNER"

// ownerChild becomes the owner, says who it is on two threads, and writes.
func ownerChild() int {
	dir := os.Getenv(envOwner)
	// A thread that was there before must change as well.
	locked, release := make(chan struct{}), make(chan struct{})
	ids := make(chan string)
	go func() {
		runtime.LockOSThread()
		close(locked)
		<-release
		ids <- whoami()
	}()
	<-locked
	if err := ActAsOwner(dir); err != nil {
		fmt.Println(err)
		return 1
	}
	close(release)
	fmt.Println(whoami())
	fmt.Println(<-ids)
	fmt.Println("root again:", syscall.Setresuid(0, 0, 0) == nil)
	d, err := Lock(dir, Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	key, err := pki.GenerateKey(pki.KeyKind("ecdsa-p256"))
	if err == nil {
		_, err = d.NewRequest(newRequest(0), key, func() ([]byte, error) { return pki.NewRequest(key, testFQDN) })
	}
	if err = errors.Join(err, d.Close()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func whoami() string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", syscall.Gettid()))
	var out []string
	for line := range strings.Lines(string(data)) {
		if key, _, _ := strings.Cut(line, ":"); slices.Contains([]string{"Uid", "Gid", "Groups", "CapEff"}, key) {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, ", ")
}

func TestActAsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can act as another user")
	}
	// Not t.TempDir: the directories above it are root's alone in some places.
	base, err := os.MkdirTemp("", "state")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	dir := filepath.Join(base, "state")
	if err := errors.Join(os.Chmod(base, 0o755), os.Mkdir(dir, 0o700), os.Chown(dir, 4711, 4712)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), envOwner+"="+dir)
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{0, 99}}}
	out, err := child.CombinedOutput()
	who := "Uid: 4711 4711 4711 4711, Gid: 4712 4712 4712 4712, Groups:, CapEff: 0000000000000000\n"
	if want := who + who + "root again: false\n"; err != nil || string(out) != want {
		t.Fatalf("%v\n got %s\nwant %s", err, out, want)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	wantClean(t, d) // the owner of everything is the owner of the directory
	if requests, err := d.Requests(""); len(requests) != 1 || err != nil {
		t.Errorf("%v, %v", requests, err)
	}
}

func TestActAsOwnerDoesNothing(t *testing.T) {
	before := whoami()
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "missing")} {
		if err := ActAsOwner(path); err != nil {
			t.Error(err)
		}
	}
	if got := whoami(); got != before {
		t.Errorf("was %s, is %s", before, got)
	}
}
