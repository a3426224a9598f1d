package cli

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
)

// chainFacts says how the certificates of a file hang together.
type chainFacts struct {
	Kind      string   `json:"kind"`       // chain (of one leaf), bundle (of CAs only), or several (leaves)
	LeafFirst bool     `json:"leaf_first"` // the first certificate is the leaf
	Ordered   bool     `json:"ordered"`    // each certificate is followed by its issuer, as servers must send them
	Order     []int    `json:"order"`      // positions, from 1, in the order of signing, leaf first
	Complete  bool     `json:"complete"`   // up to a root that is in the file
	Missing   []string `json:"missing"`    // issuers that are not in the file
	Strangers []int    `json:"strangers"`  // positions of certificates that are in no chain of the leaf
	Double    []int    `json:"duplicates"` // positions of certificates that are there already
}

// The kinds of chainFacts.
const (
	kindChain   = "chain"
	kindBundle  = "bundle"
	kindSeveral = "several"
)

func describeChain(certs []*x509.Certificate) *chainFacts {
	f := &chainFacts{Order: []int{}, Missing: []string{}, Strangers: []int{}, Double: []int{}}
	var leaves []int
	for i, c := range certs {
		if slices.ContainsFunc(certs[:i], c.Equal) {
			f.Double = append(f.Double, i+1)
		} else if role(c) == roleLeaf {
			leaves = append(leaves, i)
		}
	}
	switch len(leaves) {
	case 0:
		f.Kind = kindBundle
		f.describeBundle(certs)
	case 1:
		f.Kind = kindChain
		f.describePath(certs, leaves[0])
	default:
		f.Kind = kindSeveral
		f.LeafFirst = leaves[0] == 0
		f.describeBundle(certs)
	}
	return f
}

// describeBundle looks at a set of certificates whose order means nothing.
func (f *chainFacts) describeBundle(certs []*x509.Certificate) {
	for _, c := range certs {
		if issuer := c.Issuer.String(); !selfSigned(c) && issuerOf(c, certs, nil) < 0 && !slices.Contains(f.Missing, issuer) {
			f.Missing = append(f.Missing, issuer)
		}
	}
	f.Ordered, f.Complete = true, len(f.Missing) == 0
}

// describePath follows the leaf up to its root.
func (f *chainFacts) describePath(certs []*x509.Certificate, leaf int) {
	path := []int{leaf}
	for at := leaf; !selfSigned(certs[at]); {
		at = issuerOf(certs[at], certs, path)
		if at < 0 {
			break
		}
		path = append(path, at)
	}
	top := certs[path[len(path)-1]]
	if f.Complete = selfSigned(top); !f.Complete {
		f.Missing = append(f.Missing, top.Issuer.String())
	}
	f.LeafFirst = leaf == 0
	f.Ordered = slices.IsSorted(path) && f.LeafFirst
	for _, i := range path {
		f.Order = append(f.Order, i+1)
	}
	for i := range certs {
		// The cross-certificate of a CA in the path is no stranger.
		related := slices.ContainsFunc(path, func(j int) bool { return i != j && signedBy(certs[j], certs[i]) })
		if !slices.Contains(path, i) && !related && !slices.Contains(f.Double, i+1) {
			f.Strangers = append(f.Strangers, i+1)
		}
	}
}

// issuerOf returns the position of the issuer of c that is not yet in path, or
// -1. A root is taken before a cross-certificate for the same key.
func issuerOf(c *x509.Certificate, certs []*x509.Certificate, path []int) int {
	found := -1
	for i, ca := range certs {
		if slices.Contains(path, i) || ca.Equal(c) || !signedBy(c, ca) {
			continue
		}
		if found < 0 || selfSigned(ca) && !selfSigned(certs[found]) {
			found = i
		}
	}
	return found
}

// signedBy reports whether ca is named as the issuer of c and made its
// signature. Names are compared as raw DER (SPINE.md, 3). It judges nothing:
// where crypto/x509 no longer verifies the algorithm, the name has to do.
func signedBy(c, ca *x509.Certificate) bool {
	if !bytes.Equal(c.RawIssuer, ca.RawSubject) {
		return false
	}
	if len(c.AuthorityKeyId) > 0 && len(ca.SubjectKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, ca.SubjectKeyId) {
		return false
	}
	err := ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure)
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && signedBy(c, c)
}
