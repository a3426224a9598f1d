package trust

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	stdasn1 "encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"
)

// ocsp.go: stapled OCSP responses (RFC 6066, Section 8), looked at only where a
// certificate says that its server always staples one, or where the environment
// asks for it. Nobody is asked over the network: NHS endpoint certificates name
// no OCSP address (SPINE.md, 3), and a CRL says the same.

// statusRequest is the TLS feature of a server that staples (RFC 7633, Section 6).
const statusRequest = 5

// mustStaple reports whether the TLS features of c, an extension, name
// status_request; true as well if they do not parse.
func mustStaple(c *x509.Certificate) bool {
	id := stdasn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(id) {
			continue
		}
		value := cryptobyte.String(ext.Value)
		var list cryptobyte.String
		if !value.ReadASN1(&list, asn1.SEQUENCE) || !value.Empty() {
			return true
		}
		for !list.Empty() {
			var feature int64
			if !list.ReadASN1Integer(&feature) || feature == statusRequest {
				return true
			}
		}
	}
	return false
}

// stapled checks the OCSP response of a server where one is demanded. chain is the
// verified path.
func (s *State) stapled(chain []*x509.Certificate, r Request) error {
	if r.Purpose != ServerAuth || r.Revocation == Off || len(chain) < 2 {
		return nil
	}
	leaf := chain[0]
	if !s.config.RequireStaple && !mustStaple(leaf) {
		return nil
	}
	refused := func(reason Reason, format string, args ...any) error {
		e := refuse(reason, leaf, format, args...)
		e.Advice = "the server must staple a current OCSP response: see its configuration (nginx: ssl_stapling), and whether it reaches its responder"
		return e
	}
	if len(r.Staple) == 0 {
		return refused(CRLUnavailable, "the server stapled no OCSP response, and %s demands one", s.demander(leaf))
	}
	response, err := ocsp.ParseResponseForCert(r.Staple, leaf, chain[1])
	var status ocsp.ResponseError
	switch {
	case errors.As(err, &status):
		return refused(CRLUnavailable, "the stapled OCSP response says %q, and nothing of %s", status.Error(), describe(leaf))
	case err != nil:
		return refused(CRLInvalid, "the stapled OCSP response for %s is not to be used: %s", describe(leaf), clip(err.Error()))
	case !ofIssuer(response.TBSResponseData, leaf, chain[1]):
		return refused(CRLInvalid, "the stapled OCSP response is for a certificate of another issuer that has the number of %s", describe(leaf))
	case s.config.weakSignature(&x509.Certificate{SignatureAlgorithm: response.SignatureAlgorithm}):
		return refused(CRLInvalid, "the stapled OCSP response for %s is signed with %v", describe(leaf), response.SignatureAlgorithm)
	case response.Certificate != nil && !s.maySignOCSP(response.Certificate, chain[1], r.Now):
		return refused(CRLInvalid, "the stapled OCSP response for %s is signed by %s, which may not do so", describe(leaf), describe(response.Certificate))
	case response.Status == ocsp.Revoked:
		return refuse(Revoked, leaf, "%s was revoked on %s, as the stapled OCSP response says", describe(leaf), response.RevokedAt.UTC().Format(time.DateOnly))
	case response.Status != ocsp.Good:
		return refused(CRLUnavailable, "the OCSP responder does not know %s", describe(leaf))
	case response.ThisUpdate.After(r.Now.Add(tolerance)):
		return refused(CRLInvalid, "the stapled OCSP response is dated in the future, %s", stamp(response.ThisUpdate))
	case response.NextUpdate.IsZero() || r.Now.After(response.NextUpdate):
		return refused(CRLStale, "the stapled OCSP response for %s ended on %s", describe(leaf), stamp(response.NextUpdate))
	}
	return nil
}

func (s *State) demander(leaf *x509.Certificate) string {
	if mustStaple(leaf) {
		return "its certificate"
	}
	return "the configuration"
}

// maySignOCSP reports whether a delegated responder, whose signature by the CA
// was verified, may answer (RFC 6960, Section 4.2.2.2).
func (s *State) maySignOCSP(c, ca *x509.Certificate, now time.Time) bool {
	if now.After(c.NotAfter) || c.NotBefore.After(now.Add(tolerance)) || s.config.weakSignature(c) || s.config.weakKey(c) != nil {
		return false
	}
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) && onAnyList(c, s.listsOf(ca)) == nil
}

// ofIssuer reports whether the response with the serial number of leaf names ca as its
// issuer (RFC 6960, Section 4.1.1). x/crypto compares serial numbers only, and a
// responder may answer for several CAs.
func ofIssuer(data cryptobyte.String, leaf, ca *x509.Certificate) bool {
	var list, key cryptobyte.String
	if !data.ReadASN1(&data, asn1.SEQUENCE) || !data.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) ||
		!data.ReadAnyASN1(&key, new(asn1.Tag)) || !data.SkipASN1(asn1.GeneralizedTime) || !data.ReadASN1(&list, asn1.SEQUENCE) {
		return false
	}
	spki := cryptobyte.String(ca.RawSubjectPublicKeyInfo)
	if !spki.ReadASN1(&spki, asn1.SEQUENCE) || !spki.SkipASN1(asn1.SEQUENCE) || !spki.ReadASN1BitStringAsBytes((*[]byte)(&key)) {
		return false
	}
	for !list.Empty() {
		var single, id, algorithm, nameHash, keyHash cryptobyte.String
		var oid stdasn1.ObjectIdentifier
		serial := new(big.Int)
		if !list.ReadASN1(&single, asn1.SEQUENCE) || !single.ReadASN1(&id, asn1.SEQUENCE) || !id.ReadASN1(&algorithm, asn1.SEQUENCE) ||
			!algorithm.ReadASN1ObjectIdentifier(&oid) || !id.ReadASN1(&nameHash, asn1.OCTET_STRING) || !id.ReadASN1(&keyHash, asn1.OCTET_STRING) || !id.ReadASN1Integer(serial) {
			return false
		}
		if serial.Cmp(leaf.SerialNumber) != 0 {
			continue
		}
		digest := certIDHash(oid)
		return digest != nil && bytes.Equal(nameHash, digest(leaf.RawIssuer)) && bytes.Equal(keyHash, digest(key))
	}
	return false
}

// certIDHash is the hash of a CertID, in which it is no signature: SHA-1 is what
// responders use (RFC 5019, Section 2.1.1). nil is one that is not known.
func certIDHash(oid stdasn1.ObjectIdentifier) func([]byte) []byte {
	switch oid.String() {
	case "1.3.14.3.2.26":
		return func(b []byte) []byte { sum := sha1.Sum(b); return sum[:] }
	case "2.16.840.1.101.3.4.2.1":
		return func(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }
	case "2.16.840.1.101.3.4.2.2":
		return func(b []byte) []byte { sum := sha512.Sum384(b); return sum[:] }
	case "2.16.840.1.101.3.4.2.3":
		return func(b []byte) []byte { sum := sha512.Sum512(b); return sum[:] }
	}
	return nil
}
