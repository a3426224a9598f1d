package systemd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// The program of this test is also two programs of the box: a client that runs as an unprivileged user, and
// what spinecert-hook@.service starts.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "client":
		client(os.Stdin, os.Stdout)
	case "spinecert":
		os.Exit(hookProgram(os.Args[1:]))
	default:
		os.Exit(m.Run())
	}
}

// request is what a client is asked to do.
type request struct {
	ID            int
	Do            string // job, check, active, hook, many
	Unit, Action  string
	Service, Step string
	Within        time.Duration
	Units, Jobs   int // many: jobs on each of units Unit1, Unit2, ...
	OneByOne      bool
}

// answer is what came of it. Reason "" is success.
type answer struct {
	ID                    int
	Reason, Error, Advice string
	Active                bool
	Took                  time.Duration
}

// client serves requests with one Manager, at once.
func client(in io.Reader, out io.Writer) {
	m := New()
	var mu sync.Mutex
	var all sync.WaitGroup
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			panic(err)
		}
		all.Go(func() {
			start := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), r.Within)
			defer cancel()
			active, err := do(ctx, m, r)
			a := answer{ID: r.ID, Active: active, Took: time.Since(start)}
			if err != nil {
				a.Error, a.Reason = err.Error(), "not a failure.Error"
			}
			if f, ok := errors.AsType[*failure.Error](err); ok {
				a.Reason, a.Advice = f.Reason, f.Advice
			}
			line, _ := json.Marshal(a)
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(out, "%s\n", line)
		})
	}
	if Supervised() {
		all.Wait() // its requests are a file
	}
}

func do(ctx context.Context, m *Manager, r request) (bool, error) {
	switch r.Do {
	case "job":
		return false, m.Job(ctx, r.Unit, r.Action)
	case "check":
		return false, m.Check(ctx, r.Unit)
	case "active":
		return m.Active(ctx, r.Unit)
	case "hook":
		return false, m.Hook(ctx, r.Service, r.Step)
	}
	errs := make(chan error)
	for range r.Jobs {
		for u := range r.Units {
			job := func() { errs <- m.Job(ctx, fmt.Sprintf(r.Unit, u+1), r.Action) }
			if r.OneByOne {
				go job()
				if err := <-errs; err != nil {
					return false, err
				}
				continue
			}
			go job()
		}
	}
	var all error
	for range r.Jobs * r.Units {
		if r.OneByOne {
			break
		}
		all = errors.Join(all, <-errs)
	}
	return false, all
}

// hookProgram stands in for spinecert hook SERVICE:STEP.
func hookProgram(args []string) int {
	service, step, _ := strings.Cut(args[1], ":")
	say := func(err error) { _, _ = sd.SdNotify(false, HookStatus(err)) }
	switch service {
	case "good":
		if !Supervised() {
			return 3
		}
		return 0
	case "bad":
		say(failure.New(Failed(step), "", "run: %w: no such directive", exec.CommandContext(context.Background(), "/bin/sh", "-c", "exit 7").Run()))
		return 3
	case "late":
		say(failure.New(failure.Timeout, "", "run: no end within its time"))
		return 1
	case "mute":
		return 2
	case "loud":
		line := strings.Repeat("x", 1000) + "\n"
		for range 5_000 {
			_, _ = os.Stdout.WriteString(line)
		}
		return 3
	}
	_ = os.WriteFile("/run/hook-"+service, []byte(fmt.Sprint(os.Getpid())), 0o644)
	time.Sleep(24 * time.Hour) // never
	return 0
}

// peer is a client in a box.
type peer struct {
	t   *testing.T
	in  io.Writer
	mu  sync.Mutex
	id  int
	all map[int]chan answer
}

// newUser starts a client as an unprivileged user.
func newUser(t *testing.T, b *box.Box, name, group string) *peer {
	t.Helper()
	cmd := b.Command(t.Context(), "setpriv", "--reuid", name, "--regid", group, "--clear-groups", "--no-new-privs", "/opt/test/client")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	u := &peer{t: t, in: in, all: map[int]chan answer{}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var a answer
			if json.Unmarshal(lines.Bytes(), &a) == nil {
				u.mu.Lock()
				u.all[a.ID] <- a
				u.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { _ = in.Close(); <-read; _ = cmd.Wait() })
	return u
}

// limit is for what must happen, on a machine that is busy.
const limit = time.Minute

// ask has the client do something, and returns where the answer will be.
func (u *peer) ask(r request) <-chan answer {
	u.t.Helper()
	if r.Within == 0 {
		r.Within = limit
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.id++
	r.ID = u.id
	u.all[r.ID] = make(chan answer, 1)
	line, _ := json.Marshal(r)
	if _, err := fmt.Fprintf(u.in, "%s\n", line); err != nil {
		u.t.Fatal(err)
	}
	return u.all[r.ID]
}

// get waits for an answer.
func (u *peer) get(from <-chan answer) answer {
	u.t.Helper()
	select {
	case a := <-from:
		return a
	case <-time.After(2 * limit):
		u.t.Fatal("the client does not answer")
	}
	return answer{}
}

// want has the client do something and wants a reason; "" is success.
func (u *peer) want(r request, reason string, words ...string) answer {
	u.t.Helper()
	a := u.get(u.ask(r))
	u.check(r, a, reason, words...)
	return a
}

func (u *peer) check(r request, a answer, reason string, words ...string) {
	u.t.Helper()
	if a.Reason != reason {
		u.t.Errorf("%s %s%s %s%s: reason %q (%s), want %q", r.Do, r.Action, r.Step, r.Unit, r.Service, a.Reason, a.Error, reason)
	}
	for _, word := range words {
		if !strings.Contains(a.Error+"\n"+a.Advice, word) {
			u.t.Errorf("%s %s%s %s%s: %q, hint %q: does not say %q", r.Do, r.Action, r.Step, r.Unit, r.Service, a.Error, a.Advice, word)
		}
	}
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
