package main

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// Stapled OCSP responses of a server whose certificate demands one.
func stapleCases() []chainCase {
	staple := func(edit func(*ocsp.Response), byLeaf bool) func(*chain) {
		return func(c *chain) { c.after(func(c *chain) { c.request.Staple = respond(c, edit, byLeaf) }) }
	}
	must := func(c *chain) {
		feature := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}
		c.ofLeaf(testpki.Extension(feature))
		staple(func(*ocsp.Response) {}, false)(c)
	}
	return []chainCase{
		{"must-staple, and nothing stapled", trust.CRLUnavailable, must, func(c *chain) { c.after(func(c *chain) { c.request.Staple = nil }) }},
		{"a staple that says revoked", trust.Revoked, must, staple(func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, time.Now() }, false)},
		{"an expired staple, replayed", trust.CRLStale, must, staple(func(r *ocsp.Response) { r.NextUpdate = time.Now().Add(-time.Minute) }, false)},
		{"the staple of another certificate", trust.CRLInvalid, must, staple(func(r *ocsp.Response) { r.SerialNumber = big.NewInt(4711) }, false)},
		{"a staple signed by the leaf itself", trust.CRLInvalid, must, staple(func(*ocsp.Response) {}, true)},
	}
}

func respond(c *chain, edit func(*ocsp.Response), byLeaf bool) []byte {
	r := ocsp.Response{Status: ocsp.Good, SerialNumber: c.leaf.Cert.SerialNumber,
		ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	edit(&r)
	responder, key := c.sub.Cert, c.sub.Key
	if byLeaf {
		responder, key = c.leaf.Cert, c.leaf.Key
		r.Certificate = c.leaf.Cert
	}
	der, err := ocsp.CreateResponse(c.sub.Cert, responder, r, key)
	c.l.check(err)
	return der
}
