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
	"time"
)

// How long the daemon may take to be ready, any child to stop on SIGTERM, and an
// answer of the admin API.
const (
	readyTimeout = 10 * time.Second
	stopTimeout  = 8 * time.Second
	apiTimeout   = 5 * time.Second
)

// status is the part of the daemon's status that the sandbox reads (CONTRACT.md, section 3).
type status struct {
	PID     int            `json:"pid"`
	Ready   bool           `json:"ready"`
	Page    string         `json:"page"`
	Slots   []slotStatus   `json:"slots"`
	Tunnels []tunnelStatus `json:"tunnels"`

	Services []serviceStatus `json:"services"`

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

// daemon is the real spinecertd.
type daemon struct {
	*child
	client *http.Client
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
func startDaemon(ctx context.Context, program string, environ []string, l *layout) (*daemon, error) {
	c, err := startChild(ctx, "the daemon", l.daemonLog(), l.dir, environ, program, "--config", l.config())
	if err != nil {
		return nil, err
	}
	return &daemon{c, &http.Client{
		Timeout: apiTimeout,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.adminSocket())
		}},
	}}, nil
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
			return d.ended()
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

// stop stops it as any child.
func (d *daemon) stop() error {
	defer d.client.CloseIdleConnections()
	return d.child.stop()
}
