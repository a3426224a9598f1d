package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"slices"
	"strings"
)

// The parts that errors name.
const (
	partFile        = "file"
	partKey         = "key"
	partCertificate = "certificate"
	partRequest     = "certificate request"
	partPKCS7       = "pkcs7"
	partPKCS12      = "pkcs12"
	partIdentity    = "identity"
)

// Form is how a file is encoded.
type Form string

// The forms that Parse tells apart.
const (
	FormPEM    Form = "pem"    // text with PEM blocks
	FormDER    Form = "der"    // one or more bare DER elements
	FormPKCS7  Form = "pkcs7"  // PKCS#7 (CMS) SignedData, in DER or in PEM
	FormPKCS12 Form = "pkcs12" // PKCS#12 (PFX)
)

// Contents is everything a file holds, in the order of the file.
type Contents struct {
	Form         Form
	Certificates []*x509.Certificate
	Keys         []crypto.Signer
	Requests     []*x509.CertificateRequest
	CRLs         [][]byte // DER, not looked into
	Unknown      []string // labels of PEM blocks that are not understood
}

// part is one decoded PEM block, or one element of a DER file.
type part struct {
	kind      kind
	der       []byte
	label     string // "" in a DER file
	line      int    // of the PEM block
	encrypted bool   // by PEM headers
}

// Parse reads a file of any form this package knows. The password is for PKCS#12
// only; nil tries the empty one. Encrypted keys in PEM are refused with the
// command that decrypts them as hint. A file with nothing in it, or cut short,
// is an error that matches [ErrIncoherent]; one with PEM blocks of unknown kinds
// only is not an error.
func Parse(data, password []byte) (*Contents, error) {
	form, parts, err := split(data)
	if err != nil {
		return nil, err
	}
	if form == FormPKCS12 {
		return parsePKCS12(parts[0].der, password)
	}
	c := &Contents{Form: form}
	for _, p := range parts {
		if err := c.add(p); err != nil {
			return nil, err
		}
	}
	if len(parts) == 1 && parts[0].kind == kindPKCS7 {
		c.Form = FormPKCS7
	}
	return c, nil
}

// add reads one part into c.
func (c *Contents) add(p part) error {
	if p.encrypted || p.kind == kindEncryptedKey {
		return encryptedKey()
	}
	switch {
	case p.kind == kindCertificate:
		cert, err := parseCertificate(p)
		if err != nil {
			return err
		}
		c.Certificates = append(c.Certificates, cert)
	case p.kind == kindPKCS7:
		certs, crls, err := parsePKCS7(p.der)
		if err != nil {
			return err
		}
		c.Certificates = append(c.Certificates, certs...)
		c.CRLs = append(c.CRLs, crls...)
	case p.kind == kindRequest:
		request, err := x509.ParseCertificateRequest(p.der)
		if err != nil {
			return refusal(partRequest, "is malformed%s%s", at(p), safeCause(err))
		}
		c.Requests = append(c.Requests, request)
	case p.kind == kindCRL:
		c.CRLs = append(c.CRLs, p.der)
	case p.kind.isKey():
		key, err := parseKeyDER(p.kind, p.der)
		if err != nil {
			return err
		}
		c.Keys = append(c.Keys, key)
	case p.label == "EC PARAMETERS": // the key behind them names its curve again
	default:
		c.Unknown = append(c.Unknown, p.label)
	}
	return nil
}

// ParseCertificates reads the certificates of a PEM, DER or PKCS#7 file, in the
// order of the file. Keys and whatever else is in a PEM file are passed over. No
// certificate at all is an error that matches [ErrIncoherent].
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	_, parts, err := split(data)
	if err != nil {
		return nil, in(partCertificate, err)
	}
	var certs []*x509.Certificate
	for _, p := range parts {
		switch p.kind {
		case kindCertificate:
			cert, err := parseCertificate(p)
			if err != nil {
				return nil, err
			}
			certs = append(certs, cert)
		case kindPKCS7:
			more, _, err := parsePKCS7(p.der)
			if err != nil {
				return nil, err
			}
			certs = append(certs, more...)
		case kindPKCS12:
			return nil, refusal(partCertificate, "is a PKCS#12 file").
				advise("take the certificates out: openssl pkcs12 -in FILE -nokeys -out certificates.pem")
		}
	}
	if len(certs) == 0 {
		return nil, incoherent(partCertificate, "no certificate found%s", found(parts))
	}
	return certs, nil
}

