package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"

	"github.com/spinecert/spinecert/pki"
)

// Reason says in one word why a peer chain was refused. The same words stand in
// errors, JSON, logs and metric labels.
type Reason string

// The reasons, in the order in which the checks are made.
const (
	Protocol          Reason = "protocol"           // the handshake failed before there was anything to judge
	TooLarge          Reason = "too_large"          // the handshake or a file is over its limit
	NoCertificate     Reason = "no_certificate"     // the peer presented no certificate
	Malformed         Reason = "malformed"          // something does not parse
	UnknownIssuer     Reason = "unknown_issuer"     // no path to a root of this environment
	WrongEnvironment  Reason = "wrong_environment"  // the issuer belongs to another environment
	BadSignature      Reason = "bad_signature"      // an issuer is known, but did not sign this
	WeakSignature     Reason = "weak_signature"     // the chain needs an MD5 or SHA-1 signature
	WeakKey           Reason = "weak_key"           // a key is too small or of an unsupported kind
	PathLength        Reason = "path_length"        // more CAs than a CA of the path permits, or a CA that is none
	NameConstraint    Reason = "name_constraint"    // a name outside of what a CA of the path may certify
	CriticalExtension Reason = "critical_extension" // a critical extension that is not understood
	NotYetValid       Reason = "not_yet_valid"
	Expired           Reason = "expired"
	WrongPurpose      Reason = "wrong_purpose" // the extended key usage does not fit
	NameMismatch      Reason = "name_mismatch" // the one expected name is not in the certificate
	NotListed         Reason = "not_listed"    // none of several permitted names or pins is in the certificate
	NoCRLAddress      Reason = "no_crl_address"
	CRLUnavailable    Reason = "crl_unavailable"
	CRLInvalid        Reason = "crl_invalid"
	CRLStale          Reason = "crl_stale"
	Revoked           Reason = "revoked"
)

// VerifyError is the refusal of one peer chain.
type VerifyError struct {
	Reason      Reason
	Certificate *x509.Certificate // the certificate the refusal is about; may be nil
	Detail      string            // a sentence; never empty
	Addresses   []string          // with CRLUnavailable: where the missing CRLs can be had
	Advice      string            // the next action for the operator
	Err         error             // the cause, if another package gave one
}

// Error returns `<reason>: <sentence>`.
func (e *VerifyError) Error() string { return string(e.Reason) + ": " + e.Detail }

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

// Hint returns the next action for the operator; it may be empty.
func (e *VerifyError) Hint() string { return e.Advice }

// ReasonOf returns the reason of the first VerifyError or CRLError in err's tree, or "".
func ReasonOf(err error) Reason {
	var v *VerifyError
	if errors.As(err, &v) {
		return v.Reason
	}
	var c *CRLError
	if errors.As(err, &c) {
		return c.Reason
	}
	return ""
}

func refuse(r Reason, c *x509.Certificate, format string, args ...any) *VerifyError {
	return &VerifyError{Reason: r, Certificate: c, Detail: fmt.Sprintf(format, args...), Advice: advice[r]}
}

