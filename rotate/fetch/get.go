package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
)

// maxRedirects bounds how often a server may send elsewhere.
const maxRedirects = 3

// maxKnown bounds each value of a Known, in bytes.
const maxKnown = 1 << 10

// Known is what an earlier answer said, for a conditional request. Values over 1 KiB
// and those that are not printable are neither sent nor returned.
type Known struct{ ETag, LastModified string }

// Answer is what the server said.
type Answer struct {
	Unchanged bool // it still has what Known stands for; nothing was written
	Known          // of this answer; where an Unchanged one leaves a value out, the one that was sent
	Bytes     int64
}

// Get asks for address once and writes the body to w, at most MaxBytes of it. It ends
// with ctx, unless w blocks. The error is an *Error; w may hold a part then.
func (c *Client) Get(ctx context.Context, address string, known Known, w io.Writer) (Answer, error) {
	answer, f := c.get(ctx, address, known.clean(), w)
	if f != nil {
		return Answer{}, f.of(address)
	}
	return answer, nil
}

func (c *Client) get(ctx context.Context, address string, known Known, w io.Writer) (Answer, *Error) {
	at, f := c.permit(address)
	if f != nil {
		return Answer{}, f
	}
	live, end := context.WithCancel(ctx)
	defer end()
	for range maxRedirects + 1 {
		answer, err := c.ask(ctx, live, at, known)
		if err != nil {
			return Answer{}, err
		}
		switch answer.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			_ = answer.Body.Close()
			if at, err = c.follow(at, answer); err != nil {
				return Answer{}, err
			}
		default:
			defer func() { _ = answer.Body.Close() }()
			return c.take(ctx, answer, known, w)
		}
	}
	return Answer{}, fault(Redirect, "ask whoever runs the server", nil, "the server redirects more than %d times", maxRedirects)
}

// ask sends one request and returns its answer, of which the body is still to come.
func (c *Client) ask(ctx, live context.Context, at target, known Known) (*http.Response, *Error) {
	a := &attempt{client: c, live: live}
	request := (&http.Request{
		Method: http.MethodGet,
		URL:    at.url,
		Host:   at.url.Host,
		Header: http.Header{"User-Agent": {"spinecert"}, "Accept-Encoding": {"identity"}},
	}).WithContext(a.traced(live))
	if known.ETag != "" {
		request.Header.Set("If-None-Match", known.ETag)
	}
	if known.LastModified != "" {
		request.Header.Set("If-Modified-Since", known.LastModified)
	}
	// Not a http.Client: it would follow redirects by rules of its own.
	answer, err := a.transport().RoundTrip(request)
	if err != nil {
		return nil, a.failed(ctx, err)
	}
	if answer.ProtoMajor != 1 {
		_ = answer.Body.Close()
		return nil, fault(Protocol, adviceAnswer, nil, "the answer is of %s", quote(answer.Proto))
	}
	return answer, nil
}

// follow returns where a redirect leads, if all that holds for an address holds there.
func (c *Client) follow(at target, answer *http.Response) (target, *Error) {
	values := answer.Header.Values("Location")
	if len(values) != 1 || values[0] == "" || len(values[0]) > maxAddress || !printable(values[0]) {
		return target{}, fault(Redirect, adviceAnswer, nil, "the server answered %s without one Location of at most 2 KiB", status(answer))
	}
	to, err := at.url.Parse(values[0])
	if err != nil || strings.Contains(values[0], "\\") {
		return target{}, fault(Redirect, adviceAnswer, nil, "the server redirects to %q, which is no URL", shown(values[0]))
	}
	next, f := c.permit(to.String())
	if f == nil && at.url.Scheme == "https" && next.url.Scheme != "https" {
		f = fault(NotPermitted, "ask whoever runs the server", nil, "what was asked for by https must not be had by http")
	}
	if f != nil {
		f = f.of(to.String())
		return target{}, fault(Redirect, f.Advice, f, "the server redirects to %q: %s", f.Address, f.Detail)
	}
	return next, nil
}

