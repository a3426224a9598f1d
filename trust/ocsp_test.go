package trust

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/spinecert/spinecert/internal/testpki"
)

// mustStapleOption is the TLS feature status_request (RFC 7633).
func mustStapleOption(value ...byte) testpki.Option {
	return testpki.Extension(pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: value})
}

func TestStapledResponses(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	sub := root.SubCA(t)
	features := []byte{0x30, 3, 2, 1, 5}
	leaf := sub.Issue(t, testpki.Name("peer.nhs.uk"), mustStapleOption(features...))
	plain := sub.Issue(t, testpki.Name("peer.nhs.uk"))
	odd := sub.Issue(t, testpki.Name("peer.nhs.uk"), mustStapleOption(0x30, 1))
	elsewhere := sub.Issue(t, testpki.Name("peer.nhs.uk"), mustStapleOption(0x30, 3, 2, 1, 17)) // status_request_v2
	other := root.SubCA(t, testpki.Name("Other"))
	responder := sub.Issue(t, testpki.Name("ocsp"), testpki.EKU(x509.ExtKeyUsageOCSPSigning))
	server := sub.Issue(t, testpki.Name("server"), testpki.EKU(x509.ExtKeyUsageServerAuth))
	ended := sub.Issue(t, testpki.Name("ocsp"), testpki.EKU(x509.ExtKeyUsageOCSPSigning), testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour)))

	withdrawn := sub.Issue(t, testpki.Name("ocsp"), testpki.EKU(x509.ExtKeyUsageOCSPSigning))
	twin := root.SubCA(t, testpki.Name("Twin"))

	answer := func(l *testpki.Leaf, status int, from, to time.Duration) ocsp.Response {
		r := ocsp.Response{Status: status, SerialNumber: l.Cert.SerialNumber, ThisUpdate: now.Add(from), RevokedAt: now.Add(-time.Hour), IssuerHash: crypto.SHA256}
		if to != 0 {
			r.NextUpdate = now.Add(to)
		}
		return r
	}
	sign := func(ca *testpki.Authority, by *testpki.Leaf, r ocsp.Response) []byte {
		t.Helper()
		cert, key := ca.Cert, ca.Key
		if by != nil {
			cert, key, r.Certificate = by.Cert, by.Key, by.Cert
		}
		der, err := ocsp.CreateResponse(ca.Cert, cert, r, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good := answer(leaf, ocsp.Good, -time.Hour, time.Hour)
	weak := good
	weak.SignatureAlgorithm = x509.SHA1WithRSA
	if _, rsaKey := sub.Key.(*rsa.PrivateKey); !rsaKey {
		weak.SignatureAlgorithm = x509.ECDSAWithSHA1
	}
	sha1ID := good
	sha1ID.IssuerHash = crypto.SHA1
	// Signed by our CA, about the certificate of another CA that has the same number.
	ofTwin, err := ocsp.CreateResponse(twin.Cert, sub.Cert, good, sub.Key)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		leaf   *testpki.Leaf
		staple []byte
		config StateConfig
		want   Reason
	}{
		"good":                        {leaf, sign(sub, nil, good), StateConfig{}, ""},
		"good, by a responder":        {leaf, sign(sub, responder, good), StateConfig{}, ""},
		"none":                        {leaf, nil, StateConfig{}, CRLUnavailable},
		"none, not demanded":          {plain, nil, StateConfig{}, ""},
		"bad, not demanded":           {plain, []byte("nothing"), StateConfig{}, ""},
		"none, demanded by us":        {plain, nil, StateConfig{RequireStaple: true}, CRLUnavailable},
		"none, features do not parse": {odd, nil, StateConfig{}, CRLUnavailable},
		"none, another feature":       {elsewhere, nil, StateConfig{}, ""},
		"revoked":                     {leaf, sign(sub, nil, answer(leaf, ocsp.Revoked, -time.Hour, time.Hour)), StateConfig{}, Revoked},
		"unknown":                     {leaf, sign(sub, nil, answer(leaf, ocsp.Unknown, -time.Hour, time.Hour)), StateConfig{}, CRLUnavailable},
		"ended":                       {leaf, sign(sub, nil, answer(leaf, ocsp.Good, -2*time.Hour, -time.Hour)), StateConfig{Grace: 24 * time.Hour}, CRLStale},
		"without an end":              {leaf, sign(sub, nil, answer(leaf, ocsp.Good, -2*time.Hour, 0)), StateConfig{}, CRLStale},
		"of tomorrow":                 {leaf, sign(sub, nil, answer(leaf, ocsp.Good, 24*time.Hour, 48*time.Hour)), StateConfig{}, CRLInvalid},
		"of another certificate":      {leaf, sign(sub, nil, answer(plain, ocsp.Good, -time.Hour, time.Hour)), StateConfig{}, CRLInvalid},
		"by another CA":               {leaf, sign(other, nil, good), StateConfig{}, CRLInvalid},
		"by a server":                 {leaf, sign(sub, server, good), StateConfig{}, CRLInvalid},
		"by a responder that ended":   {leaf, sign(sub, ended, good), StateConfig{}, CRLInvalid},
		"signed with SHA-1":           {leaf, sign(sub, nil, weak), StateConfig{}, CRLInvalid},
		"hashed with SHA-1":           {leaf, sign(sub, nil, sha1ID), StateConfig{}, ""},
		"by a revoked responder":      {leaf, sign(sub, withdrawn, good), StateConfig{CRLs: []*CRL{readCRL1(t, sub, "x.crl", testpki.Revoke(withdrawn.Cert.SerialNumber))}}, CRLInvalid},
		"of another issuer":           {leaf, ofTwin, StateConfig{}, CRLInvalid},
		"not a response":              {leaf, []byte("nothing"), StateConfig{}, CRLInvalid},
		"an error of the responder":   {leaf, ocsp.TryLaterErrorResponse, StateConfig{}, CRLUnavailable},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.config.Revocation = Prefer
			s := stateOf(t, tc.config, root.Cert, sub.Cert)
			r := Request{Purpose: ServerAuth, Peers: Names("peer.nhs.uk"), Staple: tc.staple, Now: now}
			for range 2 { // the second by a remembered verdict
				v, err := s.Verify(sent(tc.leaf), r)
				if tc.want != "" {
					wantRefusal(t, v, err, tc.want)
				} else if err != nil {
					t.Fatal(err)
				}
				unstapled := r
				unstapled.Staple = sign(sub, nil, good)
				if v, err := s.Verify(sent(tc.leaf), unstapled); err == nil {
					s.Remember(sent(tc.leaf), r, v)
				}
			}
			// A client cannot staple, and nothing is looked at where revocation is off.
			r.Purpose = ClientAuth
			if _, err := s.Verify(sent(tc.leaf), r); err != nil {
				t.Errorf("as a client: %v", err)
			}
			r.Purpose, r.Revocation = ServerAuth, Off
			if _, err := s.Verify(sent(tc.leaf), r); err != nil {
				t.Errorf("with revocation off: %v", err)
			}
		})
	}
}
