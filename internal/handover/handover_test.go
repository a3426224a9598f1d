package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the new process.
func TestMain(m *testing.M) {
	if os.Getenv("HANDOVER_TEST") == "" {
		os.Exit(m.Run())
	}
	if err := successor(os.Getenv("HANDOVER_TEST")); err != nil {
		fmt.Fprintln(os.Stderr, "successor:", err)
		os.Exit(1)
	}
}

// successor takes over, and answers one connection on the socket that it inherits with what it knows. How says where it
// stops.
func successor(how string) error {
	ctx := context.Background()
	p, err := Inherited(ctx)
	if err != nil {
		return err
	}
	if how == "refuse" {
		return p.Refuse(&Refusal{Message: "no", Hint: "later", Problems: []string{"one"}, Configuration: true})
	}
	if err := p.Hello(ctx, "v2"); err != nil {
		return err
	}
	if how == "die" {
		return nil
	}
	if err := p.Ready(ctx, "all ready", Stock{Missing: map[string]string{"pcs": "torn"}}); err != nil {
		return err
	}
	file := p.Of(Tunnel)[0]
	l, err := net.FileListener(file.File)
	if err != nil {
		return err
	}
	if err := p.Serving(); err != nil {
		return err
	}
	c, err := l.Accept()
	if err != nil {
		return err
	}
	environment := map[string]string{"version": p.Version, "state": p.State, "address": file.Address, "detail": string(file.Detail), "locks": fmt.Sprint(len(p.Of(Lock))),
		"variable": os.Getenv(Variable), "listen": os.Getenv("LISTEN_FDS"), "watchdog": fmt.Sprint(os.Getenv("WATCHDOG_PID") == fmt.Sprint(os.Getpid())),
		"exec": fmt.Sprint(os.Getenv("SYSTEMD_EXEC_PID") == fmt.Sprint(os.Getpid())), "parent": fmt.Sprint(os.Getppid()), "blocking": blocking(file.File)}
	if err := errors.Join(json.NewEncoder(c).Encode(environment), c.Close()); err != nil {
		return err
	}
	if err := p.Tell(Note{Kind: NoteList, Environment: "live", Address: "a", Name: "n"}); err != nil {
		return err
	}
	if how == "leave" {
		return p.Leave()
	}
	return nil
}

func blocking(f *os.File) (says string) {
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			flags, flagErr := unix.FcntlInt(fd, unix.F_GETFL, 0)
			says = fmt.Sprint(flagErr == nil && flags&unix.O_NONBLOCK == 0)
		})
	}
	return says + errorText(err)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// start starts a successor that inherits a listening socket, and returns its address.
