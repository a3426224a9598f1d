package config

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spinecert/spinecert/internal/order"
)

// maxProblems bounds what one reading reports: a file of the wrong kind has one mistake a line.
const maxProblems = 100

// A Problem is one thing that is wrong with a configuration, or, from [Config.Warnings], deserves a line in the log.
type Problem struct {
	File    string `json:"file"`             // as it was given to Load or Parse
	Line    int    `json:"line,omitempty"`   // from 1; 0 when the problem has no place in the file
	Column  int    `json:"column,omitempty"` // from 1
	Key     string `json:"key,omitempty"`    // path of the key, such as slots.pcs.files.key
	Message string `json:"message"`          // the cause
	Hint    string `json:"hint,omitempty"`   // the next action
	cause   error
}

// Caused makes a Problem of what was found wrong with a value of the key path in file, after
// the configuration was read.
func Caused(file, key string, err error, hint string) Problem {
	return Problem{File: file, Key: key, Message: err.Error(), Hint: hint, cause: err}
}

// Error returns `file:line:column: key: cause`, without the hint.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Unwrap returns the error below: of the operating system when the file could not be read, or what Caused was given; else nil.
func (p Problem) Unwrap() error { return p.cause }

// Problems is everything that is wrong with a configuration, sorted by line. It is the error of [Load] and [Parse].
type Problems []Problem

// Error returns the problems, one a line, without the hints.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look at each Problem.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// Hint returns the first hint there is.
func (ps Problems) Hint() string {
	for _, p := range ps {
		if p.Hint != "" {
			return p.Hint
		}
	}
	return ""
}

// sorted returns the problems in the order of the file, and says how many were left out.
func (ps Problems) sorted() Problems {
	order.Stable(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	if more := len(ps) - maxProblems; more > 0 {
		ps = append(ps[:maxProblems:maxProblems], Problem{
			File:    ps[0].File,
			Message: fmt.Sprintf("%d more problems are not shown", more),
			Hint:    "is this a spinecert configuration?",
		})
	}
	return ps
}
