package anchor

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// View is one environment at one moment.
type View struct {
	Environment   string
	Bundle        *trust.Bundle // in force
	CRLs          []*trust.CRL  // in force, of files that the configuration names
	AcceptableCAs []string      // of the configuration; nil is every subCA
	Slots         []Slot
	Seen          []Peer
	Now           time.Time
}

// Slot is what a slot of the environment serves.
type Slot struct {
	Name     string
	Identity *pki.Identity
}

// Peer is a peer that was accepted, and the CAs that it was accepted under.
type Peer struct {
	Name   string
	Tunnel string
	Last   time.Time
	CAs    []string // SHA-256, lower-case hex, issuing CA first
}

// CAs describes the certificates of a bundle: roots first, each with the slots and
// peers that stand under it.
func (v View) CAs(b *trust.Bundle) []admin.TrustCA {
	out := []admin.TrustCA{}
	paths := v.paths(b)
	for _, c := range b.Certificates() {
		out = append(out, v.describe(c, b.File(c), paths))
	}
	return out
}

func (v View) describe(c *x509.Certificate, file string, paths map[string][]*x509.Certificate) admin.TrustCA {
	ca := admin.TrustCA{Subject: c.Subject.String(), SHA256: pki.Fingerprint(c), NotAfter: c.NotAfter.UTC(), Root: pki.IssuedBy(c, c),
		Expired: v.Now.After(c.NotAfter), Known: known(c), File: file, Slots: []string{}, Peers: []admin.SeenPeer{}}
	for _, s := range v.Slots {
		if slices.ContainsFunc(paths[s.Name], c.Equal) {
			ca.Slots = append(ca.Slots, s.Name)
		}
	}
	for _, p := range v.Seen {
		if slices.Contains(p.CAs, ca.SHA256) {
			ca.Peers = append(ca.Peers, admin.SeenPeer{Name: p.Name, Tunnel: p.Tunnel, LastSeen: p.Last.UTC()})
		}
	}
	return ca
}

// known is what the program knows of a CA by its fingerprint, or "".
func known(c *x509.Certificate) string {
	k, ok := trust.Known(c)
	if !ok {
		return ""
	}
	environment := k.Environment
	if environment == "ptl" {
		environment = "path to live"
	}
	return k.Name + ", NHS " + environment + ", " + k.Generation
}

// paths returns the CAs above what each slot serves, by the name of the slot. Every
// CA that could be on the way is among them: of two that are cross-signed, both.
func (v View) paths(b *trust.Bundle) map[string][]*x509.Certificate {
	out := map[string][]*x509.Certificate{}
	above := issuers{bundle: b.Certificates(), found: map[*x509.Certificate][]*x509.Certificate{}}
	for _, s := range v.Slots {
		brought := s.Identity.Chain()
		at := []*x509.Certificate{s.Identity.Leaf()}
		for len(at) > 0 {
			var next []*x509.Certificate
			for _, c := range at {
				for _, ca := range above.of(c, brought) {
					if !slices.ContainsFunc(out[s.Name], ca.Equal) {
						out[s.Name] = append(out[s.Name], ca)
						next = append(next, ca)
					}
				}
			}
			at = next
		}
	}
	return out
}

// issuers finds the CAs that signed a certificate. What it found of a CA in the
// bundle it keeps: thousands of slots stand under the same few.
type issuers struct {
	bundle []*x509.Certificate
	found  map[*x509.Certificate][]*x509.Certificate
}

func (i issuers) of(c *x509.Certificate, brought []*x509.Certificate) []*x509.Certificate {
	out, ok := i.found[c]
	if !ok {
		out = signers(c, i.bundle)
		if slices.Contains(i.bundle, c) {
			i.found[c] = out
		}
	}
	return append(out[:len(out):len(out)], signers(c, brought)...)
}

func signers(c *x509.Certificate, from []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, ca := range from {
		if pki.IssuedBy(c, ca) {
			out = append(out, ca)
		}
	}
	return out
}

// sameCA reports whether two certificates are of one CA, that is of one name and
// key: what the one signed stands under the other as well.
func sameCA(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}
