package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/pki"
)

// Peers is the name policy for a peer: exact names, any name of the chain, or
// pins of public keys. The zero value accepts nobody.
type Peers struct {
	names []string
	any   bool
	pins  map[[sha256.Size]byte]bool
}

// Names accepts a peer whose certificate carries one of these names, compared
// exactly but for case and a trailing dot. A wildcard in a certificate matches
// nothing: the NHS PKI issues none (SPINE.md, 4). Nor does an IP address, which is
// no DNS name, wherever the certificate has it.
func Names(names ...string) Peers {
	p := Peers{}
	for _, n := range names {
		// No certificate carries the empty name: it would make p look as if it
		// accepted somebody.
		if n = strings.ToLower(strings.TrimSuffix(n, ".")); n != "" {
			p.names = append(p.names, n)
		}
	}
	slices.Sort(p.names)
	return p
}

// AnyName accepts every certificate of the chain, whatever its name. Chain-only
// acceptance lets in any NHS endpoint (SPINE.md, 2), so it must be written out.
func AnyName() Peers { return Peers{any: true} }

// WithPins returns p with the demand that the leaf's public key is one of pins,
// given as the hex SHA-256 of the SubjectPublicKeyInfo. Pins are in addition to
// names. No pins is no demand; a pin that is not 64 hex digits is an error.
func (p Peers) WithPins(pins ...string) (Peers, error) {
	if len(pins) == 0 {
		return p, nil
	}
	set := make(map[[sha256.Size]byte]bool, len(pins))
	for _, pin := range pins {
		raw, err := hex.DecodeString(strings.ReplaceAll(strings.ToLower(pin), ":", ""))
		if err != nil || len(raw) != sha256.Size {
			return Peers{}, fmt.Errorf("read pin %q: not 64 hex digits (SHA-256 of the public key)", clip(pin))
		}
		set[[sha256.Size]byte(raw)] = true
	}
	p.pins = set
	return p, nil
}

// Empty reports whether p accepts nobody.
func (p Peers) Empty() bool { return !p.any && len(p.names) == 0 }

// match judges the names of leaf and says which one was used and where it was read.
func (p Peers) match(leaf *x509.Certificate, purpose Purpose, fromCN bool) (string, pki.NameSource, error) {
	if len(p.pins) > 0 && !p.pins[sha256.Sum256(leaf.RawSubjectPublicKeyInfo)] {
		return "", pki.NameNone, refuse(NotListed, leaf, "the public key of %s is not one of the pins", describe(leaf))
	}
	names, source := pki.Names(leaf)
	if source == pki.NameFromCN && !fromCN {
		names = nil
	}
	if p.any {
		if len(names) == 0 {
			return "", pki.NameNone, nil
		}
		return names[0], source, nil
	}
	for _, n := range names {
		if _, found := slices.BinarySearch(p.names, n); found && !strings.Contains(n, "*") && !isAddress(n) {
			return n, source, nil
		}
	}
	return "", pki.NameNone, p.mismatch(leaf, purpose, names, source)
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

func (p Peers) mismatch(leaf *x509.Certificate, purpose Purpose, names []string, source pki.NameSource) error {
	reason, want := NotListed, "none of the permitted names"
	if purpose != ClientAuth {
		reason, want = NameMismatch, "not the expected name"
	}
	if len(p.names) == 1 {
		want = fmt.Sprintf("not %q", p.names[0])
	}
	if len(p.names) == 0 {
		want = "and no name is permitted"
	}
	switch {
	case len(names) > 0:
		return refuse(reason, leaf, "the certificate is for %s, %s", quoteAll(names), want)
	case source == pki.NameFromCN:
		e := refuse(reason, leaf, "%s has no subjectAltName, and its common name does not count here", describe(leaf))
		e.Advice = "certificates of the G1 profile carry their name in the CN only: set name_from_cn: true to accept that"
		return e
	default:
		return refuse(reason, leaf, "%s carries no DNS name", describe(leaf))
	}
}

func quoteAll(names []string) string {
	const most = 5
	var b strings.Builder
	for i, n := range names {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(names)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", clip(n))
	}
	return b.String()
}
