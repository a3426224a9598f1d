package sink

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/config"
)

const (
	answerLimit = 4 << 10 // bytes of an answer that are read
	quoteLimit  = 120     // characters of it in an error
	longestWait = time.Hour
)

// endpoint is where JSON is posted to, as configured.
type endpoint struct {
	address, addressFile   string
	username, passwordFile string
	serverName, ca         string
	timeout                time.Duration // of one request
	agent                  string
}

func newEndpoint(c config.Sink, o Options) endpoint {
	return endpoint{address: c.URL, addressFile: c.URLFile, username: c.Username, passwordFile: c.PasswordFile,
		serverName: c.ServerName, ca: c.CA, timeout: c.Timeout, agent: strings.TrimSuffix("spinecert/"+o.Version, "/")}
}

// far is an endpoint with its files read, for the requests of one attempt.
type far struct {
	endpoint
	url      *url.URL
	name     string // what errors call it
	password string
	secrets  []string
	public   bool // its address is no secret that an answer could repeat, in whatever form
	client   *http.Client
}

// open reads the files of an endpoint. The caller closes what it returns.
func (e endpoint) open() (*far, error) {
	address := e.address
	if e.addressFile != "" {
		line, err := firstLine("url_file", e.addressFile)
		if err != nil {
			return nil, err
		}
		address = strings.TrimSpace(line)
	}
	u, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	f := &far{endpoint: e, url: u, name: u.Scheme + "://" + clean(u.Host, nameLimit), secrets: addressSecrets(u)}
	f.public = e.addressFile == "" && u.RawQuery == "" && strings.Trim(u.Path, "/") == ""
	if e.addressFile != "" && u.Scheme == "http" && (!loopback(u.Hostname()) || e.serverName != "" || e.ca != "") {
		return nil, &Error{text: "post to " + f.name + ": an address that is kept in a file is not sent over plain http", advice: "write an https address into url_file; or, to another host without TLS, url: in place of it"}
	}
	if e.passwordFile != "" {
		if f.password, err = firstLine("password_file", e.passwordFile); err != nil {
			return nil, err
		}
		if u.Scheme == "http" && !loopback(u.Hostname()) {
			return nil, &Error{text: "post to " + f.name + ": a password is not sent over plain http", advice: "write an https address, or leave username and password_file out"}
		}
		f.secrets = append(f.secrets, f.password, base64.StdEncoding.EncodeToString([]byte(e.username+":"+f.password)))
	}
	tls, err := tlsConfig(e.serverName, e.ca)
	if err != nil {
		return nil, err
	}
	f.client = &http.Client{
		// No proxy of the environment: where alerts go is written in the configuration.
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{}).DialContext,
			TLSClientConfig:        tls,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			MaxConnsPerHost:        1,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return f, nil
}

func (f *far) close() { f.client.CloseIdleConnections() }

func parseAddress(address string) (*url.URL, error) {
	refuse := func(why string) error {
		return &Error{text: "read the address: " + why, advice: "write it as https://HOST/PATH"}
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, refuse("it is no URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, refuse("it is neither https nor http")
	case u.Hostname() == "":
		return nil, refuse("it names no host")
	case u.User != nil:
		return nil, &Error{text: "read the address: it holds a user name", advice: "write username: and password_file: in its place"}
	}
	u.Fragment = ""
	return u, nil
}

// loopback reports whether a host is this one, by its address or by the one name that means it everywhere.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// post sends JSON, and returns nil for an answer of 2xx. The error of any other answer is an *answered in an *Error.
func (f *far) post(ctx context.Context, u *url.URL, body []byte, header http.Header) error {
	ctx, stop := limited(ctx, f.timeout)
	defer stop()
	do := "post to " + f.name
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return failed(do, err, f.secrets)
	}
	for key, values := range header {
		r.Header[key] = values
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", f.agent)
	if f.passwordFile != "" {
		r.SetBasicAuth(f.username, f.password)
	}
	answer, err := f.client.Do(r)
	if err != nil {
		return failed(do, err, f.secrets)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return nil
	}
	said, _ := io.ReadAll(io.LimitReader(answer.Body, answerLimit)) // what counts is the status
	return f.refused(do, answer, said)
}

// answered is an answer that says no.
type answered struct{ status int }

func (a *answered) Error() string { return "answered " + strconv.Itoa(a.status) }

// rejected reports whether the far side looked at what it was sent, and did not want it.
func rejected(err error) bool {
	var a *answered
	return errors.As(err, &a) && a.status >= 400 && a.status < 500
}

func (f *far) refused(do string, answer *http.Response, said []byte) *Error {
	e := &Error{cause: &answered{answer.StatusCode}, wait: retryAfter(answer, time.Now()), refused: unwanted(answer.StatusCode)}
	e.text = fmt.Sprintf("%s: answered %d", do, answer.StatusCode)
	if words := http.StatusText(answer.StatusCode); words != "" {
		e.text += " " + words
	}
	switch code := answer.StatusCode; {
	case code >= 300 && code < 400:
		e.text += ", which is not followed"
		e.advice = "write the address that it leads to"
		return e
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		e.advice = "see whether the address, username and password_file are the right ones"
	case code == http.StatusNotFound, code == http.StatusGone:
		e.advice = "see whether the address is whole and still known there: it may have been replaced"
	case code == http.StatusRequestEntityTooLarge:
		e.advice = "the far side takes no message of this size"
	case code == http.StatusTooManyRequests || e.wait > 0:
		e.advice = "it asks for a pause, and has it"
	}
	if kind := answer.Header.Get("Content-Type"); strings.HasPrefix(kind, "text/plain") || strings.HasPrefix(kind, "application/json") {
		switch words := clean(hide(string(said), f.secrets), quoteLimit); {
		case words == "":
		case f.public:
			e.text += ": " + words
		default:
			e.text += " (its words are not shown: they may repeat the address)"
		}
	}
	return e
}

// unwanted reports whether an answer is about what was sent, and not about who sends it and where to.
func unwanted(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// retryAfter is what an answer of 429 or 503 asks for (RFC 9110, Section 10.2.3), at most an hour.
func retryAfter(answer *http.Response, now time.Time) time.Duration {
	if answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	value := answer.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return min(max(0, time.Duration(min(seconds, int(longestWait/time.Second)))*time.Second), longestWait)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, at.Sub(now)), longestWait)
	}
	return 0
}
