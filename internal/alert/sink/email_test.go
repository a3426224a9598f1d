package sink

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testpki"
)

// read parses a mail as a mail program does.
func read(t *testing.T, body string) (h mail.Header, subject, text string) {
	t.Helper()
	for line := range strings.SplitSeq(body, "\r\n") {
		if len(line) > 998 || strings.ContainsFunc(line, func(r rune) bool { return r > 0x7e || r < ' ' && r != '\t' }) {
			t.Errorf("a line that not every relay takes: %q", line)
		}
	}
	m, err := mail.ReadMessage(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		t.Error(err)
	}
	data, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Error(err)
	}
	return m.Header, subject, strings.ReplaceAll(string(data), "\r\n", "\n")
}

func TestMail(t *testing.T) {
	r := startRelay(t, &relay{}, nil, false, false)
	s := make1(t, mailTo(r.address, "Operations <ops@example.nhs.uk>", "second@example.nhs.uk"))
	if err := send(t, s, one()); err != nil {
		t.Fatal(err)
	}
	again := one()
	again.ID = "another"
	if err := send(t, s, again); err != nil {
		t.Fatal(err)
	}
	if err := send(t, s, func() *alert.Message { m := many(60); m.ID = "third"; return m }()); err != nil {
		t.Fatal(err)
	}
	mails := r.take()
	if len(mails) != 3 {
		t.Fatalf("%d mails, want 3", len(mails))
	}
	if got := mails[0]; got.from != "spinecert@example.nhs.uk" || !slices.Equal(got.to, []string{"ops@example.nhs.uk", "second@example.nhs.uk"}) {
		t.Errorf("from %s to %s", got.from, got.to)
	}
	h, subject, text := read(t, mails[0].body)
	if subject != "[spinecert] CRITICAL pcs: certificate ends in 6 days (gateway1)" {
		t.Error(subject)
	}
	golden(t, "one.txt", "Subject: "+subject+"\n\n"+text)
	for key, want := range map[string]string{
		"From": `"Spinecert on gateway1" <spinecert@example.nhs.uk>`, "To": `"Operations" <ops@example.nhs.uk>, <second@example.nhs.uk>`, "Auto-Submitted": "auto-generated",
		"Content-Type": "text/plain; charset=utf-8", "Date": "Mon, 23 Nov 2026 08:00:00 +0000", "Importance": "high", "X-Spinecert-Severity": "critical", "X-Spinecert-Event": "escalated", "Mime-Version": "1.0",
	} {
		if got := h.Get(key); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	next, _, _ := read(t, mails[1].body)
	if h.Get("Message-Id") == next.Get("Message-Id") || h.Get("References") == "" || h.Get("References") != next.Get("References") || h.Get("References") != h.Get("In-Reply-To") {
		t.Errorf("the mails of a group do not stand together: %v, %v", h, next)
	}
	if all, _, _ := read(t, mails[2].body); all.Get("References") != "" {
		t.Errorf("a digest belongs to a group: %v", all)
	}
}

func TestNastyMail(t *testing.T) {
	r := startRelay(t, &relay{}, nil, false, false)
	c := mailTo(r.address)
	s, err := New(config.Sink{Name: "ops", Type: c.Type, To: c.To, From: c.From, SMTP: c.SMTP, TLS: c.TLS}, Options{Host: nasty, Version: nasty})
	if err != nil {
		t.Fatal(err)
	}
	if err := send(t, s, wicked()); err != nil {
		t.Fatal(err)
	}
	h, subject, text := read(t, r.take()[0].body)
	if h.Get("Bcc") != "" || len(r.take()[0].to) != 1 {
		t.Errorf("a certificate made a header: %v", h)
	}
	harmless(t, "the subject", subject)
	harmless(t, "the text", text)
}

func TestMailOverTLS(t *testing.T) {
	root, roots := authority(t)
	good := root.Issue(t, testpki.DNS("relay.example"), testpki.IP(net.IPv4(127, 0, 0, 1)))
	other := root.Issue(t, testpki.DNS("other.example\x1b"))
	old := root.Issue(t, testpki.IP(net.IPv4(127, 0, 0, 1)), testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
	for _, mode := range []string{config.TLSStartTLS, config.TLSFromTLS} {
		for _, c := range []struct {
			name   string
			leaf   *testpki.Leaf
			ca     string
			server string
			want   []string
		}{
			{"good", good, roots, "", nil},
			{"by name", good, roots, "relay.example", nil},
			{"wrong name", good, roots, "mail.example", []string{"for another name", "server_name"}},
			{"name with an escape", other, roots, "mail.example", []string{`other.example\x1b`}},
			{"expired", old, roots, "", []string{"not valid at this time"}},
			{"unknown root", good, "", "", []string{"no CA that is trusted", "ca: FILE"}},
		} {
			t.Run(mode+" "+c.name, func(t *testing.T) {
				r := startRelay(t, &relay{}, served(c.leaf), mode == config.TLSFromTLS, false)
				sink := mailTo(r.address)
				sink.TLS, sink.CA, sink.ServerName = mode, c.ca, c.server
				err := send(t, make1(t, sink), one())
				if c.want != nil {
					says(t, err, append(c.want, "start TLS")...)
				} else if err != nil {
					t.Error(err)
				}
				if n := len(r.take()); (n == 1) != (c.want == nil) {
					t.Errorf("%d mails", n)
				}
			})
		}
	}
}

// Nothing is said in the clear to a relay that offers no STARTTLS, or speaks none.
func TestMailNeverFallsBack(t *testing.T) {
	password := write(t, "password", "hunter22\n")
	r := startRelay(t, &relay{auth: func(_, _ string) error { return nil }, mechs: []string{sasl.Plain}}, nil, false, true)
	for _, mode := range []string{config.TLSStartTLS, config.TLSFromTLS, ""} {
		c := mailTo(r.address)
		c.TLS, c.Username, c.PasswordFile, c.Timeout = mode, "user", password, 2*time.Second
		says(t, send(t, make1(t, c), one()), "send mail by "+r.address)
	}
	if len(r.take()) != 0 || len(r.signed) != 0 {
		t.Error("it fell back")
	}
	c := mailTo(r.address)
	c.Name, c.Username, c.PasswordFile = "ops", "user", password
	if _, err := New(c, options()); err == nil || !strings.Contains(err.Error(), "tls: none") {
		t.Errorf("a password without TLS: %v", err)
	}
	// What a relay says before TLS is no answer to what is said within.
	injected := scripted(t, func(c net.Conn, in *bufio.Reader) {
		_, _ = io.WriteString(c, "220 relay\r\n")
		_, _ = in.ReadString('\n')
		_, _ = io.WriteString(c, "250-relay\r\n250 STARTTLS\r\n")
		_, _ = in.ReadString('\n')
		_, _ = io.WriteString(c, "220 go\r\n250-relay\r\n250 AUTH PLAIN\r\n235 welcome\r\n250 fine\r\n250 fine\r\n354 go\r\n250 taken\r\n")
		_, _ = io.Copy(io.Discard, in)
	})
	c.SMTP, c.TLS, c.Timeout = injected, config.TLSStartTLS, 300*time.Millisecond
	says(t, send(t, make1(t, c), one()), "start TLS")
}

func TestMailSignsIn(t *testing.T) {
	root, roots := authority(t)
	leaf := root.Issue(t, testpki.IP(net.IPv4(127, 0, 0, 1)))
	path := write(t, "password", "correct horse\r\nsecond line\n")
	check := func(username, password string) error {
		if username != "user" || password != "correct horse" {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "no: " + password + " " + base64.StdEncoding.EncodeToString([]byte("\x00"+username+"\x00"+password))}
		}
		return nil
	}
	for _, mech := range []string{sasl.Plain, sasl.Login, "GSSAPI"} {
		r := startRelay(t, &relay{auth: check, mechs: []string{mech}}, served(leaf), false, false)
		c := mailTo(r.address)
		c.TLS, c.CA, c.Username, c.PasswordFile = config.TLSStartTLS, roots, "user", path
		s := make1(t, c)
		err := send(t, s, one())
		if mech == "GSSAPI" {
			says(t, err, "sign in", "neither AUTH PLAIN nor AUTH LOGIN")
			continue
		}
		if err != nil || !slices.Equal(r.signed, []string{mech + " user"}) {
			t.Errorf("%v, signed in: %q", err, r.signed)
		}
		// The file is read again for each mail.
		if err := os.WriteFile(path, []byte("wrong battery\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		m := one()
		m.ID = "second"
		err = send(t, s, m)
		says(t, err, "sign in", "535", "password_file")
		without(t, err, "wrong battery", base64.StdEncoding.EncodeToString([]byte("wrong battery")), base64.StdEncoding.EncodeToString([]byte("\x00user\x00wrong battery")))
		if err := os.WriteFile(path, []byte("\nno first line\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		says(t, send(t, s, m), "password_file", "its first line is empty")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		says(t, send(t, s, m), "password_file", "no such file")
		if err := os.WriteFile(path, []byte("correct horse\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadRelays(t *testing.T) {
	endless := func(c net.Conn, _ *bufio.Reader) {
		for i := 0; ; i++ {
			if _, err := io.WriteString(c, "220-and more\r\n"); err != nil {
				return
			}
		}
	}
	oneLine := func(c net.Conn, _ *bufio.Reader) {
		for {
			if _, err := io.WriteString(c, strings.Repeat("x", 1<<10)); err != nil {
				return
			}
		}
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	_ = closed.Close()
	for _, c := range []struct {
		name, address string
		want          []string
	}{
		{"nobody there", nobody, []string{"connect", "connection refused"}},
		{"no such host", "relay.invalid:25", []string{"connect"}},
		{"silent", answers(t, map[string]string{"": "hang"}), []string{"greet", "no answer in time", "timeout:"}},
		{"hangs at EHLO", answers(t, map[string]string{"EHLO": "hang"}), []string{"greet", "no answer in time"}},
		{"hangs at MAIL", answers(t, map[string]string{"MAIL": "hang"}), []string{"send from spinecert@example.nhs.uk", "no answer in time"}},
		{"hangs at RCPT", answers(t, map[string]string{"RCPT": "hang"}), []string{"send to ops@example.nhs.uk", "no answer in time"}},
		{"hangs at DATA", answers(t, map[string]string{"DATA": "hang"}), []string{"send: no answer in time"}},
		{"hangs at the end", answers(t, map[string]string{"dot": "hang"}), []string{"send: no answer in time"}},
		{"closes at once", answers(t, map[string]string{"": "close"}), []string{"greet", "closed"}},
		{"closes at DATA", answers(t, map[string]string{"DATA": "close"}), []string{"send: the far side closed"}},
		{"closes at the end", answers(t, map[string]string{"dot": "close"}), []string{"send: the far side closed"}},
		{"busy", answers(t, map[string]string{"": "421 4.7.0 try \x1b[2Jlater"}), []string{"refused: 421 4.7.0 try"}},
		{"refuses the sender", answers(t, map[string]string{"MAIL": "550-5.7.1 no\r\n550 5.7.1 such sender"}), []string{"send from", "550 5.7.1 no; such sender", "takes mail from this host"}},
		{"refuses everybody", answers(t, map[string]string{"RCPT": "550 5.1.1 unknown"}), []string{"refused for ops@example.nhs.uk (550 5.1.1 unknown)"}},
		{"refuses DATA", answers(t, map[string]string{"DATA": "451 4.3.0 disk full"}), []string{"send: refused: 451"}},
		{"refuses at the end", answers(t, map[string]string{"dot": "452 4.3.1 full"}), []string{"452 4.3.1 full", "it is tried again"}},
		{"garbage", answers(t, map[string]string{"": "\x00\x1b\xff what?"}), []string{"greet"}},
		{"speaks HTTP", answers(t, map[string]string{"": "HTTP/1.1 400 Bad Request"}), []string{"greet"}},
		{"talks without end", scripted(t, endless), []string{"says more than a mail needs"}},
		{"a line without end", scripted(t, oneLine), []string{"says more than a mail needs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sink := mailTo(c.address)
			if slices.ContainsFunc(c.want, func(w string) bool { return strings.Contains(w, "in time") }) {
				sink.Timeout = short
			}
			says(t, send(t, make1(t, sink), one()), append(c.want, "send mail by "+c.address)...)
		})
	}
}

// A relay that has the mail may do as it likes then.
func TestMailIsTakenWhateverFollows(t *testing.T) {
	for _, answer := range []string{"close", "500 what?"} {
		if err := send(t, make1(t, mailTo(answers(t, map[string]string{"QUIT": answer}))), one()); err != nil {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

// The end of the daemon ends an attempt.
func TestMailEndsWithItsContext(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	greeted := make(chan struct{})
	s := make1(t, mailTo(scripted(t, func(_ net.Conn, in *bufio.Reader) { close(greeted); _, _ = io.Copy(io.Discard, in) })))
	go func() { <-greeted; stop() }()
	err := s.Sender.Send(ctx, one())
	says(t, err, "given up")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not say why", err)
	}
}

func TestBadMailConfigurations(t *testing.T) {
	for name, change := range map[string]func(*config.Sink){
		"read from":       func(c *config.Sink) { c.From = "nobody" },
		"read to":         func(c *config.Sink) { c.To = []string{"a@example.org, b@example.org"} },
		"names nobody":    func(c *config.Sink) { c.To = nil },
		"HOST:PORT":       func(c *config.Sink) { c.SMTP = "relay" },
		"not every relay": func(c *config.Sink) { c.To = []string{"ä@example.org"} },
		"is not a mail":   func(c *config.Sink) { c.From = "a@b>\r\nRCPT TO:<c@d" },
	} {
		c := mailTo("relay:25")
		c.Name = "ops"
		change(&c)
		if _, err := New(c, options()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		} else {
			harmless(t, "an error", err.Error())
		}
	}
	if _, err := New(config.Sink{Name: "x", Type: "pigeon"}, options()); err == nil {
		t.Error("pigeons")
	}
}
