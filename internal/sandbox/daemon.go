package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// How long the daemon may take to be ready, and to stop on SIGTERM.
const (
	readyTimeout = 10 * time.Second
	stopTimeout  = 8 * time.Second
)

// status is the part of the daemon's status that the sandbox reads (CONTRACT.md, section 3).
type status struct {
	PID     int            `json:"pid"`
	Ready   bool           `json:"ready"`
	Slots   []slotStatus   `json:"slots"`
	Tunnels []tunnelStatus `json:"tunnels"`

	Conditions []struct {
		Code    string `json:"code"`
		Subject string `json:"subject"`
	} `json:"conditions"`
}

// has tells whether a condition is there.
func (s status) has(code, subject string) bool {
	for _, c := range s.Conditions {
		if c.Code == code && c.Subject == subject {
			return true
		}
	}
	return false
}

type slotStatus struct {
	Name       string          `json:"name"`
	State      string          `json:"state"`
	Generation int64           `json:"generation"`
	SHA256     string          `json:"sha256"`
	LastError  json.RawMessage `json:"last_error"` // a sentence, or an object that holds one
}

type tunnelStatus struct {
	Name   string   `json:"name"`
	Listen []string `json:"listen"`
}

func (s status) slot(name string) slotStatus {
	for _, slot := range s.Slots {
		if slot.Name == name {
			return slot
		}
	}
	return slotStatus{Name: name}
}

// tcp returns the address of a tunnel's TCP listener, "" while it has none.
func (s status) tcp(tunnel string) string {
	for _, t := range s.Tunnels {
		if t.Name != tunnel {
			continue
		}
		for _, listen := range t.Listen {
			if address, err := netip.ParseAddrPort(listen); err == nil && address.Port() != 0 {
				return listen
			}
		}
	}
	return ""
}

// explained tells whether the daemon says why it did not take the last candidate.
func (s slotStatus) explained() bool {
	text := string(bytes.TrimSpace(s.LastError))
	return text != "" && text != "null" && text != `""`
}

// daemon is the real spinecertd, as a child.
type daemon struct {
	socket string
	log    string
	client *http.Client
	pid    int
	exited chan struct{} // closed when it has ended
	err    error         // how it ended, once exited is closed
}

// findDaemon returns the absolute path of the program; "" is the spinecertd in
// the directory of this executable.
func findDaemon(path string) (string, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find own executable: %w", err)
		}
		path = filepath.Join(filepath.Dir(self), "spinecertd")
	}
	// The child starts in another directory.
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find daemon: %w", err)
	}
	if _, err := exec.LookPath(path); err != nil {
		return "", usageError{message: fmt.Sprintf("find daemon %q: %v", path, errors.Unwrap(err)), hint: "build it (make build), or name it with --daemon PATH"}
	}
	return path, nil
}

// startDaemon starts the program and returns at once; ready waits for it.
func startDaemon(ctx context.Context, program string, l *layout) (*daemon, error) {
	log, err := os.OpenFile(l.daemonLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of the daemon: %w", err)
	}
	d := &daemon{socket: l.adminSocket(), log: l.daemonLog(), exited: make(chan struct{})}
	d.client = &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.socket)
		}},
	}
	// The end of ctx must not kill it: it is stopped after the traffic, by SIGTERM.
	command := exec.CommandContext(context.WithoutCancel(ctx), program, "--config", l.config())
	command.Dir = l.dir
	command.Stdout, command.Stderr = log, log
	// Its own process group, so that Ctrl-C reaches it only through us, after the
	// traffic has stopped; and it does not outlive us.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() {
		defer close(d.exited)
		defer log.Close()
		// Pdeathsig is sent when the thread that started the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		if err == nil {
			d.pid = command.Process.Pid
		}
		started <- err
		if err == nil {
			d.err = command.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	return d, nil
}

// status asks the daemon over its admin socket.
func (d *daemon) status(ctx context.Context) (status, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://spinecertd/v1/status", nil)
	if err != nil {
		return status{}, err
	}
	response, err := d.client.Do(request)
	if err != nil {
		return status{}, fmt.Errorf("ask daemon: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return status{}, fmt.Errorf("ask daemon: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return status{}, fmt.Errorf("ask daemon: %s", response.Status)
	}
	return parseStatus(body)
}

// parseStatus takes the result object, bare or in the envelope of CONTRACT.md, section 3.
func parseStatus(body []byte) (status, error) {
	var envelope struct {
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return status{}, fmt.Errorf("read status: %w", err)
	}
	if len(envelope.Result) > 0 {
		body = envelope.Result
	}
	var s status
	if err := json.Unmarshal(body, &s); err != nil {
		return status{}, fmt.Errorf("read status: %w", err)
	}
	return s, nil
}

// ready waits until every slot is served and every tunnel listens.
func (d *daemon) ready(ctx context.Context) (status, error) {
	var last status
	err := d.await(ctx, readyTimeout, func(s status) bool {
		last = s
		return s.Ready && s.slot(providerSlot).State == "ready" && s.slot(consumerSlot).State == "ready" &&
			s.tcp(providerTunnel) != "" && s.tcp(consumerTunnel) != "" && s.tcp(freshTunnel) != "" && s.tcp(farTunnel) != ""
	})
	if err != nil {
		return last, fmt.Errorf("wait for daemon: %w%s", err, d.tail())
	}
	return last, nil
}

// await polls the status until done says so.
func (d *daemon) await(ctx context.Context, within time.Duration, done func(status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := d.status(ctx)
		if err == nil && done(s) {
			return nil
		}
		select {
		case <-d.exited:
			return fmt.Errorf("the daemon ended: %w", cmpError(d.err, errors.New("exit status 0")))
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func cmpError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// stop sends SIGTERM and waits; after stopTimeout it kills. It returns how the
// daemon ended, nil for exit status 0.
func (d *daemon) stop() error {
	defer d.client.CloseIdleConnections()
	select {
	case <-d.exited:
		return fmt.Errorf("the daemon ended before it was asked to: %w%s", cmpError(d.err, errors.New("exit status 0")), d.tail())
	default:
	}
	// The daemon may end in between; Wait tells.
	_ = syscall.Kill(d.pid, syscall.SIGTERM)
	select {
	case <-d.exited:
		if d.err != nil {
			return fmt.Errorf("stop daemon: %w%s", d.err, d.tail())
		}
		return nil
	case <-time.After(stopTimeout):
		_ = syscall.Kill(d.pid, syscall.SIGKILL)
		<-d.exited
		return fmt.Errorf("stop daemon: still running %s after SIGTERM, killed", stopTimeout)
	}
}

// tail returns the last lines of the daemon's log, to go below an error.
func (d *daemon) tail() string {
	content, err := os.ReadFile(d.log)
	if err != nil || len(content) == 0 {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return "\n" + string(bytes.Join(lines[max(len(lines)-10, 0):], []byte("\n")))
}
