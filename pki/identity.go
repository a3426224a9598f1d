package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"slices"
)

// maxCertificates bounds what is given for one identity, roots included.
const maxCertificates = 50

// Identity is a leaf certificate, its chain and its private key, which fit
// together. It says nothing of time or trust. It is immutable.
type Identity struct {
	leaf   *x509.Certificate
	chain  []*x509.Certificate
	signer crypto.Signer
	tls    *tls.Certificate
}

// NewIdentity finds the certificate of the key among certs, puts the others
// behind it in the order of signing, and leaves self-signed roots and duplicates
// out. The order of certs does not matter.
//
// It refuses, and says which part does not fit: a key that is of none of the
// certificates ([Mismatch] is true), certificates that are in no chain of the
// leaf, two different certificates for the key, and keys that [CheckKey] refuses.
// The first two and a missing part match [ErrIncoherent].
func NewIdentity(certs []*x509.Certificate, key crypto.Signer) (*Identity, error) {
	if key == nil {
		return nil, incoherent(partIdentity, "the private key is missing")
	}
	certs, err := distinct(certs)
	if err != nil {
		return nil, err
	}
	pub := key.Public()
	if err := CheckKey(pub); err != nil {
		return nil, in(partIdentity, err)
	}
	leaf, err := findLeaf(certs, pub)
	if err != nil {
		return nil, err
	}
	var checks Checks
	chain, strangers := orderChain(leaf, certs, &checks)
	if checks.Exceeded() {
		return nil, refusal(partIdentity, "too many certificates that could be the issuer of %s or of a CA above it", describe(leaf)).
			advise("give the certificate and the subCAs of its chain, and nothing else")
	}
	if len(strangers) > 0 {
		e := incoherent(partIdentity, "%s did not issue %s or a CA above it", describeAll(strangers), describe(leaf))
		return nil, e.advise("the chain must hold the subCA that issued the certificate, " + issuerHint(leaf) + ", and nothing else")
	}
	return assemble(leaf, chain, key), nil
}

// assemble builds the one tls.Certificate that all handshakes of the identity use.
func assemble(leaf *x509.Certificate, chain []*x509.Certificate, key crypto.Signer) *Identity {
	t := &tls.Certificate{Certificate: make([][]byte, 0, 1+len(chain)), PrivateKey: key, Leaf: leaf}
	t.Certificate = append(t.Certificate, leaf.Raw)
	for _, c := range chain {
		t.Certificate = append(t.Certificate, c.Raw)
	}
	return &Identity{leaf: leaf, chain: chain, signer: key, tls: t}
}

// findLeaf returns the one certificate for the key.
func findLeaf(certs []*x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	public, ok := pub.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, refusal(partIdentity, "%s is not supported", DescribeKey(pub))
	}
	var leaves, endEntities []*x509.Certificate
	for _, c := range certs {
		if public.Equal(c.PublicKey) {
			leaves = append(leaves, c)
		}
		if !c.IsCA {
			endEntities = append(endEntities, c)
		}
	}
	switch len(leaves) {
	case 1:
		return leaves[0], nil
	case 0:
		return nil, mismatch(certs, endEntities, pub)
	default:
		return nil, refusal(partIdentity, "two certificates are for this key: %s", describeAll(leaves)).
			advise("keep the one that is to be used")
	}
}

// mismatch names the certificate that people will think of as the leaf.
func mismatch(certs, endEntities []*x509.Certificate, pub crypto.PublicKey) error {
	e := &Error{Part: partIdentity, Err: errMismatch}
	e.Message = "key does not match " + describeAll(certs)
	if len(endEntities) > 0 {
		e.Message = "key does not match " + describeAll(endEntities)
	}
	kind := DescribeKey(pub)
	e.Message += ": the key is " + kind + ", public key sha256 " + KeyFingerprint(pub)
	if len(endEntities) == 0 {
		e.Advice = "only CA certificates are there: add the certificate that was issued for this key"
	} else if other := DescribeKey(endEntities[0].PublicKey); other != kind {
		e.Advice = "the certificate is for another kind of key, " + other + ": use the key that the request was made with"
	} else {
		e.Advice = "use the key that the request was made with"
	}
	return e
}

// distinct checks that there are certificates and leaves duplicates out.
func distinct(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	seen := make(map[string]bool, len(certs))
	for _, c := range certs {
		if c == nil || c.PublicKey == nil {
			return nil, refusal(partIdentity, "a certificate without a public key of a known kind was given")
		}
		if raw := string(c.Raw); !seen[raw] {
			seen[raw] = true
			out = append(out, c)
		}
	}
	if len(out) > maxCertificates { // ordering tries each with each
		return nil, refusal(partIdentity, "%d certificates were given, want at most %d", len(out), maxCertificates)
	}
	if len(out) == 0 {
		return nil, incoherent(partIdentity, "the certificate is missing")
	}
	return out, nil
}

// Leaf returns the end-entity certificate.
func (i *Identity) Leaf() *x509.Certificate { return i.leaf }

// Chain returns the CA certificates above the leaf, issuing CA first, without
// leaf and root. It may be empty. The caller owns the slice.
func (i *Identity) Chain() []*x509.Certificate { return slices.Clone(i.chain) }

// Certificates returns the leaf, then the chain, as they are presented.
func (i *Identity) Certificates() []*x509.Certificate {
	return append([]*x509.Certificate{i.leaf}, i.chain...)
}

// Signer returns the private key.
func (i *Identity) Signer() crypto.Signer { return i.signer }

// WithChain returns an identity of the same leaf and key with other CA
// certificates, taken as they are: issuing CA first, without leaf and root.
func (i *Identity) WithChain(chain []*x509.Certificate) *Identity {
	return assemble(i.leaf, slices.Clone(chain), i.signer)
}

// TLS returns leaf, chain and key for crypto/tls, with Leaf set. All calls return
// the same value, which must not be changed.
func (i *Identity) TLS() *tls.Certificate { return i.tls }

// Names returns the host names of the leaf and where they are from; see [Names].
func (i *Identity) Names() ([]string, NameSource) { return Names(i.leaf) }