// advice holds the next action for each reason where one sentence fits all cases.
// It is constant data; nothing writes to it.
var advice = map[Reason]string{
	Protocol:          "see which versions and suites both sides offer: spinecert verify HOST:PORT",
	TooLarge:          "raise limits.chain_bytes if the peer's chain is really that long",
	NoCertificate:     "the peer must present its NHS certificate; it may have found no acceptable CA: see acceptable_cas",
	Malformed:         "look at what the peer sends: spinecert inspect FILE",
	UnknownIssuer:     "compare the issuer with the bundle: spinecert inspect BUNDLE; add the missing subCA or root to the environment's trust files",
	WrongEnvironment:  "use the certificate and the trust bundle of the same environment on both sides",
	BadSignature:      "the certificate was altered, or a CA of the same name has another key; get it again from its issuer",
	WeakSignature:     "the peer needs a certificate signed with SHA-256 or better",
	WeakKey:           "the peer needs a key of at least RSA 2048 or ECDSA P-256",
	PathLength:        "the peer's chain uses a CA that may not issue this certificate; ask its issuer",
	NameConstraint:    "a CA of the chain may not certify this name; ask its issuer",
	CriticalExtension: "ask the issuer for a certificate without this extension",
	NotYetValid:       "check the clock of this host, then the certificate's notBefore",
	Expired:           "the peer needs a new certificate; check the clock of this host first",
	WrongPurpose:      "the peer needs a certificate with the right extended key usage",
	NameMismatch:      "if this peer is the right one, write its name into peers",
	NotListed:         "if this peer may connect, add its name to the tunnel's peers",
	NoCRLAddress:      "name the issuer's CRL in crl.files, or carry it here: spinecert trust crl FILE",
	CRLUnavailable:    "spinecert trust crl says why the list could not be had; carry a current one here with spinecert trust crl FILE, or put it into crl.files",
	CRLInvalid:        "get the CRL again from its issuer",
	CRLStale:          "spinecert trust crl says why there is no newer one; carry a current list here with spinecert trust crl FILE, or put it into crl.files",
	Revoked:           "the issuer withdrew this certificate; the peer needs a new one",
}

// Hint returns the next action for the operator where nothing more is known than r.
func (r Reason) Hint() string { return advice[r] }

// Rule names where the rule is written that a reason stands for.
func (r Reason) Rule() string { return rules[r] }

// rules is constant data; nothing writes to it.
var rules = map[Reason]string{
	Protocol:          "RFC 5246, Section 7.2.2",
	TooLarge:          "limits.chain_bytes, crl.max_size",
	NoCertificate:     "SPINE.md, 2: mutual authentication",
	Malformed:         "RFC 5280, Section 4.1",
	UnknownIssuer:     "SPINE.md, 2: a valid chain, subCA, then root",
	WrongEnvironment:  "SPINE.md, 2: of this environment only",
	BadSignature:      "RFC 5280, Section 6.1.3 (a) (1)",
	WeakSignature:     "RFC 9155, Section 2; signature_algorithms",
	WeakKey:           "SPINE.md, 4: RSA 2048 or 4096; minimum_key",
	PathLength:        "RFC 5280, Section 6.1.4 (k) to (n)",
	NameConstraint:    "RFC 5280, Section 4.2.1.10",
	CriticalExtension: "RFC 5280, Section 4.2",
	NotYetValid:       "RFC 5280, Section 6.1.3 (a) (2)",
	Expired:           "SPINE.md, 2: not expired",
	WrongPurpose:      "RFC 5280, Section 4.2.1.12",
	NameMismatch:      "SPINE.md, 2: the FQDN that is expected",
	NotListed:         "SPINE.md, 2: the FQDN that is expected; peers, pins",
	NoCRLAddress:      "SPINE.md, 2: not revoked; revocation",
	CRLUnavailable:    "SPINE.md, 2: not revoked; revocation",
	CRLInvalid:        "RFC 5280, Section 6.3.3",
	CRLStale:          "RFC 5280, Section 5.1.2.5; crl.grace",
	Revoked:           "SPINE.md, 2: not revoked",
}

// describe names a certificate for a message: its subject, quoted so that control
// characters from the wire cannot reach a terminal or a log.
func describe(c *x509.Certificate) string {
	name := c.Subject.CommonName
	if name == "" {
		if names, _ := pki.Names(c); len(names) > 0 {
			name = names[0]
		} else {
			name = dn(c.Subject, c.RawSubject)
		}
	}
	return fmt.Sprintf("%q", clip(name))
}

// dn writes a name out. That takes time by the square of its length, and whoever
// made it has perhaps proved nothing.
func dn(name pkix.Name, raw []byte) string {
	if len(raw) > 1024 {
		return fmt.Sprintf("a name of %d bytes", len(raw))
	}
	return name.String()
}

func issuerName(c *x509.Certificate) string {
	name := c.Issuer.CommonName
	if name == "" {
		name = dn(c.Issuer, c.RawIssuer)
	}
	return fmt.Sprintf("%q", clip(name))
}

// clip bounds what a peer can make us write.
func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "..."
	}
	return s
}
