package lint

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/spinecert/spinecert/pki"
)

// subject is what is checked: a certificate or a request, and what both have.
type subject struct {
	target  Target
	cert    *x509.Certificate        // nil for a request
	request *x509.CertificateRequest // nil for a certificate

	attributes  []pkix.AttributeTypeAndValue // of the subject's name
	commonNames []string
	dnsNames    []string
	emails      []string // of subject and subject alternative name
	extensions  []pkix.Extension
	key         crypto.PublicKey
	signature   x509.SignatureAlgorithm
	root        bool // signed by itself

	faults map[string][]string // how names break the rules of pki.CheckName, by rule
}

func ofCertificate(c *x509.Certificate, target Target) *subject {
	s := &subject{target: target, cert: c, extensions: c.Extensions, key: c.PublicKey, signature: c.SignatureAlgorithm,
		dnsNames: c.DNSNames, emails: slices.Clone(c.EmailAddresses), root: isRoot(c)}
	s.readNames(c.Subject.Names)
	return s
}

// maxVerifyBits is the longest RSA key whose signatures are looked at: the time
// that takes grows with the square, and a file can hold a key of millions of bits.
const maxVerifyBits = 16384

func oversized(pub crypto.PublicKey) bool {
	k, ok := pub.(*rsa.PublicKey)
	return ok && k.N.BitLen() > maxVerifyBits
}

// isRoot reports whether c is signed by itself.
func isRoot(c *x509.Certificate) bool { return !oversized(c.PublicKey) && pki.IssuedBy(c, c) }

func ofRequest(r *x509.CertificateRequest) *subject {
	s := &subject{target: TargetRequest, request: r, extensions: r.Extensions, key: r.PublicKey, signature: r.SignatureAlgorithm,
		dnsNames: r.DNSNames, emails: slices.Clone(r.EmailAddresses)}
	s.readNames(r.Subject.Names)
	return s
}

// readNames takes the subject's name apart and judges the names of hosts.
func (s *subject) readNames(attributes []pkix.AttributeTypeAndValue) {
	s.attributes = attributes
	for _, a := range attributes {
		switch a.Type.String() {
		case oidCommonName:
			s.commonNames = append(s.commonNames, textOf(a.Value))
		case oidEmail:
			s.emails = append(s.emails, textOf(a.Value))
		}
	}
	s.faults = map[string][]string{}
	seen := map[string]bool{}
	for i, name := range slices.Concat(s.commonNames, s.dnsNames) {
		if seen[name] || hidden(name) {
			continue // what does not print has a rule of its own
		}
		seen[name] = true
		judge := pki.CheckName
		if i < len(s.commonNames) {
			judge = pki.CheckCommonName
		}
		for _, e := range nameErrors(judge(name)) {
			s.faults[e.Rule] = append(s.faults[e.Rule], fmt.Sprintf("%s %s", quote(name), e.Detail))
		}
	}
}

// nameErrors takes a joined error apart.
func nameErrors(err error) []*pki.NameError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*pki.NameError
		for _, e := range joined.Unwrap() {
			out = append(out, nameErrors(e)...)
		}
		return out
	}
	var e *pki.NameError
	if errors.As(err, &e) {
		return []*pki.NameError{e}
	}
	return nil
}

// Object identifiers, as text: constants cannot be changed.
const (
	oidCommonName       = "2.5.4.3"
	oidEmail            = "1.2.840.113549.1.9.1"
	oidUnstructuredName = "1.2.840.113549.1.9.2"
	oidChallenge        = "1.2.840.113549.1.9.7"
	oidKeyUsage         = "2.5.29.15"
	oidSAN              = "2.5.29.17"
	oidBasicConstraints = "2.5.29.19"
	oidNameConstraints  = "2.5.29.30"
	oidCRLAddresses     = "2.5.29.31"
	oidExtKeyUsage      = "2.5.29.37"
)

func (s *subject) extension(id string) *pkix.Extension {
	for i := range s.extensions {
		if s.extensions[i].Id.String() == id {
			return &s.extensions[i]
		}
	}
	return nil
}

func (s *subject) has(id string) bool { return s.extension(id) != nil }

// otherNames names the kinds of names in the subject alternative name that are
// neither dNSName nor rfc822Name (RFC 5280, Section 4.2.1.6).
func (s *subject) otherNames() []string {
	kinds := [...]string{0: "otherName", 3: "x400Address", 4: "directoryName", 5: "ediPartyName", 6: "uniformResourceIdentifier",
		7: "iPAddress", 8: "registeredID"}
	var out []string
	e := s.extension(oidSAN)
	if e == nil {
		return nil
	}
	der := cryptobyte.String(e.Value)
	var names, value cryptobyte.String
	var tag asn1.Tag
	if !der.ReadASN1(&names, asn1.SEQUENCE) {
		return nil
	}
	for names.ReadAnyASN1(&value, &tag) {
		if kind := int(tag & 0x1f); kind < len(kinds) && kinds[kind] != "" && !slices.Contains(out, kinds[kind]) {
			out = append(out, kinds[kind])
		}
	}
	return out
}

// hidden reports whether a name has a character that does not print.
func hidden(name string) bool {
	return strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// textOf is the value of an attribute, which a request may give any type.
func textOf(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	return fmt.Sprint(value)
}

// quote writes a name so that it cannot steer what it is printed on.
func quote(name string) string {
	const most = 80
	if cut := []rune(name); len(cut) > most {
		return fmt.Sprintf("%+q...", string(cut[:most]))
	}
	return fmt.Sprintf("%+q", name)
}

// few joins the first of a list: a certificate may have thousands of names.
func few(list []string) string {
	const most = 3
	if more := len(list) - most; more > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(list[:most], "; "), more)
	}
	return strings.Join(list, "; ")
}
