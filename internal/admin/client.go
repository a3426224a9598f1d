package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// maxReply bounds what a client reads of an answer.
const maxReply = 64 << 20

// Client calls the admin API. Make it with NewClient.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the daemon that listens on socket. Nothing is
// dialled before the first call.
func NewClient(socket string) *Client {
	d := &net.Dialer{}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives:     true,
		ExpectContinueTimeout: writeTimeout, // used by CarryCRL alone
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Status asks how the daemon stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Rotate has the daemon look at a slot's source now. The error is an *Error with
// CodeRefused if the source was judged bad or is incomplete; the result is valid then too.
func (c *Client) Rotate(ctx context.Context, r RotateRequest) (RotateResult, error) {
	var res RotateResult
	return res, c.call(ctx, http.MethodPost, "/v1/rotate", r, &res)
}

// Reload has the daemon read configuration and material again.
func (c *Client) Reload(ctx context.Context) (ReloadResult, error) {
	var res ReloadResult
	return res, c.call(ctx, http.MethodPost, "/v1/reload", struct{}{}, &res)
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://spinecertd"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	return c.send(ctx, req, out)
}

func (c *Client) send(ctx context.Context, req *http.Request, out any) error {
	res, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer res.Body.Close()
	var envelope struct {
		Result json.RawMessage `json:"result"`
		Error  *Error          `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxReply)).Decode(&envelope); err != nil {
		return fmt.Errorf("read answer of %q: %w", c.socket, err)
	}
	if len(envelope.Result) > 0 {
		if err := json.Unmarshal(envelope.Result, out); err != nil {
			return fmt.Errorf("read answer of %q: %w", c.socket, err)
		}
	}
	if envelope.Error != nil {
		return envelope.Error
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %q: %s", c.socket, res.Status)
	}
	return nil
}

// Unreachable says that no daemon answers on the socket.
type Unreachable struct {
	Socket string
	Err    error
}

// Error returns `reach the daemon on "socket": cause`.
func (e *Unreachable) Error() string {
	return fmt.Sprintf("reach the daemon on %q: %v", e.Socket, e.Err)
}

// Unwrap returns the cause.
func (e *Unreachable) Unwrap() error { return e.Err }

// Hint returns the next action.
func (e *Unreachable) Hint() string {
	switch {
	case errors.Is(e.Err, fs.ErrPermission):
		return "run as root, or as a member of the group of the socket (admin.socket.group)"
	case errors.Is(e.Err, fs.ErrNotExist), errors.Is(e.Err, syscall.ECONNREFUSED):
		return "is spinecertd running? systemctl status spinecertd; name another socket with --socket"
	case errors.Is(e.Err, context.DeadlineExceeded):
		return "the daemon is there but did not answer in time; see its log, or raise --timeout"
	case errors.Is(e.Err, context.Canceled):
		return ""
	}
	return "the daemon hung up: it ends, or too many connections to its socket are open; see who keeps them (ss -xp), or run it as root"
}

// unreachable takes the URL out of the error, which says nothing here.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	var ue *url.Error
	var oe *net.OpError
	switch {
	case errors.As(err, &oe):
		err = oe.Err
	case errors.As(err, &ue):
		err = ue.Err
	}
	return &Unreachable{Socket: c.socket, Err: err}
}
