package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"testing"
)

// rsaPool hands out RSA keys of one size in turn. It grows to its limit and
// then begins again: an RSA-4096 key takes seconds to make.
type rsaPool struct {
	bits, limit int

	mu   sync.Mutex
	keys []*rsa.PrivateKey
	next int
}

func (p *rsaPool) take(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.next % p.limit
	p.next++
	if i < len(p.keys) {
		return p.keys[i]
	}
	key, err := rsa.GenerateKey(rand.Reader, p.bits)
	if err != nil {
		tb.Fatalf("make rsa-%d key: %v", p.bits, err)
	}
	p.keys = append(p.keys, key)
	return key
}

// rsaPools are the process's RSA keys. CAs and leaves draw from different
// pools, so that a leaf never has the key of the CA above it by accident.
var rsaPools = sync.OnceValue(func() map[string]*rsaPool {
	pools := make(map[string]*rsaPool)
	for _, role := range []string{"ca", "leaf"} {
		pools[role+"/rsa-1024"] = &rsaPool{bits: 1024, limit: 4}
		pools[role+"/rsa-2048"] = &rsaPool{bits: 2048, limit: 6}
		pools[role+"/rsa-3072"] = &rsaPool{bits: 3072, limit: 2}
		pools[role+"/rsa-4096"] = &rsaPool{bits: 4096, limit: 2}
	}
	return pools
})

// NewKey makes a private key of one of the kinds rsa-1024, rsa-2048, rsa-3072,
// rsa-4096, ecdsa-p224, ecdsa-p256, ecdsa-p384, ecdsa-p521 and ed25519. RSA
// keys repeat: at least two in a row differ, and six for rsa-2048.
func NewKey(tb testing.TB, kind string) crypto.Signer {
	tb.Helper()
	return newKey(tb, "leaf", kind)
}

func newKey(tb testing.TB, role, kind string) crypto.Signer {
	tb.Helper()
	if pool := rsaPools()[role+"/"+kind]; pool != nil {
		return pool.take(tb)
	}
	if kind == "ed25519" {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			tb.Fatalf("make ed25519 key: %v", err)
		}
		return key
	}
	curve := map[string]elliptic.Curve{
		"ecdsa-p224": elliptic.P224(), "ecdsa-p256": elliptic.P256(),
		"ecdsa-p384": elliptic.P384(), "ecdsa-p521": elliptic.P521(),
	}[kind]
	if curve == nil {
		tb.Fatalf("make key: no such kind %q", kind)
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatalf("make %s key: %v", kind, err)
	}
	return key
}
