package sink

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/config"
)

const (
	dialogLimit  = 128 << 10        // bytes that a relay may say in one dialog, with its certificates
	farewell     = 2 * time.Second  // for QUIT, once the relay has the mail
	remembered   = 64               // messages of which is known who has them
	namedRefused = 3                // recipients in an error
	forSome      = 15 * time.Minute // how long some who are refused keep a message alive that others have; greylisting takes as long
)

// email sends each message as a mail, over one relay.
type email struct {
	c     config.Sink
	o     Options
	from  *mail.Address
	to    []*mail.Address
	given []delivery // how far messages are, the newest last
	now   func() time.Time
}

// delivery is how far a message is.
type delivery struct {
	message string
	since   time.Time       // of the first attempt
	has     map[string]bool // by address
	gaveUp  map[string]bool // who is not tried again
}

func newEmail(c config.Sink, o Options) (*email, error) {
	e := &email{c: c, o: o, now: time.Now}
	var err error
	if e.from, err = parseMailbox(c.From); err != nil {
		return nil, fmt.Errorf("read from: %w", err)
	}
	for _, address := range c.To {
		to, err := parseMailbox(address)
		if err != nil {
			return nil, fmt.Errorf("read to: %w", err)
		}
		e.to = append(e.to, to)
	}
	if len(e.to) == 0 {
		return nil, errors.New("to: names nobody")
	}
	if _, _, err := net.SplitHostPort(c.SMTP); err != nil {
		return nil, fmt.Errorf("smtp: %q is not HOST:PORT", c.SMTP)
	}
	if c.PasswordFile != "" && c.TLS == config.TLSNone {
		return nil, errors.New("a password is not sent with tls: none")
	}
	return e, nil
}

// parseMailbox takes ASCII only: who wants more needs SMTPUTF8 on every relay of the way.
func parseMailbox(s string) (*mail.Address, error) {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not a mail address", clean(s, nameLimit))
	}
	if strings.ContainsFunc(a.Address, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '<' || r == '>' }) {
		return nil, fmt.Errorf("%q has characters that not every relay takes", clean(s, nameLimit))
	}
	a.Name = clean(a.Name, nameLimit)
	return a, nil
}

// Send hands a message to the relay for all recipients who do not have it yet. Who took it is not sent it again, whatever becomes of the others; and whoever
// is refused does not keep others from what comes next: once somebody has it, an address that is refused for good is tried no more, and any other for a
// while only. The error names it all the same; the next Send of the message succeeds then.
func (e *email) Send(ctx context.Context, m *alert.Message) error {
	d := e.deliveryOf(m.ID)
	var rest []string
	for _, a := range e.to {
		if !d.has[a.Address] && !d.gaveUp[a.Address] {
			rest = append(rest, a.Address)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	body, err := e.compose(tidy(m))
	if err != nil {
		return unwritten("the mail", err)
	}
	ctx, stop := limited(ctx, e.c.Timeout)
	defer stop()
	s, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	took, refused, err := s.hand(e.from.Address, rest, body)
	if err != nil {
		return s.failed(ctx, err)
	}
	for _, address := range took {
		d.has[address] = true
	}
	if len(refused) == 0 {
		return nil
	}
	for _, r := range refused {
		if len(d.has) > 0 && (r.forGood || e.now().Sub(d.since) >= forSome) {
			d.gaveUp[r.address] = true
		}
	}
	return s.refusal(took, refused, len(d.has) > 0)
}

// deliveryOf finds who has a message. The memory is bounded: a message that is tried again comes soon after its first attempt.
func (e *email) deliveryOf(id string) *delivery {
	for i := range e.given {
		if e.given[i].message == id {
			return &e.given[i]
		}
	}
	if len(e.given) >= remembered {
		e.given = append(e.given[:0], e.given[1:]...)
	}
	e.given = append(e.given, delivery{message: id, since: e.now(), has: map[string]bool{}, gaveUp: map[string]bool{}})
	return &e.given[len(e.given)-1]
}

// connect makes a dialog with the relay, as far as it may be sent mail.
func (e *email) connect(ctx context.Context) (*dialog, error) {
	s := &dialog{relay: e.c.SMTP, step: "connect"}
	password := ""
	if e.c.PasswordFile != "" {
		var err error
		if password, err = firstLine("password_file", e.c.PasswordFile); err != nil {
			return nil, err
		}
		word := base64.StdEncoding.EncodeToString
		s.secrets = []string{password, word([]byte(password)), word([]byte("\x00" + e.c.Username + "\x00" + password))}
	}
	host, _, _ := net.SplitHostPort(e.c.SMTP)
	verify, err := tlsConfig(cmp.Or(e.c.ServerName, host), e.c.CA)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", e.c.SMTP)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	// go-smtp knows no context: its end closes the connection, wherever the dialog is.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	s.end = func() { stop(); _ = conn.Close() }
	if err := s.greet(ctx, &boundedConn{Conn: conn, left: dialogLimit}, e.c.TLS, verify, helloName(e.o.Host)); err != nil {
		s.end()
		return nil, s.failed(ctx, err)
	}
	if e.c.PasswordFile != "" {
		s.step = "sign in"
		if err := s.signIn(e.c.Username, password); err != nil {
			s.end()
			return nil, s.failed(ctx, err)
		}
	}
	return s, nil
}

// greet opens the dialog. With starttls and tls nothing is said of the mail before the relay's certificate was verified.
func (s *dialog) greet(ctx context.Context, conn net.Conn, mode string, verify *tls.Config, name string) error {
	switch mode {
	case config.TLSFromTLS:
		s.step = "start TLS"
		secure := tls.Client(conn, verify)
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		s.client, s.secure = smtp.NewClient(secure), true
	case config.TLSNone:
		s.client = smtp.NewClient(conn)
	default: // starttls, and whatever else: never less
		s.step = "start TLS"
		client, err := smtp.NewClientStartTLS(conn, verify)
		if err != nil {
			return err
		}
		s.client, s.secure = client, true
	}
	if mode != config.TLSStartTLS {
		s.step = "greet"
	}
	return s.client.Hello(name)
}

// signIn authenticates by PLAIN (RFC 4616), or by LOGIN where the relay has only that.
func (s *dialog) signIn(username, password string) error {
	switch {
	case !s.secure:
		return errors.New("a password is not sent without TLS")
	case s.client.SupportsAuth(sasl.Plain):
		return s.client.Auth(sasl.NewPlainClient("", username, password))
	case s.client.SupportsAuth(sasl.Login):
		return s.client.Auth(&login{username: username, password: password})
	}
	return errors.New("the relay offers neither AUTH PLAIN nor AUTH LOGIN")
}

// login is AUTH LOGIN: what the relay asks for is answered in order, name and password, however it puts the question.
type login struct {
	username, password string
	asked              int
}

// Start implements sasl.Client.
func (l *login) Start() (string, []byte, error) { return sasl.Login, nil, nil }

// Next implements sasl.Client.
func (l *login) Next([]byte) ([]byte, error) {
	l.asked++
	switch l.asked {
	case 1:
		return []byte(l.username), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, sasl.ErrUnexpectedServerChallenge
}
