package sink

import (
	"bufio"
	"crypto/tls"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/spinecert/spinecert/internal/config"
)

// relay is an SMTP server in the test's own process, which answers as it is told.
type relay struct {
	address string

	mu     sync.Mutex
	mails  []received
	signed []string                              // who signed in
	rcpt   func(to string) error                 // nil takes all
	data   func(body string) error               // after the whole mail
	auth   func(username, password string) error // nil offers no AUTH
	mechs  []string
}

type received struct {
	from string
	to   []string
	body string
}

type session struct {
	r *relay
	m received
}

func (r *relay) take() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.mails...)
}

// set changes how a relay answers.
func (r *relay) set(change func(*relay)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// startRelay starts a relay. insecure has it offer AUTH without TLS; fromTLS has it speak TLS at once; no secure is no STARTTLS.
func startRelay(t *testing.T, r *relay, secure *tls.Config, fromTLS, insecure bool) *relay {
	t.Helper()
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		if r.auth != nil {
			return &signing{&session{r: r}}, nil
		}
		return &session{r: r}, nil
	}))
	s.Domain, s.AllowInsecureAuth, s.ErrorLog = "relay.example", insecure, log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	switch {
	case fromTLS:
		l = tls.NewListener(l, secure)
	default:
		s.TLSConfig = secure
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-ended })
	return r
}

func (s *session) Reset()        { s.m = received{} }
func (s *session) Logout() error { return nil }
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.m.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.r.mu.Lock()
	refuse := s.r.rcpt
	s.r.mu.Unlock()
	if refuse != nil {
		if err := refuse(to); err != nil {
			return err
		}
	}
	s.m.to = append(s.m.to, to)
	return nil
}

func (s *session) Data(in io.Reader) error {
	body, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	s.m.body = string(body)
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.r.data != nil {
		if err := s.r.data(s.m.body); err != nil {
			return err
		}
	}
	s.r.mails = append(s.r.mails, s.m)
	return nil
}

// signing is a session that offers AUTH.
type signing struct{ *session }

func (s *signing) AuthMechanisms() []string { return s.r.mechs }

func (s *signing) Auth(mech string) (sasl.Server, error) {
	check := func(username, password string) error {
		s.r.mu.Lock()
		defer s.r.mu.Unlock()
		if err := s.r.auth(username, password); err != nil {
			return err
		}
		s.r.signed = append(s.r.signed, mech+" "+username)
		return nil
	}
	if mech == sasl.Login {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, username, password string) error { return check(username, password) }), nil
}

// loginServer asks as relays do that are not as others.
type loginServer struct {
	check func(username, password string) error
	words []string
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte("User Name\x00"), false, nil
	}
	if l.words = append(l.words, string(response)); len(l.words) == 1 {
		return []byte("Password\x00"), false, nil
	}
	return nil, true, l.check(l.words[0], l.words[1])
}

// scripted is a relay of which each connection is handled by a function: for what no real one does.
func scripted(t *testing.T, talk func(c net.Conn, in *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() { defer func() { _ = c.Close() }(); talk(c, bufio.NewReader(c)) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// answers is a relay that gives one answer to each line, and "" for none and a hang. What begins with "close" closes.
func answers(t *testing.T, byVerb map[string]string) string {
	return scripted(t, func(c net.Conn, in *bufio.Reader) {
		verb, body := "", false
		for {
			said, ok := byVerb[verb]
			switch {
			case body:
			case !ok && verb == "DATA":
				said, body = "354 go on", true
			case !ok && verb == "":
				said = "220 relay.example"
			case !ok:
				said = "250 fine"
			}
			switch {
			case said == "close":
				return
			case said == "hang":
				_, _ = io.Copy(io.Discard, in)
				return
			case body && verb != "DATA":
			default:
				if _, err := io.WriteString(c, said+"\r\n"); err != nil {
					return
				}
			}
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimRight(line, "\r\n")
			if body {
				verb = "body"
				if line == "." {
					verb, body = "dot", false
				}
				continue
			}
			verb, _, _ = strings.Cut(line, " ")
		}
	})
}

func mailTo(address string, to ...string) config.Sink {
	if len(to) == 0 {
		to = []string{"Operations <ops@example.nhs.uk>"}
	}
	return config.Sink{Type: config.SinkEmail, To: to, From: "Spinecert on gateway1 <spinecert@example.nhs.uk>", SMTP: address, TLS: config.TLSNone}
}
