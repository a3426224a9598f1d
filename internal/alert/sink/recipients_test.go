package sink

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// Who took it is not sent it again.
func TestMailWithSomeRefused(t *testing.T) {
	full := &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "mailbox full\x1b[2J"}
	r := startRelay(t, &relay{rcpt: func(to string) error {
		if strings.HasPrefix(to, "full") {
			return full
		}
		return nil
	}}, nil, false, false)
	s := make1(t, mailTo(r.address, "a@example.org", "full@example.org", "b@example.org"))
	for range 3 {
		says(t, send(t, s, one()), "refused for full@example.org (452 4.2.2 mailbox full")
	}
	if mails := r.take(); len(mails) != 1 || !slices.Equal(mails[0].to, []string{"a@example.org", "b@example.org"}) {
		t.Fatalf("%d mails: %+v", len(mails), mails)
	}
	r.set(func(r *relay) { r.rcpt = nil })
	if err := send(t, s, one()); err != nil {
		t.Fatal(err)
	}
	if err := send(t, s, one()); err != nil { // all have it
		t.Fatal(err)
	}
	if mails := r.take(); len(mails) != 2 || !slices.Equal(mails[1].to, []string{"full@example.org"}) {
		t.Fatalf("%d mails: %+v", len(mails), mails)
	}
	for i := range 3 * remembered { // other messages are theirs, and the memory is bounded
		m := one()
		m.ID = fmt.Sprint(i)
		if err := send(t, s, m); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.Sender.(*email).given); n > remembered {
		t.Errorf("%d messages remembered", n)
	}
	if n := len(r.take()); n != 2+3*remembered {
		t.Errorf("%d mails", n)
	}
}

// One bad address does not keep the others from what comes next.
func TestMailGivesUpOnSome(t *testing.T) {
	answer := &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	r := startRelay(t, &relay{rcpt: func(to string) error {
		if strings.HasPrefix(to, "b") {
			return answer
		}
		return nil
	}}, nil, false, false)
	s := make1(t, mailTo(r.address, "a@example.org", "b@example.org"))
	reached := func(err error) bool {
		var e interface{ Reached() bool }
		return as(err, &e) && e.Reached()
	}
	err := send(t, s, one())
	says(t, err, "refused for b@example.org (550 5.1.1 no such user); the others have it")
	if !reached(err) {
		t.Error("it reached nobody")
	}
	if err := send(t, s, one()); err != nil {
		t.Errorf("it is tried again: %v", err)
	}
	// Refused for now: a while.
	now := time.Now()
	s.Sender.(*email).now = func() time.Time { return now }
	r.set(func(*relay) {
		answer = &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 0}, Message: "greylisted"}
	})
	m := one()
	m.ID = "second"
	for range 3 {
		says(t, send(t, s, m), "450 4.2.0 greylisted")
		now = now.Add(forSome / 2)
	}
	if err := send(t, s, m); err != nil {
		t.Errorf("it is tried again: %v", err)
	}
	if n := len(r.take()); n != 2 {
		t.Errorf("%d mails, want 2", n)
	}
	// Whom nobody took it for is never given up on.
	s = make1(t, mailTo(r.address, "b@example.org"))
	s.Sender.(*email).now = func() time.Time { return now }
	for _, code := range []int{550, 450} {
		r.set(func(*relay) { answer = &smtp.SMTPError{Code: code, Message: "no"} })
		for range 5 {
			if err := send(t, s, m); err == nil || reached(err) {
				t.Error(err)
			}
			now = now.Add(forSome)
		}
	}
	r.set(func(r *relay) { r.rcpt = nil })
	if err := send(t, s, m); err != nil || len(r.take()) != 3 {
		t.Error(err)
	}
}

// A mail that the relay refuses as a whole is sent again to everybody.
func TestMailRefusedAsAWhole(t *testing.T) {
	r := startRelay(t, &relay{data: func(string) error {
		return &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: strings.Repeat("too large ", 100)}
	}}, nil, false, false)
	s := make1(t, mailTo(r.address, "a@example.org", "b@example.org"))
	says(t, send(t, s, one()), "refused: 552 5.3.4 too large", "...", "full")
	r.set(func(r *relay) { r.data = nil })
	if err := send(t, s, one()); err != nil {
		t.Fatal(err)
	}
	if mails := r.take(); len(mails) != 1 || len(mails[0].to) != 2 {
		t.Errorf("%+v", mails)
	}
}
