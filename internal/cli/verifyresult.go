package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// The verdicts.
const (
	verdictAccepted = "accepted"
	verdictRefused  = "refused"
	verdictNone     = "not_examined" // it could not be
)

// purposeEither stands for trust.AnyPurpose.
const purposeEither = "either"

// notChecked is said of names and revocation that nobody asked for.
const notChecked = "not_checked"

// verifyResult is the result of verify (CONTRACT.md, 3).
type verifyResult struct {
	Verdict     string      `json:"verdict"`
	Reason      string      `json:"reason"`
	Detail      string      `json:"detail"` // the sentence
	Name        nameFacts   `json:"name"`
	Revocation  string      `json:"revocation"`
	Unchecked   string      `json:"unchecked,omitempty"` // why there was no answer on revocation
	Environment string      `json:"environment"`
	Purpose     string      `json:"purpose"`
	At          time.Time   `json:"at"`
	Chain       []chainLink `json:"chain"` // accepted: the path, root last; refused: what was presented
	Peer        *peerFacts  `json:"peer,omitempty"`
	Notes       []string    `json:"notes"`

	fetchHint string // what to do about a CRL that could not be fetched
}

// nameFacts says which name was looked for and where it was found.
type nameFacts struct {
	Checked  bool   `json:"checked"`
	Expected string `json:"expected"`
	Source   string `json:"source"` // san, cn, or not_checked
	Value    string `json:"value"`  // the name of the certificate
}

// chainLink is one certificate of a chain.
type chainLink struct {
	Role     string      `json:"role"`
	Subject  string      `json:"subject"`
	Issuer   string      `json:"issuer"`
	Serial   string      `json:"serial"`
	NotAfter time.Time   `json:"not_after"`
	SHA256   string      `json:"sha256"`
	Known    *knownFacts `json:"known,omitempty"`
}

func newVerifyResult(b *judgementBase, v *verification) *verifyResult {
	purpose := v.request.Purpose.String()
	if v.request.Purpose == trust.AnyPurpose {
		purpose = purposeEither
	}
	return &verifyResult{
		Verdict: verdictNone, Revocation: notChecked, Environment: b.environment, Purpose: purpose, At: v.at.UTC().Truncate(time.Second),
		Name:  nameFacts{Checked: v.expected != "", Expected: v.expected, Source: notChecked},
		Chain: []chainLink{}, Notes: []string{},
	}
}

// accept takes over a verdict.
func (r *verifyResult) accept(v trust.Verdict) {
	r.Verdict, r.Revocation, r.Unchecked = verdictAccepted, v.Revocation, string(v.Unchecked)
	r.Name.Value = v.Name
	if r.Name.Checked {
		r.Name.Source = string(v.NameSource)
	}
	r.links(v.Chain)
}

// refuse takes over why there is no acceptance, and returns the error that says it.
func (r *verifyResult) refuse(presented []*x509.Certificate, err error, o *verifyOptions) error {
	exit, code := classify(err)
	r.Reason = code
	r.links(presented)
	if exit != exitJudged {
		return err
	}
	r.Verdict, r.Detail = verdictRefused, err.Error()
	f := &exitError{exit: exit, code: code, err: err, hint: pki.Hint(err), told: true}
	var v *trust.VerifyError
	if !errors.As(err, &v) {
		return f
	}
	r.Detail, f.message = v.Detail, v.Detail
	if len(presented) > 0 {
		names, source := pki.Names(presented[0])
		r.Name.Value = strings.Join(names, ", ")
		if r.Name.Checked {
			r.Name.Source = string(source)
		}
	}
	switch v.Reason {
	case trust.Revoked, trust.CRLUnavailable, trust.CRLStale, trust.CRLInvalid, trust.NoCRLAddress:
		r.Revocation = string(v.Reason)
	}
	f.hint = r.hint(v, o)
	return f
}

