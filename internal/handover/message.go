package handover

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// protocol is raised when the two sides would misunderstand each other.
const protocol = 1

// Variable names the descriptor of the socket pair in the environment of the new process.
const Variable = "SPINECERT_HANDOVER"

// maxMessage bounds a message. An offer of 100,000 sockets fits.
const maxMessage = 64 << 20

// The steps of a hand-over, in their order.
const (
	stepOffer   = "offer"
	stepHello   = "hello"
	stepStage   = "stage"
	stepReady   = "ready"
	stepGo      = "go"
	stepServing = "serving"
	stepNote    = "note"
	stepLeave   = "leave"
	stepRefuse  = "refuse"
)

// Kind says what an inherited descriptor is.
type Kind string

// The kinds.
const (
	Lock    Kind = "lock"    // of the state directory
	Tunnel  Kind = "tunnel"  // a listening socket of a tunnel
	Systemd Kind = "systemd" // a listening socket that systemd made
	Admin   Kind = "admin"   // the admin socket
	HTTP    Kind = "http"    // the HTTP address
)

// File is a descriptor that the new process inherits.
type File struct {
	Kind    Kind     `json:"kind"`
	Address string   `json:"address,omitempty"` // as configured; the name that systemd gave its socket
	FD      int      `json:"fd"`                // in the new process
	File    *os.File `json:"-"`
	// Detail is what the one who takes it has to know.
	Detail json.RawMessage `json:"detail,omitempty"`
}

// Refusal is why the new process does not take over.
type Refusal struct {
	Message       string   `json:"message"`
	Hint          string   `json:"hint,omitempty"`
	Problems      []string `json:"problems,omitempty"`      // of a configuration, one each
	Configuration bool     `json:"configuration,omitempty"` // the configuration is wrong
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

type message struct {
	Step       string   `json:"step"`
	Protocol   int      `json:"protocol,omitempty"`
	Version    string   `json:"version,omitempty"`
	Summary    string   `json:"summary,omitempty"`
	State      string   `json:"state,omitempty"`
	Supervised bool     `json:"supervised,omitempty"`
	Files      []File   `json:"files,omitempty"`
	Refusal    *Refusal `json:"refusal,omitempty"`
	Stock      *Stock   `json:"stock,omitempty"`
	Note       *Note    `json:"note,omitempty"`
}

// line is one end of the socket pair.
type line struct {
	conn net.Conn
	in   *bufio.Reader
	mu   sync.Mutex // held while a message is written
}

// newLine takes f over.
func newLine(f *os.File) (*line, error) {
	conn, err := net.FileConn(f)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, err
	}
	return &line{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}, nil
}

func (l *line) say(m message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(10 * time.Second)) // what fails here fails in the next line, too
	_, err = l.conn.Write(append(data, '\n'))
	if errors.Is(err, syscall.EPIPE) {
		err = errSilent
	}
	return err
}

// errSilent is the end of the socket: the other process has ended.
var errSilent = errors.New("it ended without a word")

// await waits for one of the steps, or a refusal, which is the error, or the end of ctx.
func (l *line) await(ctx context.Context, steps ...string) (message, error) {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var m message
	data, err := l.read()
	switch {
	case ctx.Err() != nil:
		return m, ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return m, errSilent
	case err != nil:
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("understand what it says: %w", err)
	}
	if m.Step == stepRefuse && m.Refusal != nil {
		return m, m.Refusal
	}
	if !slices.Contains(steps, m.Step) {
		return m, fmt.Errorf("it says %q in place of %q", m.Step, steps[0])
	}
	return m, nil
}

// read returns the next line.
func (l *line) read() ([]byte, error) {
	var all []byte
	for {
		part, err := l.in.ReadSlice('\n')
		all = append(all, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return all, err
		}
		if len(all) > maxMessage {
			return nil, fmt.Errorf("it says more than %d bytes at once", maxMessage)
		}
	}
}
