package pki

import (
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"
	"time"
)

// A key of a million bits in somebody's certificate costs nobody minutes: it is
// the issuer of nothing.
func TestIssuerWithAHugeKey(t *testing.T) {
	name := []byte{0x30, 0x00}
	n := new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), 1<<20), 0, 1)
	ca := &x509.Certificate{RawSubject: name, RawIssuer: name, PublicKeyAlgorithm: x509.RSA, PublicKey: &rsa.PublicKey{N: n, E: 65537},
		SignatureAlgorithm: x509.SHA256WithRSA, RawTBSCertificate: []byte("tbs"), Signature: make([]byte, 1<<17+1)}
	done := make(chan bool, 1)
	go func() { done <- IssuedBy(ca, ca) }()
	select {
	case yes := <-done:
		if yes {
			t.Error("it issued itself")
		}
	case <-time.After(3 * time.Second): // it takes ten without the bound
		t.Error("its signature is verified")
	}
}
