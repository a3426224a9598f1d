package sink

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"syscall"
	"time"
)

// Error is why a sink did not take something. It is one line without secrets and without what could harm a terminal.
type Error struct {
	text    string
	cause   error
	advice  string
	wait    time.Duration
	reached bool
	refused bool
}

// Error returns the line.
func (e *Error) Error() string { return e.text }

// Unwrap returns what went wrong below. Its text is what the far side made it, and is not for people.
func (e *Error) Unwrap() error { return e.cause }

// Hint returns the next action, or "".
func (e *Error) Hint() string { return e.advice }

// RetryAfter is how long the far side asked to be left alone; 0 if it did not.
func (e *Error) RetryAfter() time.Duration { return e.wait }

// Reached reports whether the message got through to some, so that what is wrong need not keep other messages back.
func (e *Error) Reached() bool { return e.reached }

// Refused reports whether the far side looked at the message and did not want it, or it could not even be written: others may get through.
func (e *Error) Refused() bool { return e.refused }

// failed says that something did not work: "do: cause". secrets are words that the cause may repeat and nobody may see.
func failed(do string, cause error, secrets []string) *Error {
	text, advice := explain(cause)
	return &Error{text: do + ": " + clean(hide(text, secrets), shortLimit), cause: cause, advice: advice}
}

// unwritten says that a message cannot be put into the form in which it is sent.
func unwritten(what string, cause error) *Error {
	e := failed("write "+what, cause, nil)
	e.refused = true
	return e
}

// explain puts what went wrong in a sentence, with the next action if there is one.
func explain(err error) (text, advice string) {
	var address *url.Error
	if errors.As(err, &address) {
		err = address.Err // it has the whole address in its text
	}
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		network   net.Error
		lookup    *net.DNSError
		number    syscall.Errno
	)
	switch {
	case errors.As(err, &authority):
		return "its certificate is of no CA that is trusted here", "name the file with its root: ca: FILE"
	case errors.As(err, &name):
		return "its certificate is for another name: " + name.Error(), "if it is the right host all the same, write a name of its certificate: server_name: NAME"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate is not valid at this time: " + invalid.Error(), "renew the certificate there, or correct the clock here: spinecert doctor"
	case errors.Is(err, context.Canceled):
		return "given up, as the daemon stops or its configuration changed", ""
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer in time", "see whether a firewall or the far side holds it up; timeout: gives it longer"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the far side closed the connection", ""
	case errors.As(err, &lookup):
		return lookup.Error(), ""
	case errors.As(err, &number):
		return number.Error(), "see whether the address is right, and something listens there"
	}
	return err.Error(), ""
}