// hint is the advice of the refusal, in words of the flags where the words of
// the configuration do not help.
func (r *verifyResult) hint(v *trust.VerifyError, o *verifyOptions) string {
	onFlags := len(o.trust) > 0
	switch reason := v.Reason; {
	case (reason == trust.NameMismatch || reason == trust.NotListed) && o.name == "" && net.ParseIP(r.Name.Expected) != nil:
		return "certificates name hosts, not addresses: say which one with --name"
	case (reason == trust.NameMismatch || reason == trust.NotListed) && onFlags:
		return "if this is the right peer, expect its name: --name " + quoted(firstName(r.Name.Value))
	case reason == trust.CRLUnavailable && len(v.Addresses) == 0 && v.Advice != "": // it is no list that is missing, but a staple
		return v.Advice
	case (reason == trust.CRLUnavailable || reason == trust.NoCRLAddress) && onFlags:
		return "add the CRL of the issuer with --crl, in a file that is named as its address ends; or accept without: --revocation prefer"
	case (reason == trust.CRLUnavailable || reason == trust.CRLStale) && r.fetchHint != "":
		return r.fetchHint
	case reason == trust.CRLUnavailable:
		return "fetch that address into a file of the same name, and name the file in crl.files; or try --revocation prefer"
	case reason == trust.UnknownIssuer && onFlags:
		return "compare the issuer with the trust files: spinecert inspect " + quoted(o.trust[0])
	}
	return v.Hint()
}

func firstName(names string) string {
	name, _, _ := strings.Cut(names, ", ")
	if name == "" {
		return "NAME"
	}
	return name
}

func (r *verifyResult) links(chain []*x509.Certificate) {
	for _, c := range chain {
		k := known(c)
		if k != nil && r.Environment == "" {
			r.Environment = k.Environment
		}
		r.Chain = append(r.Chain, chainLink{Role: role(c), Subject: c.Subject.String(), Issuer: c.Issuer.String(),
			Serial: c.SerialNumber.Text(16), NotAfter: c.NotAfter.UTC(), SHA256: pki.Fingerprint(c), Known: k})
	}
}

// show writes the verdict as the first line and how it came about below.
func (r *verifyResult) show(p *page) {
	switch r.Verdict {
	case verdictAccepted:
		p.line("accepted")
	case verdictRefused:
		p.line("refused: %s: %s", r.Reason, r.Detail)
	default:
		return // stderr says why
	}
	p.fact(2, "name", r.nameText())
	revocation := r.Revocation
	if r.Unchecked != "" {
		revocation += ": " + r.Unchecked
	}
	p.fact(2, "revocation", revocation)
	p.fact(2, "environment", r.Environment)
	p.fact(2, "judged", "at "+stamp(r.At)+", "+r.purposeText())
	var chain []string
	for i, c := range r.Chain {
		chain = append(chain, fmt.Sprintf("%d %s, until %s", i+1, c.Subject, stamp(c.NotAfter)))
	}
	label := "chain"
	if r.Verdict == verdictRefused {
		label = "presented"
	}
	p.fact(2, label, chain...)
	if r.Peer != nil {
		r.Peer.show(p)
	}
	for _, note := range r.Notes {
		p.line("  note: %s", note)
	}
}

func (f *peerFacts) show(p *page) {
	p.fact(2, "peer", f.Address+", "+f.Version+", "+f.Suite)
	switch {
	case !f.Asks:
		p.fact(2, "asks for", "no certificate")
	case len(f.AcceptableCAs) == 0:
		p.fact(2, "asks for", "a certificate of any CA")
	default:
		p.fact(2, "acceptable CAs", f.AcceptableCAs...)
	}
	p.fact(2, "it refused us", f.Refusal)
}

func (r *verifyResult) purposeText() string {
	if r.Purpose == purposeEither {
		return "as server or client"
	}
	return "as " + r.Purpose
}

func (r *verifyResult) nameText() string {
	value := r.Name.Value
	if value == "" {
		value = "none"
	}
	switch {
	case !r.Name.Checked:
		return notChecked + "; the certificate says " + value
	case r.Name.Expected != "" && r.Reason == string(trust.NameMismatch), r.Reason == string(trust.NotListed):
		return value + ", expected " + r.Name.Expected
	case r.Name.Source == string(pki.NameFromCN):
		return value + ", by CN: the certificate has no SAN"
	case r.Name.Source == string(pki.NameFromSAN):
		return value + ", by SAN"
	}
	return value
}
