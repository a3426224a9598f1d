package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"strings"
)

// NameSource says which field of a certificate its names come from.
type NameSource string

// The sources of names.
const (
	NameNone    NameSource = ""    // the certificate names no host
	NameFromSAN NameSource = "san" // subject alternative name
	NameFromCN  NameSource = "cn"  // common name, as in G1 endpoint certificates
)

// Names returns the host names of a certificate and where they are from: its
// dNSNames in lower case, without trailing dots, each once; or, where there is
// no subject alternative name at all, its one common name if that is a host name
// (SPINE.md, 3). A subject alternative name without a dNSName gives no names and
// NameFromSAN: the common name must not stand in for it (RFC 6125, Section 6.4.4).
func Names(c *x509.Certificate) ([]string, NameSource) {
	var names []string
	seen := make(map[string]bool, len(c.DNSNames)) // a stranger's certificate may have 100,000 names
	for _, san := range c.DNSNames {
		if name := normalName(san); name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	if len(c.DNSNames) > 0 || hasSAN(c) {
		return names, NameFromSAN
	}
	if cn, ok := commonName(c); ok {
		if name := normalName(cn); isHostName(name) {
			return []string{name}, NameFromCN
		}
	}
	return nil, NameNone
}

func hasSAN(c *x509.Certificate) bool {
	oid := asn1.ObjectIdentifier{2, 5, 29, 17}
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return true
		}
	}
	return false
}

// commonName returns the common name if there is exactly one. Of several,
// Subject.CommonName is whichever came last.
func commonName(c *x509.Certificate) (string, bool) {
	oid := asn1.ObjectIdentifier{2, 5, 4, 3}
	count := 0
	for _, attribute := range c.Subject.Names {
		if attribute.Type.Equal(oid) {
			count++
		}
	}
	return c.Subject.CommonName, count == 1
}

// normalName lowers ASCII letters and takes one trailing dot away.
func normalName(name string) string {
	name = strings.TrimSuffix(name, ".")
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

// isHostName reports whether a lower-cased name is one of a host: labels of
// letters, digits and inner hyphens, the last not all digits, so that an address
// is none (RFC 1123, Section 2.1). Underscores and wildcards are not allowed
// (SPINE.md, 4).
func isHostName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
		last = label
	}
	return strings.Trim(last, "0123456789") != ""
}
