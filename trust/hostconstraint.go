package trust

import (
	"crypto/x509"
	"strings"
)

// constrainHosts applies what the CAs of path permit of mail addresses and URIs:
// a host without a leading dot is that host alone (RFC 5280, Section 4.2.1.10).
// crypto/x509 lets its subdomains in as well (PKITS 4.13.24).
func constrainHosts(path []*x509.Certificate) error {
	for i, ca := range path {
		for _, c := range path[:i] {
			for _, mail := range c.EmailAddresses {
				if !onHosts(mail[strings.LastIndexByte(mail, '@')+1:], mail, ca.PermittedEmailAddresses) {
					return refuse(NameConstraint, c, "%s may not certify the mail address %q", describe(ca), clip(mail))
				}
			}
			for _, uri := range c.URIs {
				if !onHosts(uri.Hostname(), "", ca.PermittedURIDomains) {
					return refuse(NameConstraint, c, "%s may not certify the address %q", describe(ca), clip(uri.String()))
				}
			}
		}
	}
	return nil
}

// onHosts reports whether one of permitted holds host, or is the whole mailbox;
// none of them permits all.
func onHosts(host, mailbox string, permitted []string) bool {
	for _, p := range permitted {
		if strings.EqualFold(p, host) || mailbox != "" && mailboxesEqual(p, mailbox) ||
			strings.HasPrefix(p, ".") && strings.HasSuffix(strings.ToLower(host), strings.ToLower(p)) {
			return true
		}
	}
	return len(permitted) == 0
}

// mailboxesEqual compares the local part exactly, the host without regard to case.
func mailboxesEqual(a, b string) bool {
	i, j := strings.LastIndexByte(a, '@'), strings.LastIndexByte(b, '@')
	return i > 0 && j > 0 && a[:i] == b[:j] && strings.EqualFold(a[i:], b[j:])
}
