package cli

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/spinecert/spinecert/pki"
)

// soon is how long before its end a certificate is worth a warning.
const soon = 30 * 24 * time.Hour

// findWarnings finds what is likely to go wrong with a file. Warnings judge
// nothing: the exit status does not know them.
func (f *fileFacts) findWarnings(c *pki.Contents, in input) []warning {
	out := []warning{}
	warn := func(code, format string, args ...any) {
		out = append(out, warning{Code: code, Message: fmt.Sprintf(format, args...)})
	}
	for i, cert := range c.Certificates {
		certificateWarnings(cert, fmt.Sprintf("certificate %d", i+1), f.Chain.Kind, f.now, warn)
	}
	if f.Chain != nil {
		f.Chain.warnings(warn)
	}
	for i, key := range f.Keys {
		if len(key.Fits) == 0 && len(c.Certificates) > 0 {
			warn("key_mismatch", "private key %d fits no certificate of the file", i+1)
		}
		if err := pki.CheckKey(c.Keys[i].Public()); err != nil {
			warn("weak_key", "private key %d: %v", i+1, err)
		}
	}
	// As the daemon with key_permissions: strict: the group may read, others not.
	if len(c.Keys) > 0 && in.mode.Perm()&0o027 != 0 {
		warn("key_readable", "it holds a private key, and its mode %#o lets others than owner and group at it", in.mode.Perm())
	}
	for i, r := range f.Requests {
		if r.Signature != "good" {
			warn("bad_signature", "request %d is not signed with its own key", i+1)
		}
	}
	for i, crl := range f.CRLs {
		if crl.Stale {
			warn("crl_stale", "CRL %d was due for renewal on %s", i+1, stamp(crl.NextUpdate))
		}
		if strings.Contains(crl.SignatureAlgorithm, "SHA1") || strings.Contains(crl.SignatureAlgorithm, "MD5") {
			warn("weak_signature", "CRL %d is signed with %s", i+1, crl.SignatureAlgorithm)
		}
	}
	for _, label := range c.Unknown {
		warn("unknown_block", "a PEM block %q is not understood", label)
	}
	return out
}

func certificateWarnings(c *x509.Certificate, which, kind string, now time.Time, warn func(code, format string, args ...any)) {
	role := role(c)
	switch {
	case now.After(c.NotAfter) && role == roleRoot:
		warn("expired", "%s is an expired root: take it out of the file", which)
	case now.After(c.NotAfter):
		warn("expired", "%s %s", which, remaining(c.NotAfter, now))
	case now.Before(c.NotBefore):
		warn("not_yet_valid", "%s is not valid before %s", which, stamp(c.NotBefore))
	case c.NotAfter.Sub(now) < soon:
		warn("expiring", "%s has %s", which, remaining(c.NotAfter, now))
	}
	// The signature of a root says nothing: it is trusted for where it is.
	if role != roleRoot && weakAlgorithm(c.SignatureAlgorithm) {
		warn("weak_signature", "%s is signed with %s", which, c.SignatureAlgorithm)
	}
	if err := pki.CheckKey(c.PublicKey); err != nil {
		warn("weak_key", "%s: %v", which, err)
	}
	if names, source := pki.Names(c); role == roleLeaf {
		switch {
		case source == pki.NameFromCN:
			warn("no_san", "%s has no subjectAltName: its name is the CN, which most programs do not accept", which)
		case len(names) == 0:
			warn("no_name", "%s names no host", which)
		}
	}
	if role == roleRoot && kind == kindChain {
		warn("root_in_chain", "%s is a root: peers have their own, it need not be sent", which)
	}
	for _, oid := range c.UnhandledCriticalExtensions {
		warn("critical_extension", "%s has the critical extension %s, which is not understood", which, oid)
	}
}

func weakAlgorithm(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

func (f *chainFacts) warnings(warn func(code, format string, args ...any)) {
	if f.Kind == kindChain && !f.Ordered {
		warn("chain_order", "the order is wrong for a server: put the certificates in the order %s", positions(f.Order))
	}
	if f.Kind == kindChain && !f.Complete && len(f.Order) == 1 {
		warn("issuer_missing", "the leaf is alone: its issuer %s is not in the file", strings.Join(f.Missing, "; "))
	}
	if f.Kind == kindSeveral {
		warn("several_leaves", "there is more than one leaf in the file")
	}
	for _, i := range f.Strangers {
		warn("stranger", "certificate %d is in no chain of the leaf", i)
	}
	for _, i := range f.Double {
		warn("duplicate", "certificate %d is in the file already", i)
	}
}

func positions(order []int) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(order)), ", "), "[]")
}
