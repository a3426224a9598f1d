package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// patience is how long anything may take: the machine may have much else to do.
const patience = 60 * time.Second

// Browser is a running Chromium.
type Browser struct {
	to   *os.File
	last atomic.Int64

	mu      sync.Mutex
	waiting map[int64]chan message
	pages   map[string]*Page // by session
	ended   chan struct{}
}

// message is what the protocol sends, either way.
type message struct {
	ID      int64           `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// Start starts Chromium, which ends with the test. The test is skipped where there is none,
// and fails in CI.
func Start(t testing.TB, args ...string) *Browser {
	t.Helper()
	program := testprogram.Need(t, "chromium")
	fromUs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// Its own: processes of Chromium that end late still write there when the test is over.
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, append([]string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
		"--disable-background-networking", "--disable-component-update", "--no-first-run", "--no-default-browser-check", "--mute-audio", "--hide-scrollbars",
		"--force-color-profile=srgb", "--user-data-dir=" + profile, "--remote-debugging-pipe"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = fromUs.Close(), toUs.Close()
	b := &Browser{to: to, waiting: map[int64]chan message{}, pages: map[string]*Page{}, ended: make(chan struct{})}
	go b.read(from)
	t.Cleanup(func() {
		_ = b.send(message{ID: b.last.Add(1), Method: "Browser.close"})
		exited := make(chan struct{})
		go func() { _ = cmd.Wait(); close(exited) }()
		select {
		case <-exited:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its group: what it started
		_, _ = to.Close(), from.Close()
		for end := time.Now().Add(5 * time.Second); os.RemoveAll(profile) != nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		}
	})
	return b
}

// read hands on what Chromium says, until it ends.
func (b *Browser) read(from *os.File) {
	defer close(b.ended)
	r := bufio.NewReader(from)
	for {
		data, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(data[:len(data)-1], &m); err != nil {
			continue
		}
		b.mu.Lock()
		waiting, page := b.waiting[m.ID], b.pages[m.Session]
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		switch {
		case m.ID != 0 && waiting != nil:
			waiting <- m
		case page != nil:
			page.heed(m)
		}
	}
}

func (b *Browser) send(m message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = b.to.Write(append(data, 0))
	return err
}

// ask sends a command and returns its result.
func (b *Browser) ask(session, method string, params any) (json.RawMessage, error) {
	encoded, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	m := message{ID: b.last.Add(1), Session: session, Method: method, Params: encoded}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.waiting[m.ID] = answer
	b.mu.Unlock()
	if err := b.send(m); err != nil {
		return nil, err
	}
	select {
	case a := <-answer:
		if a.Error != nil {
			return nil, fmt.Errorf("%s: %s", method, a.Error.Message)
		}
		return a.Result, nil
	case <-b.ended:
		return nil, fmt.Errorf("%s: Chromium has ended", method)
	case <-time.After(patience):
		return nil, fmt.Errorf("%s: no answer", method)
	}
}

func (b *Browser) must(t testing.TB, session, method string, params any) json.RawMessage {
	t.Helper()
	r, err := b.ask(session, method, params)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
