package crash

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testpki"
)

// The slots: three that are managed, in two environments, and one that reads files.
const filesSlot = "files"

var managedSlots = [...]struct{ name, environment string }{{"pcs", "live"}, {"ldap", "live"}, {"mesh", "int"}}

// keptGenerations is small, so that there is much to prune.
const keptGenerations = 3

func fqdnOf(slot string) string { return slot + ".thirdparty.nhs.uk" }

// authority issues certificates. It is kept in files, for the children.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	root *x509.Certificate
}

// authorities are those of live and int, and one that live may be told to trust.
type authorities struct{ live, int, extra authority }

func (a *authorities) of(environment string) authority {
	if environment == "int" {
		return a.int
	}
	return a.live
}

// writeAuthorities makes them, and the trust files of the environments.
func writeAuthorities(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"live", "int", "extra"} {
		sub := testpki.NewRoot(t, testpki.Name(name+" Root")).SubCA(t, testpki.Name(name+" Authentication"))
		testpki.WriteFile(t, filepath.Join(dir, name+".pem"), sub.BundlePEM(), 0o600)
		testpki.WriteFile(t, filepath.Join(dir, name+".key"), testpki.EncodeKey(sub.Key), 0o600)
	}
}

func readAuthorities(dir string) (*authorities, error) {
	var a authorities
	var errs []error
	for name, to := range map[string]*authority{"live": &a.live, "int": &a.int, "extra": &a.extra} {
		certs, err := readCertificates(filepath.Join(dir, name+".pem"))
		key, keyErr := readKey(filepath.Join(dir, name+".key"))
		errs = append(errs, err, keyErr)
		if err == nil {
			*to = authority{cert: certs[0], key: key, root: certs[1]}
		}
	}
	return &a, errors.Join(errs...)
}

// issue makes a certificate for both purposes.
func (a authority) issue(key crypto.PublicKey, name string, from, to time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// life is what outlives every process that works on one state directory.
type life struct {
	base string // of all lives, with the authorities
	dir  string
}

func (l life) state() string       { return filepath.Join(l.dir, "state") }
func (l life) ledger() string      { return filepath.Join(l.dir, "ledger") }
func (l life) certificate() string { return filepath.Join(l.dir, "f.crt") }
func (l life) key() string         { return filepath.Join(l.dir, "f.key") }

// config is the configuration of a daemon.
func (l life) config() *config.Config {
	const never = time.Hour
	c := &config.Config{State: config.State{Directory: l.state(), KeepGenerations: keptGenerations}}
	for _, name := range []string{"live", "int"} {
		c.Environments = append(c.Environments, config.Environment{Name: name, Profile: "private", Trust: []string{filepath.Join(l.base, name+".pem")}, Revocation: "off"})
	}
	for _, s := range managedSlots {
		c.Slots = append(c.Slots, config.Slot{Name: s.name, Environment: s.environment, FQDN: fqdnOf(s.name), Poll: never,
			Managed: &config.Managed{Key: "ecdsa-p256", Issuer: "manual"}})
	}
	c.Slots = append(c.Slots, config.Slot{Name: filesSlot, Environment: "live", Poll: never, Files: config.Files{Certificate: l.certificate(), Key: l.key()}})
	return c
}

// nameOf identifies a certificate, in the ledger and here.
func nameOf(c *x509.Certificate) string { return short(c.Raw) }

// idOf identifies a public key: the ID of its request.
func idOf(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err.Error()
	}
	return short(der)
}

func short(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseCertificates(data)
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func readKey(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseKey(data)
}

func parseKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("there is no key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("there is a %T in place of a key", key)
	}
	return signer, nil
}

// readFiles returns the certificate in the files of the slot, or nil while they do
// not fit together.
func (l life) readFiles() *x509.Certificate {
	certs, err := readCertificates(l.certificate())
	if err != nil || len(certs) == 0 {
		return nil
	}
	key, err := readKey(l.key())
	if err != nil || idOf(key.Public()) != idOf(certs[0].PublicKey) {
		return nil
	}
	return certs[0]
}

// filesContent identifies what is in the files of the slot, whether it fits together
// or not.
func (l life) filesContent() string {
	certificate, _ := os.ReadFile(l.certificate())
	key, _ := os.ReadFile(l.key())
	return short(append(certificate, key...))
}
