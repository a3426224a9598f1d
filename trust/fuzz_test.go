package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// fuzzTime and the keys of fuzzKey are the same in every process, so that what
// one fuzzing process finds another can repeat. The keys are good for nothing else.
var fuzzTime = time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC)

func fuzzKey(name string) testpki.Option {
	seed := sha256.Sum256([]byte("fuzz " + name))
	return testpki.Key(ed25519.NewKeyFromSeed(seed[:]))
}

func fuzzOptions(name string, more ...testpki.Option) []testpki.Option {
	serial := new(big.Int).SetBytes([]byte(name))
	return append([]testpki.Option{testpki.Name(name), fuzzKey(name), testpki.Serial(serial),
		testpki.Validity(fuzzTime.Add(-time.Hour), fuzzTime.Add(time.Hour))}, more...)
}

func FuzzParseBundle(f *testing.F) {
	root := testpki.NewRoot(f, fuzzOptions("root")...)
	sub, leaf := root.SubCA(f, fuzzOptions("sub")...), root.Issue(f, fuzzOptions("leaf.nhs.uk")...)
	f.Add(root.CertPEM(), sub.CertPEM())
	f.Add(root.Cert.Raw, sub.Cert.Raw)
	f.Add(pkcs7(root.Cert, sub.Cert), leaf.CertPEM())
	f.Add(leaf.KeyPEM(), root.CertPEM()[:100])
	f.Add(version1(f, root.Cert), []byte("-----BEGIN CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		b, err := ParseBundle(Source{"one", one}, Source{"two", two})
		if err != nil {
			var e *BundleError
			if b != nil || !errors.As(err, &e) || e.Detail == "" {
				t.Fatalf("bundle %v beside error %v", b, err)
			}
			return
		}
		if len(b.Roots()) == 0 {
			t.Fatal("a bundle without a root")
		}
		for _, c := range b.Certificates() {
			if !c.IsCA || !c.BasicConstraintsValid {
				t.Fatalf("%q is not a CA", c.Subject)
			}
		}
		for _, c := range b.Roots() {
			if !bytes.Equal(c.RawIssuer, c.RawSubject) {
				t.Fatalf("%q is a root, issued by %q", c.Subject, c.Issuer)
			}
		}
		again, err := ParseBundle(Source{"two", two}, Source{"one", one})
		if err != nil || again.Digest() != b.Digest() {
			t.Fatalf("in the other order: %v", err)
		}
	})
}

// packCerts and unpackCerts carry certificates through the one byte string of a
// fuzz target, each behind its length.
func packCerts(list ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range list {
		out = binary.BigEndian.AppendUint16(out, uint16(len(c.Raw)))
		out = append(out, c.Raw...)
	}
	return out
}

func unpackCerts(data []byte) []*x509.Certificate {
	var out []*x509.Certificate
	for len(data) >= 2 {
		n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
		if c, err := x509.ParseCertificate(data[2 : 2+n]); err == nil {
			out = append(out, c)
		}
		data = data[2+n:]
	}
	return out
}

func FuzzVerify(f *testing.F) {
	root := testpki.NewRoot(f, fuzzOptions("root")...)
	other := testpki.NewRoot(f, fuzzOptions("other")...)
	sub := root.SubCA(f, fuzzOptions("sub", testpki.CDP(crlURL))...)
	cross := other.CrossSign(f, sub, testpki.Serial(big.NewInt(77)), testpki.Validity(fuzzTime.Add(-time.Hour), fuzzTime.Add(time.Hour)))
	leaf := sub.Issue(f, fuzzOptions("leaf.nhs.uk", testpki.CDP(crlURL))...)
	cnOnly := sub.Issue(f, fuzzOptions("cn.nhs.uk", testpki.NoSAN())...)
	revoked := sub.Issue(f, fuzzOptions("revoked.nhs.uk")...)
	s := stateOf(f, StateConfig{CRLs: []*CRL{readCRL1(f, sub, "sub.crl", testpki.Revoke(revoked.Cert.SerialNumber),
		testpki.ThisUpdate(fuzzTime.Add(-time.Hour)), testpki.NextUpdate(fuzzTime.Add(time.Hour)))}}, root.Cert)
	for _, seed := range [][]byte{
		packCerts(leaf.Cert, sub.Cert), packCerts(cnOnly.Cert, sub.Cert), packCerts(revoked.Cert, sub.Cert),
		packCerts(leaf.Cert, cross.Cert, other.Cert), packCerts(leaf.Cert), packCerts(root.Cert), packCerts(sub.Cert, leaf.Cert), nil,
	} {
		f.Add(seed, uint8(0), int64(0))
		f.Add(seed, uint8(0xff), int64(time.Minute))
	}
	f.Fuzz(func(t *testing.T, data []byte, flags uint8, offset int64) {
		r := Request{Purpose: Purpose(flags & 3), Peers: AnyName(), Revocation: []Mode{"", Require, Prefer, Off}[flags>>2&3],
			NameFromCN: flags>>4&1 == 1, Now: fuzzTime.Add(time.Duration(offset))}
		if flags>>5&1 == 1 {
			r.Peers = Names("leaf.nhs.uk", "cn.nhs.uk")
		}
		chain := unpackCerts(bytes.Clone(data)) // parsed certificates are slices of it, and the fuzzer writes to it again
		v, err := s.Verify(chain, r)
		if err != nil {
			var e *VerifyError
			if !errors.As(err, &e) || e.Detail == "" || advice[e.Reason] == "" || len(v.Chain) != 0 {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		checkAccepted(t, v, chain[0], root.Cert, r)
		s.Remember(chain, r, v)
		if again, err := s.Verify(chain, r); err != nil || again.Name != v.Name || len(again.Chain) != len(v.Chain) {
			t.Fatalf("remembered, but then %+v, %v", again, err)
		}
	})
}

// checkAccepted makes sure of an acceptance without the code that made it.
func checkAccepted(t *testing.T, v Verdict, leaf, root *x509.Certificate, r Request) {
	t.Helper()
	if !v.Chain[0].Equal(leaf) || !v.Chain[len(v.Chain)-1].Equal(root) {
		t.Fatal("the path is not from the leaf to the root of the test")
	}
	for i, c := range v.Chain {
		if r.Now.After(c.NotAfter) || c.NotBefore.After(r.Now.Add(5*time.Minute)) {
			t.Fatalf("%q is not valid at %s", c.Subject, r.Now)
		}
		if i == 0 {
			continue
		}
		below := v.Chain[i-1]
		if !c.IsCA || c.CheckSignature(below.SignatureAlgorithm, below.RawTBSCertificate, below.Signature) != nil {
			t.Fatalf("%q is not signed by %q", below.Subject, c.Subject)
		}
	}
	if leaf.Subject.CommonName == "revoked.nhs.uk" && v.Revocation != RevocationOff {
		t.Fatal("a revoked certificate is accepted")
	}
}