func start(t *testing.T, how string, supervised bool) (*Successor, string) {
	t.Helper()
	t.Setenv("HANDOVER_TEST", how)
	for name, value := range map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "2", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1", "SYSTEMD_EXEC_PID": "1"} {
		t.Setenv(name, value)
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lock, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	s, err := Start(Offer{Program: os.Args[0], Version: "v1", State: "/state", Supervised: supervised,
		Files: []File{{Kind: Lock, File: lock}, {Kind: Tunnel, Address: "there", Detail: json.RawMessage(`{"key":"k"}`), File: f}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Kill(); s.Close() })
	return s, l.Addr().String()
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestHandOver(t *testing.T) {
	for _, c := range []struct {
		how        string
		supervised bool
		lost       bool
	}{{"leave", true, false}, {"leave", false, false}, {"crash", false, true}} {
		t.Run(fmt.Sprint(c.how, c.supervised), func(t *testing.T) {
			s, address := start(t, c.how, c.supervised)
			ctx := within(t)
			if version, err := s.Hello(ctx); err != nil || version != "v2" {
				t.Fatalf("hello: %q, %v", version, err)
			}
			if summary, stock, err := s.Stage(ctx); err != nil || summary != "all ready" || stock.Missing["pcs"] != "torn" {
				t.Fatalf("stage: %q, %v, %v", summary, stock, err)
			}
			if err := s.Go(ctx); err != nil {
				t.Fatalf("go: %v", err)
			}
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			data, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			parent := os.Getpid()
			if c.supervised {
				parent = os.Getppid()
			}
			var knows map[string]string
			if err := json.Unmarshal(data, &knows); err != nil {
				t.Fatal(err)
			}
			for key, want := range map[string]string{"version": "v1", "state": "/state", "address": "there", "detail": `{"key":"k"}`, "locks": "1", "variable": "", "listen": "",
				"watchdog": "true", "exec": fmt.Sprint(c.supervised), "parent": fmt.Sprint(parent), "blocking": "false"} {
				if knows[key] != want {
					t.Errorf("%s is %q, want %q", key, knows[key], want)
				}
			}
			var told []Note
			err = s.Watch(ctx, func(n Note) error { told = append(told, n); return nil })
			if (err != nil) != c.lost || len(told) != 1 || !reflect.DeepEqual(told[0], Note{Kind: NoteList, Environment: "live", Address: "a", Name: "n"}) {
				t.Errorf("it ends with %v, and told %v", err, told)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	s, _ := start(t, "refuse", false)
	_, err := s.Hello(within(t))
	var r *Refusal
	if !errors.As(err, &r) || r.Message != "no" || r.Hint != "later" || !r.Configuration || len(r.Problems) != 1 {
		t.Errorf("hello: %#v", err)
	}
}

func TestDies(t *testing.T) {
	s, _ := start(t, "die", false)
	ctx := within(t)
	if _, err := s.Hello(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Stage(ctx); !errors.Is(err, errSilent) {
		t.Errorf("stage: %v", err)
	}
}

// TestNotStarted: neither a program that is not there nor a descriptor that is closed goes unsaid.
func TestNotStarted(t *testing.T) {
	if _, err := Start(Offer{Program: "/nowhere/spinecertd"}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), `start "/nowhere/spinecertd"`) {
		t.Errorf("a program that is not there: %v", err)
	}
	lock, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	_ = lock.Close()
	_, err = Start(Offer{Program: os.Args[0], Files: []File{{Kind: Lock, Address: "there", File: lock}}})
	if err == nil || !strings.Contains(err.Error(), `give lock "there": `) {
		t.Errorf("a closed descriptor: %v", err)
	}
}

// TestKilled: the one that waits to go is ended, and the socket stays with the other.
func TestKilled(t *testing.T) {
	s, _ := start(t, "leave", false)
	ctx := within(t)
	if _, err := s.Hello(ctx); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := s.Stage(over); !errors.Is(err, context.Canceled) {
		t.Errorf("stage: %v", err)
	}
	pid := s.PID
	s.Kill()
	for syscall.Kill(pid, 0) == nil && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("it lives on")
	}
}

func TestInheritedNothing(t *testing.T) {
	if p, err := Inherited(t.Context()); p != nil || err != nil {
		t.Errorf("without the variable: %v, %v", p, err)
	}
	for _, value := range []string{"", "x", "-1", "2", "999"} {
		t.Setenv(Variable, value)
		if p, err := Inherited(t.Context()); p != nil || err == nil {
			t.Errorf("with %q: %v, %v", value, p, err)
		}
		if _, ok := os.LookupEnv(Variable); ok {
			t.Errorf("with %q: the variable stays", value)
		}
	}
}

func TestOtherProtocol(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLine(os.NewFile(uintptr(pair[0]), "ours"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.conn.Close()
	if err := l.say(message{Step: stepOffer, Protocol: protocol + 1, Version: "v0"}); err != nil {
		t.Fatal(err)
	}
	t.Setenv(Variable, fmt.Sprint(pair[1]))
	if _, err := Inherited(t.Context()); err == nil || !strings.Contains(err.Error(), "v0 hands over in another way") {
		t.Errorf("inherited: %v", err)
	}
	if _, err := l.await(within(t), stepHello); err == nil || !strings.Contains(err.Error(), "in another way") {
		t.Errorf("the old process hears: %v", err)
	}
}
