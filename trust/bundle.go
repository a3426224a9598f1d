package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/spinecert/spinecert/pki"
)

// Source is the content of one trust file. Name is its path, for messages.
type Source struct {
	Name string
	Data []byte
}

// Bundle is the set of CA certificates of one environment: roots and subCAs,
// each once, never empty. It says nothing of time: an expired CA stays in it
// and is reported by Expired.
type Bundle struct {
	roots   []*x509.Certificate
	subCAs  []*x509.Certificate
	digest  [sha256.Size]byte
	sources map[*x509.Certificate]string
}

// BundleError is the refusal of one trust file.
type BundleError struct {
	File   string
	Reason Reason
	Detail string
	Advice string
	Err    error
}

// Error returns `read trust file "f": cause`.
func (e *BundleError) Error() string {
	if e.File == "" {
		return "read trust bundle: " + e.Detail
	}
	return fmt.Sprintf("read trust file %q: %s", e.File, e.Detail)
}

// Unwrap returns the cause.
func (e *BundleError) Unwrap() error { return e.Err }

// Hint returns the next action.
func (e *BundleError) Hint() string { return e.Advice }

// ParseBundle makes a bundle from trust files in any order and form (PEM, DER,
// PKCS#7). Duplicates are dropped. A certificate that is not a CA, a CA with an
// RSA key of more than 8192 bits, a file without certificates, PKCS#12, a private
// key in a trust file and a set without any root are errors; every error of every
// file is returned (errors.Join). An incomplete file (see pki.ErrIncoherent) is an
// error as well: half a bundle is never a bundle.
func ParseBundle(sources ...Source) (*Bundle, error) {
	b := &Bundle{sources: map[*x509.Certificate]string{}}
	seen := map[[sha256.Size]byte]bool{}
	var errs []error
	for _, src := range sources {
		certs, err := parseTrustFile(src)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range certs {
			sum := sha256.Sum256(c.Raw)
			if seen[sum] {
				continue
			}
			seen[sum] = true
			if err := b.add(c, src.Name); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if len(b.roots) == 0 {
		return nil, &BundleError{Reason: UnknownIssuer, Detail: "no root certificate in any of its files",
			Advice: "add the self-signed root of the environment, for example NHS Root Authority G2"}
	}
	b.seal()
	return b, nil
}

func parseTrustFile(src Source) ([]*x509.Certificate, error) {
	if isStore(src.Data) { // it would be decrypted, at a cost that its maker chooses
		return nil, &BundleError{File: src.Name, Reason: Malformed, Detail: "it is PKCS#12",
			Advice: "take the certificates out: openssl pkcs12 -in FILE -nokeys -out trust.pem"}
	}
	contents, err := pki.Parse(src.Data, nil)
	if err != nil {
		return nil, &BundleError{File: src.Name, Reason: Malformed, Detail: err.Error(), Advice: pki.Hint(err), Err: err}
	}
	if len(contents.Keys) > 0 {
		return nil, &BundleError{File: src.Name, Reason: Malformed, Detail: "it holds a private key",
			Advice: "a trust file holds CA certificates only; move the key away and see who could read it"}
	}
	if len(contents.Certificates) == 0 {
		return nil, &BundleError{File: src.Name, Reason: Malformed, Detail: "it holds no certificate",
			Advice: "put the root and the subCAs of the environment into it, as PEM, DER or PKCS#7"}
	}
	return contents.Certificates, nil
}

// isStore reports whether a file is PKCS#12: a SEQUENCE that begins with version 3
// (RFC 7292, Section 4).
func isStore(data []byte) bool {
	s := cryptobyte.String(data)
	var version int
	return s.ReadASN1(&s, asn1.SEQUENCE) && s.ReadASN1Integer(&version) && version == 3
}

// add classifies one certificate. A root is self-issued in the raw DER of its
// names and verifies its own signature; CheckSignatureFrom is not used, as it
// refuses the SHA-1 self-signature that the G1 roots carry and that nothing
// depends on.
func (b *Bundle) add(c *x509.Certificate, file string) error {
	if !c.BasicConstraintsValid || !c.IsCA {
		what := "is not a CA certificate"
		if c.Version < 3 {
			what = "is an X.509 version 1 certificate, which cannot say that it is a CA"
		}
		return &BundleError{File: file, Reason: PathLength, Detail: describe(c) + " " + what,
			Advice: "a trust file holds roots and subCAs only; a pinned end certificate belongs into pins"}
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return &BundleError{File: file, Reason: PathLength, Detail: describe(c) + " is a CA whose key may not sign certificates"}
	}
	if tooLarge(c) { // before its signature is looked at: see maxRSABits
		return &BundleError{File: file, Reason: WeakKey, Detail: fmt.Sprintf("the key of %s is larger than RSA %d", describe(c), maxRSABits),
			Advice: "no CA has such a key: see where the file comes from"}
	}
	selfIssued := bytes.Equal(c.RawSubject, c.RawIssuer)
	if selfIssued && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
		b.roots = append(b.roots, c)
	} else {
		b.subCAs = append(b.subCAs, c)
	}
	b.sources[c] = file
	return nil
}

// seal sorts, so that the order of files changes nothing, and computes the digest.
func (b *Bundle) seal() {
	byRaw := func(x, y *x509.Certificate) int { return bytes.Compare(x.Raw, y.Raw) }
	slices.SortFunc(b.roots, byRaw)
	slices.SortFunc(b.subCAs, byRaw)
	h := sha256.New()
	for _, c := range b.Certificates() {
		sum := sha256.Sum256(c.Raw)
		h.Write(sum[:])
	}
	h.Sum(b.digest[:0])
}

// Roots returns the self-signed CAs. Do not modify the slice.
func (b *Bundle) Roots() []*x509.Certificate { return b.roots }

// SubCAs returns the CAs that others signed, cross-certificates included. Do not modify the slice.
func (b *Bundle) SubCAs() []*x509.Certificate { return b.subCAs }

// Certificates returns roots, then subCAs.
func (b *Bundle) Certificates() []*x509.Certificate { return slices.Concat(b.roots, b.subCAs) }

// Holds reports whether c is one of its certificates.
func (b *Bundle) Holds(c *x509.Certificate) bool {
	return contains(b.roots, c) || contains(b.subCAs, c)
}

// Names reports whether one of its certificates is for the name and the key of c: c
// itself, one that renewed it, or a cross-certificate.
func (b *Bundle) Names(c *x509.Certificate) bool {
	return slices.ContainsFunc(b.Certificates(), func(ca *x509.Certificate) bool {
		return bytes.Equal(ca.RawSubject, c.RawSubject) && bytes.Equal(ca.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
	})
}

// File returns the trust file that c came from, or "" if c is not in the bundle.
func (b *Bundle) File(c *x509.Certificate) string { return b.sources[c] }

// Digest identifies the set of certificates, whatever their order.
func (b *Bundle) Digest() [sha256.Size]byte { return b.digest }

// Expired returns the CAs whose notAfter has passed at now. They stay in the
// bundle, as nothing can be accepted through them, but an operator wants to know.
func (b *Bundle) Expired(now time.Time) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range b.Certificates() {
		if now.After(c.NotAfter) {
			out = append(out, c)
		}
	}
	return out
}

// Living reports whether at least one root is valid at now, or will be. A
// bundle without one can accept nobody.
func (b *Bundle) Living(now time.Time) bool {
	return slices.ContainsFunc(b.roots, func(c *x509.Certificate) bool { return !now.After(c.NotAfter) })
}

// Lost returns the CAs of old that are not in b and had not expired at now; none
// where old is nil.
func (b *Bundle) Lost(old *Bundle, now time.Time) []*x509.Certificate {
	if old == nil {
		return nil
	}
	have := map[string]bool{}
	for _, c := range b.Certificates() {
		have[string(c.Raw)] = true
	}
	var out []*x509.Certificate
	for _, c := range old.Certificates() {
		if !have[string(c.Raw)] && !now.After(c.NotAfter) {
			out = append(out, c)
		}
	}
	return out
}
