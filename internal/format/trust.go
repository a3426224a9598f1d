package format

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/spinecert/spinecert/pki"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Authorities returns the CAs among certificates in the order of a trust store:
// subCAs first, as OpenLDAP wants them (SPINE.md, 5), then roots. Within both the
// order stays.
func Authorities(certs []*x509.Certificate) []*x509.Certificate {
	var subCAs, roots []*x509.Certificate
	for _, c := range certs {
		switch {
		case !c.IsCA:
		case pki.IssuedBy(c, c):
			roots = append(roots, c)
		default:
			subCAs = append(subCAs, c)
		}
	}
	return slices.Concat(subCAs, roots)
}

// authorities are those of a source.
func authorities(s Source) ([]*x509.Certificate, error) {
	if len(s.CAs) == 0 {
		return nil, ErrNoCAs
	}
	certs, err := parsed(s.CAs)
	if err != nil {
		return nil, err
	}
	if certs = Authorities(certs); len(certs) == 0 {
		return nil, ErrNoCAs
	}
	return certs, nil
}

func trustPEM(s Source) ([]byte, error) {
	cas, err := authorities(s)
	return pki.EncodeCertificates(cas...), err
}

func trustPKCS12(s Source) ([]byte, error) {
	cas, err := authorities(s)
	if err != nil {
		return nil, err
	}
	return pki.EncodeTrustStore(cas, s.Password)
}

// crlPEM is one file of CRLs. One that is broken would keep a server from starting.
func crlPEM(s Source) ([]byte, error) {
	if len(s.CRLs) == 0 {
		return nil, ErrNoCRLs
	}
	var out []byte
	for i, der := range s.CRLs {
		if !isCRL(der) {
			return nil, fmt.Errorf("CRL %d of %d is broken, or no CRL in DER", i+1, len(s.CRLs))
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return out, nil
}

// isCRL reports whether DER is whole and begins like a CRL (RFC 5280, Section 5.1).
// Entries are not looked at: there may be a million, and who took the list in force
// has read them. A certificate has its validity where a CRL has a time.
func isCRL(der []byte) bool {
	s := cryptobyte.String(der)
	var list, tbs cryptobyte.String
	var tag asn1.Tag
	if !s.ReadASN1(&list, asn1.SEQUENCE) || !s.Empty() || !list.ReadASN1(&tbs, asn1.SEQUENCE) ||
		!list.SkipASN1(asn1.SEQUENCE) || !list.SkipASN1(asn1.BIT_STRING) || !list.Empty() ||
		!tbs.SkipOptionalASN1(asn1.INTEGER) || !tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) {
		return false
	}
	return tbs.ReadAnyASN1(&list, &tag) && (tag == asn1.UTCTime || tag == asn1.GeneralizedTime)
}

// ldapFormats are the formats of the files that ldaprc names, in its order.
func ldapFormats() []string { return []string{"trust-pem", "key", "fullchain"} }

// ldaprc is the configuration of OpenLDAP's client (ldap.conf(5)): three lines that
// name files by absolute path, as relative ones count from where the client was
// started. TLS_CACERT is one file. TLS_CERT has the chain too: a client that is linked
// with GnuTLS sends what is in the file.
func ldaprc(s Source) ([]byte, error) {
	var lines strings.Builder
	for i, option := range []string{"TLS_CACERT", "TLS_KEY", "TLS_CERT"} {
		name := ldapFormats()[i]
		path, ok := s.Paths[name]
		if !ok {
			return nil, &refusal{"ldaprc names a file of format " + name + ", and there is none", "have a file of each of these formats: " + strings.Join(ldapFormats(), ", ")}
		}
		// The reader takes white space off the end of a line.
		if !filepath.IsAbs(path) || strings.ContainsFunc(path, unicode.IsControl) || strings.HasSuffix(path, " ") {
			return nil, fmt.Errorf("path %q of the file of format %s: %w", path, name, ErrPath)
		}
		fmt.Fprintf(&lines, "%s %s\n", option, path)
	}
	return []byte(lines.String()), nil
}
