package manage

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"

	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/pki"
)

// Bounds of what others can bring. A real answer has a few kilobytes and a handful
// of names; whoever has seen the request can write any other.
const (
	maxKept    = 64 << 10 // bytes of DER: a certificate, and one with the chain that is kept
	maxNames   = 100      // of the certificate itself
	maxName    = 200      // bytes of one name in a message
	maxMessage = 2 << 10  // bytes of a message
)

// Clip bounds a message that holds something of a certificate, for logs and for the
// audit file: about 2 KiB.
func Clip(message string) string { return clip(message, maxMessage) }

func clip(s string, limit int) string {
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// named quotes a name of a certificate for a message.
func named(n pkix.Name) string { return pki.QuoteName(n) }

// tooLarge refuses certificates before anything is done with them that costs time.
func tooLarge(answer *enrol.Answer) error {
	for _, p := range answer.Certificates {
		if len(p.Certificate.Raw) > maxKept {
			return oversized("a certificate in %s has %d bytes, at most %d are taken", clip(p.Where, maxName), len(p.Certificate.Raw), maxKept)
		}
	}
	return nil
}

// tooManyNames refuses a certificate for more names than any slot has.
func tooManyNames(leaf *x509.Certificate) error {
	if n := len(leaf.DNSNames) + len(leaf.EmailAddresses) + len(leaf.IPAddresses) + len(leaf.URIs); n > maxNames {
		return oversized("the certificate is for %d names, at most %d are taken", n, maxNames)
	}
	return nil
}

// tooLong refuses what would be too much to keep.
func tooLong(id *pki.Identity) error {
	size := len(id.Leaf().Raw)
	for _, ca := range id.Chain() {
		size += len(ca.Raw)
	}
	if size > maxKept {
		return oversized("the certificate and its chain have %d bytes, at most %d are taken", size, maxKept)
	}
	return nil
}

func oversized(format string, args ...any) error {
	return refused(ReasonTooLarge, "no authority issues such a one: ask the authority what it sent; spinecert inspect FILE shows what the file holds", format, args...)
}
