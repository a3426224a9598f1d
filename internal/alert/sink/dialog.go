package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/emersion/go-smtp"
)

// dialog is a connection to a relay.
type dialog struct {
	client  *smtp.Client
	secure  bool
	relay   string
	step    string // what is being done, for errors
	judged  bool   // the relay was given the mail itself
	secrets []string
	end     func()
}

// refused is a recipient that the relay does not take.
type refused struct {
	address string
	why     string
	forGood bool // there is no use in trying again
}

// tooManyRecipients is an old code for that, which means to try again: RFC 5321, Section 4.5.3.1.10.
const tooManyRecipients = 552

// hand gives the relay a mail for several recipients. It returns who took it, and who was refused while the others were not; an error means that nobody
// has it, or that nobody knows.
func (s *dialog) hand(from string, to []string, body []byte) (took []string, no []refused, err error) {
	s.step = "send from " + from
	if err := s.client.Mail(from, &smtp.MailOptions{Size: int64(len(body))}); err != nil {
		return nil, nil, err
	}
	for _, address := range to {
		s.step = "send to " + address
		err := s.client.Rcpt(address, nil)
		var answer *smtp.SMTPError
		switch {
		case err == nil:
			took = append(took, address)
		case errors.As(err, &answer):
			no = append(no, refused{address, s.words(answer), answer.Code >= 500 && answer.Code != tooManyRecipients})
		default:
			return nil, nil, err
		}
	}
	if len(took) == 0 {
		return nil, no, nil
	}
	s.step = "send"
	data, err := s.client.Data()
	if err != nil {
		return nil, nil, err
	}
	if _, err := data.Write(body); err != nil {
		return nil, nil, err
	}
	s.judged = true
	if err := data.Close(); err != nil {
		return nil, nil, err
	}
	s.client.CommandTimeout = farewell
	_ = s.client.Quit() // the relay has the mail, whatever it says to that
	return took, no, nil
}

func (s *dialog) close() { s.end() }

// failed is an error of the dialog.
func (s *dialog) failed(ctx context.Context, err error) *Error {
	var answer *smtp.SMTPError
	do := "send mail by " + s.relay
	if s.step != "" {
		do += ": " + s.step
	}
	switch {
	case errors.As(err, &answer):
		return &Error{text: do + ": refused: " + s.words(answer), cause: err, advice: adviceOn(answer.Code), refused: s.judged && answer.Code >= 500}
	case ctx.Err() != nil: // whatever broke, broke by that
		e := failed(do, ctx.Err(), nil)
		e.cause = errors.Join(ctx.Err(), err)
		return e
	case errors.Is(err, errTooMuch), errors.Is(err, smtp.ErrTooLongLine):
		return &Error{text: do + ": the relay says more than a mail needs", cause: err, advice: "see whether it is an SMTP relay"}
	case strings.HasSuffix(err.Error(), "doesn't support STARTTLS"): // go-smtp has no type for it
		return &Error{text: do + ": the relay does not offer STARTTLS", cause: err, advice: "nothing is sent without it; if that relay needs none, write tls: none"}
	}
	return failed(do, err, s.secrets)
}

// refusal is that some recipients do not have the mail. took are those who have it now; others says whether somebody had it before.
func (s *dialog) refusal(took []string, no []refused, others bool) *Error {
	var words []string
	for i, r := range no {
		if i == namedRefused {
			words = append(words, fmt.Sprintf("and %d more", len(no)-i))
			break
		}
		words = append(words, r.address+" ("+r.why+")")
	}
	e := &Error{text: "send mail by " + s.relay + ": refused for " + strings.Join(words, ", "), advice: "see with the relay's operator whether it takes mail from this host for these addresses"}
	if len(took) > 0 || others {
		e.text += "; the others have it"
		e.reached = true
		e.advice = "correct or remove the address, or see with the relay's operator what is wrong with it"
	}
	return e
}

// words is what a relay says, as it can be shown.
func (s *dialog) words(answer *smtp.SMTPError) string {
	text := fmt.Sprint(answer.Code)
	if code := answer.EnhancedCode; code != (smtp.EnhancedCode{}) && code != smtp.NoEnhancedCode {
		text += fmt.Sprintf(" %d.%d.%d", code[0], code[1], code[2])
	}
	return strings.TrimSpace(text + " " + clean(hide(answer.Message, s.secrets), quoteLimit))
}

func adviceOn(code int) string {
	switch code {
	case 530, 534, 535, 538:
		return "see whether username and password_file are those of the relay"
	case 552, 452, 422:
		return "a mailbox or the relay is full; it is tried again"
	case 550, 551, 553, 554:
		return "see whether the relay takes mail from this host and this sender for these addresses"
	}
	return ""
}

var errTooMuch = errors.New("too much was said")

// boundedConn reads so many bytes and no more: a relay may talk without end.
type boundedConn struct {
	net.Conn
	left int
}

// Read implements net.Conn.
func (c *boundedConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// helloName is how this host greets a relay.
func helloName(host string) string {
	if name := hostWord(host); name != "" {
		return name
	}
	return "localhost"
}

// hostWord is a host name without what no host name has.
func hostWord(host string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return -1
	}, host), "-.")
}