func parseCertificate(p part) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(p.der)
	if err != nil {
		return nil, refusal(partCertificate, "is malformed%s%s", at(p), safeCause(err))
	}
	return cert, nil
}

// split finds the parts of a file and decodes them. There is at least one.
func split(data []byte) (Form, []part, error) {
	if len(bytes.Trim(data, " \t\r\n\x00")) == 0 { // NUL bytes are what a crash leaves
		return "", nil, incoherent(partFile, "is empty")
	}
	if looksBinary(data) {
		return splitDER(data)
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return "", nil, refusal(partFile, "is UTF-16 text").
			advise("save it as ASCII or UTF-8: iconv -f UTF-16 -t UTF-8 FILE > ascii.pem")
	}
	blocks, err := scanPEM(data)
	if err != nil {
		return "", nil, err
	}
	var parts []part
	for i := range blocks {
		p, err := partOf(&blocks[i])
		if err != nil {
			return "", nil, err
		}
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return "", nil, incoherent(partFile, "holds neither a PEM block nor DER")
	}
	return FormPEM, parts, nil
}

func splitDER(data []byte) (Form, []part, error) {
	form := FormDER
	var parts []part
	for rest := data; len(rest) > 0; {
		if len(parts) > 0 && rest[0] != 0x30 {
			return "", nil, refusal(partFile, "has trailing data behind its DER")
		}
		var element []byte
		var err error
		element, rest, err = readElement(partFile, rest)
		if err != nil {
			return "", nil, err
		}
		k := sniff(element)
		if k == kindUnknown {
			return "", nil, refusal(partFile, "is DER, but %s", k)
		}
		if k == kindPKCS12 {
			form = FormPKCS12
			if len(parts) > 0 || len(rest) > 0 {
				return "", nil, refusal(partPKCS12, "has trailing data")
			}
		}
		parts = append(parts, part{kind: k, der: element})
	}
	return form, parts, nil
}

// kindsOf returns what a PEM block of this label may hold (RFC 7468, and
// OpenSSL's older labels), or nil where the label is not known.
func kindsOf(label string) []kind {
	switch label {
	case "CERTIFICATE":
		return []kind{kindCertificate, kindPKCS7} // some tools label PKCS#7 so
	case "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
		return []kind{kindCertificate}
	case "PKCS7", "PKCS #7 SIGNED DATA", "CMS":
		return []kind{kindPKCS7}
	case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
		return []kind{kindRequest}
	case "X509 CRL":
		return []kind{kindCRL}
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		return []kind{kindPKCS8, kindPKCS1, kindSEC1}
	case "ENCRYPTED PRIVATE KEY":
		return []kind{kindEncryptedKey}
	default:
		return nil
	}
}

// partOf decodes a PEM block whose label is known.
func partOf(b *block) (part, error) {
	p := part{label: b.label, line: b.line, encrypted: b.encrypted}
	kinds := kindsOf(b.label)
	if kinds == nil || b.encrypted {
		return p, nil
	}
	der, err := b.decode()
	if err != nil {
		return p, err
	}
	element, rest, err := readElement(partFile, der)
	if err != nil {
		e := err.(*Error)
		e.Message = "PEM block \"" + b.label + "\"" + at(p) + ": " + e.Message
		return p, e
	}
	if len(rest) > 0 && b.label != "TRUSTED CERTIFICATE" { // which has OpenSSL's own data there
		return p, refusal(partFile, "PEM block %q%s has trailing data", b.label, at(p))
	}
	p.kind, p.der = sniff(element), element
	if !slices.Contains(kinds, p.kind) {
		return p, refusal(partFile, "PEM block %q%s holds %s", b.label, at(p), p.kind)
	}
	return p, nil
}

// at names the line of a PEM block.
func at(p part) string {
	if p.line == 0 {
		return ""
	}
	return " of line " + itoa(p.line)
}

// in names the part that the caller was after in an error that was just made.
func in(name string, err error) error {
	if e, ok := err.(*Error); ok {
		e.Part = name
	}
	return err
}

// found says, for an error, what a file has instead of what was looked for.
func found(parts []part) string {
	var what []string
	for _, p := range parts {
		name := p.kind.String()
		if p.kind == kindUnknown {
			name = "a PEM block \"" + p.label + "\""
		}
		if !slices.Contains(what, name) && len(what) < 3 {
			what = append(what, name)
		}
	}
	return ", but " + strings.Join(what, ", ")
}
