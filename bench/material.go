package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	serverName = "server.bench.test"
	clientName = "client.bench.test"
)

// authority is a root and its subCA, all RSA-2048, as in Spine.
type authority struct {
	root, sub       *x509.Certificate
	rootKey, subKey *rsa.PrivateKey
	epoch           time.Time
	serial          int64
}

// identity is one leaf with its key.
type identity struct {
	cert, sub *x509.Certificate
	key       *rsa.PrivateKey
}

func newAuthority(keys []*rsa.PrivateKey, now time.Time) (*authority, error) {
	a := &authority{rootKey: keys[0], subKey: keys[1], epoch: now.Add(-time.Hour).Truncate(time.Second)}
	ca := func(cn string) *x509.Certificate {
		t := a.template(cn)
		t.IsCA, t.BasicConstraintsValid = true, true
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		return t
	}
	root := ca("Bench Root")
	var err error
	if a.root, err = sign(root, root, &keys[0].PublicKey, keys[0]); err != nil {
		return nil, err
	}
	if a.sub, err = sign(ca("Bench SubCA"), a.root, &keys[1].PublicKey, keys[0]); err != nil {
		return nil, err
	}
	return a, nil
}

// template numbers certificates and makes each valid a second later than the
// one before: a rotation to an older certificate would be refused.
func (a *authority) template(cn string) *x509.Certificate {
	a.serial++
	from := a.epoch.Add(time.Duration(a.serial) * time.Second)
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.serial),
		Subject:      pkix.Name{Organization: []string{"Bench"}, CommonName: cn},
		NotBefore:    from,
		NotAfter:     from.Add(365 * 24 * time.Hour),
	}
}

func (a *authority) issue(name string, key *rsa.PrivateKey) (*identity, error) {
	t := a.template(name)
	t.DNSNames = []string{name}
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	cert, err := sign(t, a.sub, &key.PublicKey, a.subKey)
	if err != nil {
		return nil, err
	}
	return &identity{cert: cert, sub: a.sub, key: key}, nil
}

func sign(t, parent *x509.Certificate, pub *rsa.PublicKey, key *rsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %q: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// newKeys makes n RSA-2048 keys, on every core.
func newKeys(ctx context.Context, n int) ([]*rsa.PrivateKey, error) {
	keys := make([]*rsa.PrivateKey, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(clients)
	for i := range keys {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			var err error
			keys[i], err = rsa.GenerateKey(rand.Reader, 2048)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	return keys, nil
}

func certificatePEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// chainPEM is the leaf and its subCA, in the order in which they are sent.
func (id *identity) chainPEM() []byte { return certificatePEM(id.cert, id.sub) }

func (id *identity) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return nil, fmt.Errorf("marshal key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (id *identity) tls() *tls.Certificate {
	return &tls.Certificate{
		Certificate: [][]byte{id.cert.Raw, id.sub.Raw},
		PrivateKey:  id.key,
		Leaf:        id.cert,
	}
}
