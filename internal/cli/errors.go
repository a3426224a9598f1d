package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/sandbox"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// The exit statuses (CONTRACT.md, 2).
const (
	exitDone   = 0
	exitFailed = 1 // could not be done or examined
	exitUsage  = 2 // usage or configuration
	exitJudged = 3 // examined and judged bad
)

// Codes of errors that are no trust.Reason and no code of package admin.
const (
	codeUsage         = admin.CodeUsage
	codeConfiguration = admin.CodeConfiguration
	codeFailed        = admin.CodeFailed
	codeUnreadable    = "unreadable"
	codeUnreachable   = "unreachable"
	codeTimeout       = "timeout"
)

// exitError is an error with its exit status and its code.
type exitError struct {
	exit    int
	code    string
	err     error
	message string // instead of that of err
	hint    string
	told    bool // the text on stdout says it: stderr has only the hint
}

// Error returns the message, else that of the cause.
func (f *exitError) Error() string {
	if f.message != "" {
		return f.message
	}
	return f.err.Error()
}

// Unwrap returns the cause.
func (f *exitError) Unwrap() error { return f.err }

// Hint returns the next action.
func (f *exitError) Hint() string {
	if f.hint != "" {
		return f.hint
	}
	return hintOf(f.err)
}

// hintOf is pki.Hint, which does not know that a refusal of the daemon carries
// its hint as it came over the socket.
func hintOf(err error) string {
	var refusal *admin.Error
	if hint := pki.Hint(err); hint != "" || !errors.As(err, &refusal) {
		return hint
	}
	return refusal.Hint
}

func usagef(hint, format string, args ...any) *exitError {
	return &exitError{exit: exitUsage, code: codeUsage, err: fmt.Errorf(format, args...), hint: hint}
}

func failed(code string, err error) *exitError {
	return &exitError{exit: exitFailed, code: code, err: err}
}

func judged(code string, err error) *exitError {
	return &exitError{exit: exitJudged, code: code, err: err}
}

// classify gives exit status and code of an error.
func classify(err error) (exit int, code string) {
	var (
		f           *exitError
		refusal     *admin.Error
		unreachable *admin.Unreachable
		problems    config.Problems
		verdict     *trust.VerifyError
	)
	switch {
	case errors.As(err, &f):
		return f.exit, f.code
	case errors.As(err, &refusal):
		return exitOfAPI(refusal.Code), cmp.Or(refusal.Reason, refusal.Code)
	case errors.Is(err, context.DeadlineExceeded):
		return exitFailed, codeTimeout
	case errors.As(err, &unreachable):
		return exitFailed, codeUnreachable
	case errors.As(err, &problems):
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return exitFailed, codeUnreadable
		}
		return exitUsage, codeConfiguration
	case errors.As(err, &verdict):
		return exitJudged, string(verdict.Reason)
	case errors.Is(err, sandbox.ErrUsage):
		return exitUsage, codeUsage
	}
	return exitFailed, codeFailed
}

// exitOfAPI gives the exit status for a refusal of the daemon.
func exitOfAPI(code string) int {
	switch code {
	case admin.CodeConfiguration, admin.CodeUsage, admin.CodeUnknown:
		return exitUsage
	case admin.CodeRefused:
		return exitJudged
	}
	return exitFailed
}
