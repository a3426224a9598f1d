package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

// suite is a set of cases.
type suite struct {
	name, about string
	run         func(*lab) ([]outcome, error)
}

// missing says that a suite, or a part of it, lacks its material.
type missing struct {
	what string
	must bool // it comes with Go or through the module proxy: CI has it
}

func (m *missing) Error() string { return m.what }

// outcome is how one case was judged.
type outcome struct {
	name string
	want trust.Reason // "" is an acceptance
	got  error
	na   string // why the case does not apply; "" if it does
}

// anyReason is wanted where a suite of others says that, and not why, a case is refused.
const anyReason trust.Reason = "any"

// refusal is what a case ends with that is refused by something else than trust.
type refusal struct {
	reason trust.Reason
	detail string
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.detail }

// reasonOf returns the one word of an error.
func reasonOf(err error) trust.Reason {
	var r *refusal
	var f *fetch.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &r):
		return r.reason
	case errors.As(err, &f):
		return trust.Reason(f.Reason)
	}
	return cmp.Or(trust.ReasonOf(err), "error")
}

// verdict is what an outcome counts as.
type verdict int

const (
	right verdict = iota
	falseAccept
	falseReject
	wrongReason
	notApplicable
)

func (o outcome) verdict() verdict {
	switch {
	case o.na != "":
		return notApplicable
	case o.want == "" && o.got == nil, o.want != "" && o.got != nil && (o.want == anyReason || o.want == reasonOf(o.got)):
		return right
	case o.got == nil:
		return falseAccept
	case o.want == "":
		return falseReject
	}
	return wrongReason
}

// report is how a suite ended.
type report struct {
	suite    suite
	outcomes []outcome
	skipped  string // why nothing was judged
	failed   error  // the suite itself did not work
	took     time.Duration
}

func (s suite) judge(sample bool) report {
	l, began := &lab{sample: sample}, time.Now()
	r := report{suite: s}
	r.failed = l.guard(func() error {
		var err error
		r.outcomes, err = s.run(l)
		return err
	})
	r.failed = errors.Join(r.failed, l.close())
	var m *missing
	if errors.As(r.failed, &m) && (!m.must || os.Getenv("CI") != "true") {
		r.skipped, r.failed = m.what, nil
	}
	r.took = time.Since(began)
	return r
}

func (r report) count(v verdict) int {
	n := 0
	for _, o := range r.outcomes {
		if o.verdict() == v {
			n++
		}
	}
	return n
}

func (r report) good() bool {
	return r.failed == nil && r.count(right)+r.count(notApplicable) == len(r.outcomes)
}

// print writes the table of one suite.
func (r report) print(w io.Writer) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("%s: %s (%.1f s)", r.suite.name, r.suite.about, r.took.Seconds())
	if r.skipped != "" {
		p("  not run: %s\n", r.skipped)
		return
	}
	if r.failed != nil {
		p("  failed: %v", r.failed)
	}
	p("  cases %d, right %d, false accepts %d, false rejects %d, wrong reasons %d, not applicable %d", len(r.outcomes),
		r.count(right), r.count(falseAccept), r.count(falseReject), r.count(wrongReason), r.count(notApplicable))
	unfit := map[string][]string{}
	for _, o := range r.outcomes {
		switch o.verdict() {
		case falseAccept:
			p("  FALSE ACCEPT   %s: want %s", o.name, o.want)
		case falseReject:
			p("  FALSE REJECT   %s: %v", o.name, o.got)
		case wrongReason:
			p("  WRONG REASON   %s: want %s, got %v", o.name, o.want, o.got)
		case notApplicable:
			unfit[o.na] = append(unfit[o.na], o.name)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(unfit)) {
		p("  not applicable, as %s (%d):\n    %s", why, len(unfit[why]), strings.Join(unfit[why], ", "))
	}
	p("")
}

// printJSON writes the line that ends the output (CONTRACT.md, 3).
func printJSON(w io.Writer, reports []report) error {
	type line struct {
		Name          string   `json:"name"`
		Cases         int      `json:"cases"`
		Right         int      `json:"right"`
		FalseAccepts  int      `json:"false_accepts"`
		FalseRejects  int      `json:"false_rejects"`
		NotApplicable []string `json:"not_applicable"`
	}
	var out struct {
		Suites []line `json:"suites"`
	}
	for _, r := range reports {
		s := line{r.suite.name, len(r.outcomes), r.count(right), r.count(falseAccept), r.count(falseReject), []string{}}
		if r.skipped != "" {
			s.NotApplicable = append(s.NotApplicable, "not run: "+r.skipped)
		}
		for _, o := range r.outcomes {
			if o.verdict() == notApplicable {
				s.NotApplicable = append(s.NotApplicable, o.name+": "+o.na)
			}
		}
		out.Suites = append(out.Suites, s)
	}
	return json.NewEncoder(w).Encode(out)
}
