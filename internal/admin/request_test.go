package admin

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serve runs a server on a socket and returns a client of it.
func serve(t *testing.T, b Backend) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(b)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return NewClient(path)
}

func code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// calls makes every call of this file.
func calls(c *Client) map[string]error {
	ctx := context.Background()
	out := map[string]error{}
	_, out["csr"] = c.NewRequest(ctx, CSRRequest{Slot: "pcs"})
	_, out["csr cancel"] = c.Cancel(ctx, CancelRequest{ID: "a"})
	_, out["import"] = c.Import(ctx, ImportRequest{Files: []File{{Name: "f", Data: []byte("data")}}})
	_, out["rollback"] = c.Rollback(ctx, RollbackRequest{Slot: "pcs"})
	_, out["request"] = c.Request(ctx, "a&b")
	return out
}

func whole() Backend {
	return Backend{
		NewRequest: func(_ context.Context, _ Caller, r CSRRequest) (CSRResult, error) {
			return CSRResult{Request: Request{Slot: r.Slot}}, nil
		},
		Cancel: func(context.Context, Caller, CancelRequest) (CancelResult, error) { return CancelResult{}, nil },
		Request: func(_ context.Context, id string) (CSRResult, error) {
			if id != "a&b" {
				return CSRResult{}, &Error{Code: CodeUnknown, Message: id}
			}
			return CSRResult{}, nil
		},
		Import: func(_ context.Context, _ Caller, r ImportRequest) (ImportResult, error) {
			out := ImportResult{}
			for _, f := range r.Files {
				out.From += uint64(len(f.Data))
			}
			return out, nil
		},
		Rollback: func(context.Context, Caller, RollbackRequest) (RotateResult, error) { return RotateResult{}, nil },
		Writers:  func() []int { return []int{os.Getuid()} },
	}
}

func TestRequestCalls(t *testing.T) {
	for name, err := range calls(serve(t, whole())) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A reader may look at a request, and change nothing.
	reader := whole()
	reader.Writers = func() []int { return nil }
	var told []string
	reader.Forbidden = func(_ Caller, action string) { told = append(told, action) }
	for name, err := range calls(serve(t, reader)) {
		want := CodeForbidden
		if name == "request" {
			want = ""
		}
		if code(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(told) != 4 {
		t.Errorf("told of %q", told)
	}
	for name, err := range calls(serve(t, Backend{Writers: whole().Writers})) {
		if code(err) != CodeUsage || !strings.Contains(err.Error(), "not supported by this version") {
			t.Errorf("%s without a backend: %v", name, err)
		}
	}
}

// TestSizes: an import may be large, and nothing else.
func TestSizes(t *testing.T) {
	c := serve(t, whole())
	ctx := context.Background()
	done, err := c.Import(ctx, ImportRequest{Files: []File{{Name: "f", Data: make([]byte, MaxAnswer)}}, Password: []byte("p")})
	if err != nil || done.From != MaxAnswer {
		t.Errorf("%d bytes, %v", done.From, err)
	}
	if _, err := c.Import(ctx, ImportRequest{Files: []File{{Name: "f", Data: make([]byte, maxImport)}}}); err == nil {
		t.Error("too much was taken")
	}
	if _, err := c.NewRequest(ctx, CSRRequest{Slot: string(bytes.Repeat([]byte("x"), maxRequest))}); err == nil {
		t.Error("a request of 1 MiB was taken")
	}
}

func TestReasonGoesOverTheWire(t *testing.T) {
	b := whole()
	b.Rollback = func(context.Context, Caller, RollbackRequest) (RotateResult, error) {
		return RotateResult{Slot: Slot{Name: "pcs", Held: true}}, &Error{Code: CodeRefused, Reason: "expired", Rule: "chain", Message: "m", Hint: "h"}
	}
	done, err := serve(t, b).Rollback(context.Background(), RollbackRequest{Slot: "pcs", To: 3})
	var e *Error
	if !errors.As(err, &e) || e.Reason != "expired" || e.Rule != "chain" || e.Hint != "h" || !done.Slot.Held {
		t.Errorf("%+v, %+v", done, err)
	}
}
