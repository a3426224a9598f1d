package sink

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	stdmail "net/mail"
	"strings"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
)

// compose writes a tidied message as a mail of plain text (RFC 5322), in ASCII whatever it says.
func (e *email) compose(m *alert.Message) ([]byte, error) {
	domain := e.from.Address[strings.LastIndexByte(e.from.Address, '@')+1:]
	var h mail.Header
	h.SetAddressList("From", []*mail.Address{mailbox(e.from)})
	var to []*mail.Address
	for _, a := range e.to {
		to = append(to, mailbox(a))
	}
	h.SetAddressList("To", to)
	h.SetSubject(subject(m))
	h.SetDate(m.At)
	// The same when it is sent again, so that a mailbox that has it already can tell.
	h.SetMessageID(digest("message", m.Host, m.ID) + "@" + domain)
	if m.Group != "" {
		// No mail has this ID: all of a group refer to it, and so stand together.
		thread := []string{digest("group", m.Host, m.Group) + "@" + domain}
		h.SetMsgIDList("References", thread)
		h.SetMsgIDList("In-Reply-To", thread)
	}
	h.Set("Auto-Submitted", "auto-generated") // RFC 3834: no reply by a holiday notice
	h.Set("X-Auto-Response-Suppress", "All")  // the same for Exchange
	h.Set("X-Spinecert-Event", string(event(m)))
	if severity := m.Severity(); severity != "" {
		h.Set("X-Spinecert-Severity", string(severity))
		if severity == condition.Critical {
			h.Set("Importance", "high")
		}
	}
	h.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
	h.Set("Content-Transfer-Encoding", "quoted-printable")
	h.Set("MIME-Version", "1.0")
	var b bytes.Buffer
	w, err := message.CreateWriter(&b, h.Header)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, text(m, e.o.Version)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func mailbox(a *stdmail.Address) *mail.Address {
	return &mail.Address{Name: a.Name, Address: a.Address}
}

// digest makes a word of ASCII of any names.
func digest(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return "spinecert." + hex.EncodeToString(sum[:12])
}
