package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const starvedEnv = "SPINECERT_TEST_STARVED"

// TestDescriptorsRunOut runs starved in a process of its own with few
// descriptors.
func TestDescriptorsRunOut(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), starvedEnv+"="+b.Addr().String())
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "served after starving") {
		t.Errorf("output %q", out)
	}
}

// starved takes all descriptors, has a tunnel fail to accept, gives them back
// and expects service.
func starved() int {
	tb := &mainTB{}
	limit := syscall.Rlimit{Cur: 64, Max: 64}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		tb.Fatal(err)
	}
	s := start(tb, Inbound, tls.VersionTLS12, fixedAddr(os.Getenv(starvedEnv)), nil)
	seen := s.seen
	var hogs []*os.File
	address := s.Addrs()[0].String()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	for {
		f, err := os.Open("/dev/null")
		if err != nil {
			break
		}
		hogs = append(hogs, f)
	}
	port := s.Addrs()[0].(*net.TCPAddr).Port
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	seen.await(tb, "a report", func() bool { return len(seen.troubles) > 0 })
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	time.Sleep(500 * time.Millisecond)
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	spent := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	if spent > 250*time.Millisecond {
		tb.Fatalf("spun for %v", spent)
	}
	seen.mu.Lock()
	if n := len(seen.troubles); n != 1 || seen.troubles[0].Kind != TroubleAccept || seen.troubles[0].Err == nil {
		tb.Fatalf("reported %+v", seen.troubles)
	}
	seen.mu.Unlock()
	for _, f := range hogs {
		_ = f.Close()
	}
	c, err := tls.Dial("tcp", address, s.spine.clientConfig(tls.VersionTLS12))
	if err != nil {
		tb.Fatal(err)
	}
	exchange(tb, c, "hello")
	seen.await(tb, "the recovery", func() bool { return len(seen.troubles) == 2 && seen.troubles[1].Err == nil })
	fmt.Println("served after starving")
	return 0
}

type fixedAddr string

func (fixedAddr) Network() string  { return "tcp" }
func (a fixedAddr) String() string { return string(a) }

// mainTB stands in for a *testing.T in a process that is not a test.
type mainTB struct{ testing.TB }

func (*mainTB) Context() context.Context { return context.Background() }
func (*mainTB) Helper()                  {}
func (*mainTB) Cleanup(func())           {}
func (*mainTB) Fatal(args ...any) {
	fmt.Println(args...)
	os.Exit(1)
}
func (tb *mainTB) Fatalf(format string, args ...any) { tb.Fatal(fmt.Sprintf(format, args...)) }
