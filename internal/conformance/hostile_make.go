package main

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"

	"github.com/spinecert/spinecert/internal/testpki"
)

// rsa is the set-up of cases about RSA keys and SHA-1.
func rsa(c *chain) {
	kind := testpki.KeyType("rsa-2048")
	c.ofRoot(kind)
	c.ofSub(kind)
	c.ofLeaf(kind)
}

// dropSubCA leaves the subCA to the peer: a bundle does not take one that is no CA.
func dropSubCA(c *chain) {
	c.bundle = c.bundle[:1]
	c.lists = c.lists[:1]
	c.config.Revocation = "off" // nobody reads the lists of a CA that is not in the bundle
	c.request.Revocation = "off"
}

func versionOne(c *chain) {
	v1, err := x509.ParseCertificate(testpki.Version1(c.l, c.sub.Cert.Raw, c.root))
	c.l.check(err)
	c.presented[1] = v1
}

// deeper puts a CA between the subCA and the leaf.
func deeper(c *chain) {
	c.issuer = c.sub.SubCA(c.l, testpki.Name("Test Level 2"), testpki.CDP(subList))
	c.bundle = append(c.bundle, c.issuer.Cert)
	c.after(func(c *chain) { c.lists = append(c.lists, list{c.issuer.CRL(c.l, testpki.IDP(subList)), subList}) })
}

func leafAsCA(c *chain) {
	l := c.sub.Issue(c.l, testpki.Name("ca.thirdparty.nhs.uk"))
	c.issuer = &testpki.Authority{Cert: l.Cert, Key: l.Key, Parent: c.sub}
}

// impostor issues with another key under the subCA's name; hidden keeps its own
// certificate back, which a root that nobody trusts signed.
func impostor(hidden bool) func(*chain) {
	return func(c *chain) {
		other := testpki.NewRoot(c.l, testpki.RawSubject(c.root.Cert.RawSubject))
		c.issuer = other.SubCA(c.l, testpki.RawSubject(c.sub.Cert.RawSubject))
		if hidden {
			c.after(func(c *chain) { c.presented = c.presented[:1] })
		}
	}
}

func foreign(c *chain) {
	other := testpki.NewRoot(c.l, testpki.Name("Foreign Root"))
	c.issuer = other.SubCA(c.l, testpki.Name("Foreign SubCA"))
	c.after(func(c *chain) { c.presented = append(c.presented, other.Cert) })
}

func selfSigned(c *chain) {
	c.presented = []*x509.Certificate{testpki.NewRoot(c.l, testpki.Name(peerName), testpki.DNS(peerName)).Cert}
}

// cycle has two CAs certify each other.
func cycle(c *chain) {
	a, b := testpki.NewRoot(c.l, testpki.Name("Cycle A")), testpki.NewRoot(c.l, testpki.Name("Cycle B"))
	c.issuer = b.CrossSign(c.l, a)
	c.after(func(c *chain) {
		c.presented = []*x509.Certificate{c.leaf.Cert, c.issuer.Cert, a.CrossSign(c.l, b).Cert}
	})
}

func repeat(c *chain, n int) {
	for len(c.presented) < n {
		c.presented = append(c.presented, c.sub.Cert)
	}
}

func pinAnother(c *chain) {
	pin := sha256.Sum256(c.sub.Cert.RawSubjectPublicKeyInfo)
	var err error
	c.request.Peers, err = c.request.Peers.WithPins(hex.EncodeToString(pin[:]))
	c.l.check(err)
}

func emptySAN() pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: []byte{0x30, 0}}
}

// twoNames is a subject with several common names.
func twoNames(names ...string) []byte {
	var rdns pkix.RDNSequence
	for _, n := range names {
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: n}})
	}
	der, err := asn1.Marshal(rdns)
	if err != nil {
		panic(err) // strings always encode
	}
	return der
}
