// Package lint checks certificates and certificate requests against a table of
// rules: what Spine asks of them (SPINE.md), and what RFC 5280 does.
//
//	for _, f := range lint.Certificate(cert) {
//		fmt.Println(f, "-", f.Rule.Advice)
//	}
//
// Each row of the table, a [Rule], says what it asks, where that is written, how
// bad it is to break it, and what to do then. docs/lint.md is the same table.
//
// It is no verdict: dates, trust and revocation are the business of package
// trust. A certificate without findings may be refused there, and one with
// warnings may be in service for years. Nothing is asked of a certificate that
// crypto/x509 does not parse (two extensions of one kind, a negative serial
// number): it is malformed, and never gets here.
//
// # Severity
//
// [Error]: Spine refuses it, or programs do; it cannot serve. [Warning]: some
// refuse it, or nobody could say whether Spine takes it. [Info]: good to know;
// real certificates of the NHS have it. No valid certificate that the NHS has
// issued and published breaks a rule that is an error.
//
// # Concurrency
//
// All functions are pure and may be called at once.
//
// # Errors
//
// There are none: a finding is a result.
package lint
