package cli

import (
	"fmt"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/pki/lint"
)

// codeLint is the code for certificates and requests that break a rule.
const codeLint = "lint"

// lintFacts is one rule that a certificate or request breaks.
type lintFacts struct {
	Rule     string        `json:"rule"`
	Severity lint.Severity `json:"severity"`
	Message  string        `json:"message"`
	Source   string        `json:"source"` // where the rule is written
	Hint     string        `json:"hint"`
}

// describeFindings is never nil: checked, and nothing found, is an empty list.
func describeFindings(findings []lint.Finding) []lintFacts {
	out := []lintFacts{}
	for _, f := range findings {
		out = append(out, lintFacts{Rule: f.Rule.ID, Severity: f.Rule.Severity, Message: f.Detail, Source: f.Rule.Source, Hint: f.Rule.Advice})
	}
	return out
}

// lint checks the certificates and requests that are described already.
func (f *fileFacts) lint(c *pki.Contents) {
	for i, cert := range c.Certificates {
		f.Certificates[i].Lint = describeFindings(lint.Certificate(cert))
	}
	for i, request := range c.Requests {
		f.Requests[i].Lint = describeFindings(lint.Request(request))
	}
}

// lintFault judges what lint found: only errors count.
func (f *fileFacts) lintFault() error {
	errors := 0
	tally := func(findings []lintFacts) {
		for _, found := range findings {
			if found.Severity == lint.Error {
				errors++
			}
		}
	}
	for i := range f.Certificates {
		tally(f.Certificates[i].Lint)
	}
	for i := range f.Requests {
		tally(f.Requests[i].Lint)
	}
	if errors == 0 {
		return nil
	}
	fault := judged(codeLint, fmt.Errorf("check %q: %s", f.File, count(errors, "error")))
	fault.hint = "the next action stands below each error; docs/lint.md has every rule"
	return fault
}

// showLint writes the findings of one certificate or request.
func showLint(p *page, findings []lintFacts) {
	if findings == nil {
		return
	}
	if len(findings) == 0 {
		p.fact(4, "lint", "keeps every rule")
		return
	}
	p.line("    lint")
	for _, f := range findings {
		p.line("      %s: %s: %s (%s)", f.Severity, f.Rule, f.Message, f.Source)
		p.line("        next: %s", f.Hint)
	}
}
