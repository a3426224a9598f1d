package daemon

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"github.com/spinecert/spinecert/pki"
)

// A peer chooses what its certificate says: each name and each sentence is bounded.
const (
	maxNameShown  = 200
	maxTextShown  = 1000
	maxErrorShown = 2 << 10
	// maxDN is how many bytes of a subject or issuer are made text: the time that it
	// takes grows with the square of its parts.
	maxDN = 1 << 10
	// maxNamesRead is how many names of a certificate are looked at for the first.
	maxNamesRead = 8
	// maxSerialBits is far over the 20 octets of RFC 5280, Section 4.1.2.2.
	maxSerialBits = 512
)

func clipName(s string) string { return clipTo(s, maxNameShown) }

// clipTo bounds a text, and writes what cannot be printed as Go does: nothing that a
// peer chose may move a cursor or turn the direction of a line, in a log or a file.
func clipTo(s string, limit int) string {
	short := s
	if len(short) > limit {
		short = short[:limit]
	}
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(short, "") {
		part := string(r)
		if !unicode.IsPrint(r) {
			part = strings.Trim(strconv.QuoteRune(r), "'")
		}
		if b.Len()+len(part) > limit {
			return b.String() + "..."
		}
		b.WriteString(part)
	}
	if len(s) > limit {
		return b.String() + "..."
	}
	return b.String()
}

// nameOf is what a certificate calls its holder: what counts as a name, else its subject.
func nameOf(c *x509.Certificate) string {
	few := *c
	few.DNSNames = c.DNSNames[:min(len(c.DNSNames), maxNamesRead)]
	if names, _ := pki.Names(&few); len(names) > 0 {
		return clipName(names[0])
	}
	if n := len(c.RawSubject); n > maxDN {
		return fmt.Sprintf("(a subject of %d bytes)", n)
	}
	return clipName(c.Subject.String())
}

func issuerOf(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return clipName(c.Issuer.CommonName)
	}
	if n := len(c.RawIssuer); n > maxDN {
		return fmt.Sprintf("(an issuer of %d bytes)", n)
	}
	return clipName(c.Issuer.String())
}

func serialOf(c *x509.Certificate) string {
	if n := c.SerialNumber.BitLen(); n > maxSerialBits {
		return fmt.Sprintf("(a number of %d bits)", n)
	}
	return c.SerialNumber.Text(16)
}

// sourceOf is the address that counts for a flood, as for limits.per_source: of IPv6 its /64.
func sourceOf(remote net.Addr) netip.Addr {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	if p, err := a.Prefix(64); a.Is6() && err == nil {
		return p.Addr()
	}
	return a
}
