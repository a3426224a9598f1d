package prove

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// said checks an error of a parser: it has a reason or is of reading, and is short
// printable text, whatever the server said.
func said(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if reason := failure.ReasonOf(err, failure.HandshakeFailed); reason != failure.HandshakeFailed {
		t.Errorf("reason %s", reason)
	}
	if text := err.Error(); len(text) > 500 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("%d bytes: %q", len(text), text)
	}
}

func FuzzLDAP(f *testing.F) {
	f.Add([]byte(ldapYes))
	f.Add([]byte("\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00"))
	f.Add([]byte("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x34\x04\x00\x04\x00"))
	f.Add([]byte("\x30\x82\x0f\xff"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(answer), lineMax)
		message, err := readLDAP(r)
		if len(message) > ldapMax {
			t.Errorf("%d bytes were taken", len(message))
		}
		if err == nil {
			err = ldapAnswer(message)
		}
		said(t, err)
	})
}

func FuzzSMTP(f *testing.F) {
	f.Add([]byte("220-mail\r\n220 ready\r\n"))
	f.Add([]byte("250-mail\r\n250-SIZE\r\n250 STARTTLS\r\n"))
	f.Add([]byte("554\n"))
	f.Add([]byte("220-\x1b[31m\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, want := range []int{220, 250} {
			lines, err := smtpReply(bufio.NewReaderSize(bytes.NewReader(answer), lineMax), want)
			if err == nil && (len(lines) == 0 || len(lines) > linesMax) {
				t.Errorf("%d lines", len(lines))
			}
			if err == nil {
				_ = offersTLS(lines)
			}
			said(t, err)
		}
	})
}

func FuzzPostgres(f *testing.F) {
	for _, b := range []byte("SNEH\x00\xff") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, answer byte) {
		err := postgresAnswer(answer, answer%2 == 0)
		if (err == nil) != (answer == 'S') {
			t.Errorf("%q: %v", answer, err)
		}
		said(t, err)
	})
}

// A length need not be the shortest, and more may stand in an answer than is read.
func TestLDAPAnswer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ answer, text string }{
		"ordinary":         {ldapYes, ""},
		"lengths of four":  {"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00", ""},
		"with its name":    {"\x30\x24\x02\x01\x01\x78\x1f\x0a\x01\x00\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20037", ""},
		"of another":       {"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00", "not that of an LDAP server"},
		"disconnection":    {"\x30\x0c\x02\x01\x00\x78\x07\x0a\x01\x34\x04\x00\x04\x00", "result code 52"},
		"a search result":  {"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00", "not that of an LDAP server"},
		"cut in a field":   {"\x30\x0a\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00", "not that of an LDAP server"},
		"a longer code":    {"\x30\x0d\x02\x01\x01\x78\x08\x0a\x02\x00\x00\x04\x00\x04\x00", "not that of an LDAP server"},
		"cut in the frame": {"\x30\x0c\x02", "unexpected EOF"},
	} {
		message, err := readLDAP(bufio.NewReader(strings.NewReader(tc.answer)))
		if err == nil {
			err = ldapAnswer(message)
		}
		if tc.text == "" && err != nil || tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text)) {
			t.Errorf("%s: %v, want %q", name, err, tc.text)
		}
	}
}