// take judges the last answer and writes its body.
func (c *Client) take(ctx context.Context, answer *http.Response, known Known, w io.Writer) (Answer, *Error) {
	said := Known{ETag: only(answer, "ETag"), LastModified: only(answer, "Last-Modified")}.clean()
	switch code := answer.StatusCode; {
	case code == http.StatusNotModified && known != Known{}:
		if said.ETag == "" {
			said.ETag = known.ETag
		}
		if said.LastModified == "" {
			said.LastModified = known.LastModified
		}
		return Answer{Unchanged: true, Known: said}, nil
	case code == http.StatusProxyAuthRequired:
		return Answer{}, fault(Status, "name a proxy in crl.proxy that asks for no password", nil, "the proxy answered %s", status(answer))
	case code != http.StatusOK:
		return Answer{}, fault(Status, "is the address right, and does the proxy of crl.proxy, if there is one, permit it?", nil, "the answer is %s", status(answer))
	}
	for _, value := range answer.Header.Values("Content-Encoding") {
		if value = strings.TrimSpace(value); value != "" && !strings.EqualFold(value, "identity") {
			return Answer{}, fault(Encoding, "the server must send the file as it is", nil, "the body has Content-Encoding %s, which was not asked for", quote(value))
		}
	}
	if answer.ContentLength > c.maxBytes {
		return Answer{}, c.tooLarge()
	}
	s := &sink{w: w, left: c.maxBytes}
	n, err := io.Copy(s, answer.Body)
	switch {
	case s.full:
		return Answer{}, c.tooLarge()
	case s.err != nil:
		return Answer{}, fault(Unwritable, "is there space on the disk?", s.err, "write what the server sent: %s", told(s.err))
	case err != nil:
		return Answer{}, broken(ctx, err, fmt.Sprintf("the answer stopped after %d bytes", n))
	case n == 0:
		return Answer{}, fault(Empty, adviceAnswer, nil, "the answer has no body")
	}
	return Answer{Known: said, Bytes: n}, nil
}

func (c *Client) tooLarge() *Error {
	return fault(TooLarge, "if it is the right file: raise crl.max_size", nil, "the body has more than %d bytes", c.maxBytes)
}

const (
	adviceAnswer = "is this the right server, and nothing between that answers for it?"
	adviceSlow   = "is the server slow, or its route blocked? crl.timeout is how long it has"
)

// broken says why an answer ended too soon.
func broken(ctx context.Context, err error, what string) *Error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fault(Canceled, "try again", context.Canceled, "%s: it was canceled", what)
	case ctx.Err() != nil:
		return fault(Timeout, adviceSlow, ctx.Err(), "%s: it took too long", what)
	case late(err):
		return fault(Timeout, adviceSlow, err, "%s: it took too long", what)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fault(Truncated, "try again; if it stays so, look at the proxies and firewalls on the way", err, "%s: the connection was closed", what)
	}
	return fault(Protocol, adviceAnswer, err, "%s: %s", what, told(err))
}

// sink passes on at most left bytes, and remembers whose fault it is that it stops.
type sink struct {
	w    io.Writer
	left int64
	full bool
	err  error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.full = int64(len(p)) > s.left; s.full {
		return 0, errors.New("the body is over its limit")
	}
	n, err := s.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	s.left -= int64(n)
	s.err = err
	return n, err
}

// clean leaves out what is not to be sent back or kept.
func (k Known) clean() Known {
	for _, value := range []*string{&k.ETag, &k.LastModified} {
		if len(*value) > maxKnown || !printable(*value) {
			*value = ""
		}
	}
	return k
}

// only returns the value of a header that is there once.
func only(answer *http.Response, name string) string {
	if values := answer.Header.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}

// status returns the code of an answer in our own words: those of the server can be
// anything.
func status(answer *http.Response) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode)))
}
