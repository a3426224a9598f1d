package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// linesOf is how many connections a peer holds open.
const linesOf = 2

// peer is a party at the far end of a tunnel that may be revoked: a client of the
// inbound one, or a server behind an outbound one. It holds connections open and
// keeps them busy.
type peer struct {
	name string // host name, the name in its certificate
	cuts *cuts
	// dial makes a connection through the tunnel; see dialer.
	dial func(ctx context.Context, resume bool) (conn net.Conn, resumed bool, err error)

	mu    sync.Mutex // held while it is revoked or comes back
	id    *identity
	lines []*line
	out   bool // revoked by hand, and not back yet
}

// label is the first part of the name: what people call it.
func (p *peer) label() string {
	label, _, _ := strings.Cut(p.name, ".")
	return label
}

// peerIdentity issues an identity for a client. Its key is ECDSA like that of a probe.
func peerIdentity(a *authority, name string, now time.Time) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return a.issue(name, key, now.Add(-backdate), now.Add(leafLife))
}

// become gives a client of the inbound tunnel an identity, and a memory for tickets.
func (p *peer) become(stand *proxy, id *identity) {
	fresh := stand.clientConfig(id)
	again := fresh.Clone()
	again.ClientSessionCache = new(tickets)
	p.id = id
	p.dial = func(ctx context.Context, resume bool) (net.Conn, bool, error) {
		config := fresh
		if resume {
			config = again
		}
		conn, err := stand.handshake(ctx, "tcp", config)
		if conn == nil {
			return nil, false, err
		}
		// Known also where the daemon refused it while resuming.
		return conn, conn.ConnectionState().DidResume, err
	}
}

// tickets is a session cache that keeps its ticket also when it was refused:
// crypto/tls would throw it away.
type tickets struct {
	last atomic.Pointer[tls.ClientSessionState]
}

// Get returns the newest ticket.
func (t *tickets) Get(string) (*tls.ClientSessionState, bool) {
	s := t.last.Load()
	return s, s != nil
}

// Put takes a new ticket.
func (t *tickets) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		t.last.Store(s)
	}
}

// reach makes p the peer behind an outbound tunnel that listens at via. Whether the
// daemon resumes is its own affair.
func (p *peer) reach(via endpoint) {
	p.dial = func(ctx context.Context, _ bool) (net.Conn, bool, error) {
		conn, err := via.dial(ctx, "", "")
		return conn, false, err
	}
}

// open makes the connections that it holds, and begins to talk until ctx ends.
func (p *peer) open(ctx context.Context, every time.Duration, group *sync.WaitGroup) error {
	p.lines = nil
	for range linesOf {
		conn, _, err := p.dial(ctx, true)
		if err != nil {
			return fmt.Errorf("connect peer %q: %w", p.label(), err)
		}
		l := &line{peer: p, number: p.id.number(), conn: conn, answers: make(chan error, 1), gone: make(chan struct{})}
		p.lines = append(p.lines, l)
		group.Go(l.read)
		group.Go(func() { l.talk(ctx, every) })
	}
	return nil
}

// live is how many of its connections are open.
func (p *peer) live() int {
	n := 0
	for _, l := range p.lines {
		select {
		case <-l.gone:
		default:
			n++
		}
	}
	return n
}

// try makes a new connection with one request on it. resume offers the last ticket;
// resumed says that the daemon took it up, whatever it made of it then. The error
// says that it did not get through; turned tells a refusal from an accident.
func (p *peer) try(ctx context.Context, resume bool) (resumed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conn, resumed, err := p.dial(ctx, resume)
	if conn != nil {
		defer conn.Close()
	}
	if err != nil {
		return resumed, plainError(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := ask(conn, "try"); err != nil {
		return resumed, plainError(err)
	}
	return resumed, plainError(answer(bufio.NewReader(conn), "try"))
}

// turned tells whether err is of the kind that a refused peer sees: an alert, or a
// connection closed on it. What breaks in another way proves nothing.
func turned(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "remote error: tls: ") || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// line is one open connection of a peer: requests one after the other, and a reader
// that sees at once when it ends.
type line struct {
	peer    *peer
	number  string // of the certificate that it was opened with
	conn    net.Conn
	answers chan error
	gone    chan struct{} // closed when the connection has ended
	mine    atomic.Bool   // ended by us
}

// read takes answers until the connection ends, and enters how it did.
func (l *line) read() {
	defer close(l.gone)
	r := bufio.NewReader(l.conn)
	for {
		_, err := r.Peek(1)
		at := time.Now()
		if err != nil {
			if !l.mine.Load() {
				l.peer.cuts.ended(l.number, l.peer.label(), at, plainError(err))
			}
			_ = l.conn.Close() // it is over
			return
		}
		select {
		case l.answers <- answer(r, "line"):
		default: // nobody asked; whoever asks next gets the wrong answer, and says so
		}
	}
}

// talk sends requests until ctx ends or the connection does.
func (l *line) talk(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.hangUp()
			return
		case <-l.gone:
			return
		case <-tick.C:
		}
		begun := time.Now()
		err := ask(l.conn, "line")
		if err == nil {
			late := time.NewTimer(requestTimeout)
			select {
			case err = <-l.answers:
			case <-l.gone:
				err = errors.New("the connection ended before the answer")
			case <-late.C:
				err = fmt.Errorf("no answer within %s", requestTimeout)
			}
			late.Stop()
		}
		l.peer.cuts.request(l.number, l.peer.label(), begun, plainError(err))
		if err != nil {
			// The reader says who ended it. If nobody did, what follows would be the
			// answer to another question.
			select {
			case <-l.gone:
			case <-time.After(time.Second):
			}
			l.hangUp()
			<-l.gone
			return
		}
	}
}

// hangUp ends the connection as the peer.
func (l *line) hangUp() {
	l.mine.Store(true)
	_ = l.conn.Close()
}

// ask writes one request.
func ask(w io.Writer, text string) error {
	request, err := http.NewRequest(http.MethodPost, "http://"+providerName+"/sandbox/peer", strings.NewReader(text)) //nolint:noctx // written by hand
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := request.Write(&out); err != nil {
		return err
	}
	_, err = w.Write(out.Bytes())
	return err
}

// answer reads one answer and compares it.
func answer(r *bufio.Reader, want string) error {
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK || string(body) != want:
		return fmt.Errorf("%s: the answer is not what was sent", response.Status)
	}
	return nil
}
