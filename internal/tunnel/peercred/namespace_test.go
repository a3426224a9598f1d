package peercred

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serverEnv makes this program a server that says who connects.
const serverEnv = "SPINECERT_TEST_PEERCRED_SERVER"

// server says its address, and of one client who it is or why that is not known.
func server() int {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(ln.Addr())
	_ = ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	c, err := ln.Accept()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	uid, err := User(c.(*net.TCPConn))
	fmt.Println(uid, err, errors.Is(err, errUnmapped))
	_ = c.Close()
	return 0
}

// TestUserOfAnotherNamespace: in a user namespace without this user, this process
// must not count as nobody.
func TestUserOfAnotherNamespace(t *testing.T) {
	command := exec.CommandContext(t.Context(), "/proc/self/exe")
	command.Env, command.Dir = []string{serverEnv + "=1"}, "/"
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Skipf("this host makes no user namespace: %v", err)
	}
	defer func() { _ = command.Wait() }()
	lines := bufio.NewReader(out)
	address, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("server said %q, %v", address, err)
	}
	c, err := connect("tcp4", strings.TrimSpace(address))
	if err != nil {
		t.Fatalf("server said %q; %v", address, err)
	}
	defer c.Close()
	said, err := lines.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) || !strings.HasSuffix(said, " true\n") {
		t.Errorf("User of a process that has no number there: %q, %v", said, err)
	}
}

func TestMapped(t *testing.T) {
	dir := t.TempDir()
	file := func(name, contents string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const whole = "         0          0 4294967295\n"
	maps := map[string]bool{ // which tell nobody from all others
		whole:               true,
		"0 100000 65536\n":  false,
		"0 0 65536\n":       false,
		"1 1 4294967294\n":  false,
		"0 1 4294967295\n":  false,
		whole + "7 7 1\n":   false,
		"":                  false,
		"0 0 429496729500 ": false,
	}
	usual, other := file("usual", "65534\n"), file("other", "4242\n")
	for contents, good := range maps {
		uidMap := file("map", contents)
		for _, test := range []struct {
			uid      uint32
			overflow string
			stands   bool
		}{
			{65534, usual, true},
			{65534, filepath.Join(dir, "hidden"), true},
			{65534, other, false},
			{4242, other, true},
			{4242, usual, false},
			{0, usual, false},
		} {
			err := mapped(test.uid, uidMap, test.overflow)
			if (err == nil) != (good || !test.stands) {
				t.Errorf("%d by %q: %v", test.uid, contents, err)
			}
			if e := (&Error{Err: err}); err != nil && (!errors.Is(e, errUnmapped) || e.Hint() == "") {
				t.Errorf("%d by %q: %v, hint %q", test.uid, contents, err, e.Hint())
			}
		}
	}
	for _, err := range []error{mapped(65534, filepath.Join(dir, "none"), usual), mapped(65534, file("map", whole), file("garbage", "many"))} {
		if err == nil {
			t.Error("it cannot be found out, and it is no error")
		}
	}
	if err := mapped(0, filepath.Join(dir, "none"), usual); err != nil {
		t.Error(err)
	}
}
