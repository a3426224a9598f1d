package sandbox

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"
	kmsapi "go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/x509util"
	"golang.org/x/sync/errgroup"
)

// Profiles of endpoint certificates (SPINE.md, 3).
const (
	ProfileG1 = "g1" // subject O=nhs, OU=Devices, CN=<fqdn>, and no SAN
	ProfileG2 = "g2" // the same with a SAN
)

// Validity of what the sandbox makes. Leaves are backdated a little, as a real
// CA does; all by the same amount, so that a later one is never the older one.
const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 3 * 365 * 24 * time.Hour
	backdate = time.Minute
	crlLife  = 7 * 24 * time.Hour
)

// rsaBits is the key length of everything that the NHS PKI issues today.
const rsaBits = 2048

// authority is a root and a subCA that issue identities of one profile, and say
// what they revoked. Safe for concurrent use.
type authority struct {
	profile string
	base    string // of the CRL addresses
	root    *apiv1.CreateCertificateAuthorityResponse
	sub     *apiv1.CreateCertificateAuthorityResponse
	issuer  *softcas.SoftCAS
	above   *softcas.SoftCAS // signs as the root

	mu     sync.Mutex
	issued int
	lists  map[string]*list // by address
}

// identity is a leaf, its subCA and its key. It may be broken on purpose.
type identity struct {
	leaf  *x509.Certificate
	chain []*x509.Certificate
	key   crypto.Signer
}

// number tells identities apart.
func (i *identity) number() string { return i.leaf.SerialNumber.Text(16) }

// newAuthority makes a root and a subCA named after prefix, whose CRLs are to be
// had below base. The keys are RSA like Spine's, or ECDSA where only speed matters.
func newAuthority(ctx context.Context, prefix, profile, base string, algorithm kmsapi.SignatureAlgorithm, now time.Time) (*authority, error) {
	creator, err := softcas.New(ctx, apiv1.Options{IsCreator: true})
	if err != nil {
		return nil, fmt.Errorf("create authority %q: %w", prefix, err)
	}
	a := &authority{profile: profile, base: base, lists: map[string]*list{}}
	a.root, err = createCA(creator, prefix+" Root Authority", -1, "", nil, algorithm, now)
	if err != nil {
		return nil, fmt.Errorf("create root %q: %w", prefix, err)
	}
	// The path length is the one of NHS Authentication G2 (SPINE.md, 3).
	a.sub, err = createCA(creator, prefix+" Authentication", 1, a.rootList(), a.root, algorithm, now)
	if err != nil {
		return nil, fmt.Errorf("create subCA %q: %w", prefix, err)
	}
	for _, ca := range []struct {
		issuer *apiv1.CreateCertificateAuthorityResponse
		signer **softcas.SoftCAS
	}{{a.sub, &a.issuer}, {a.root, &a.above}} {
		*ca.signer, err = softcas.New(ctx, apiv1.Options{
			CertificateChain: []*x509.Certificate{ca.issuer.Certificate},
			Signer:           ca.issuer.Signer,
		})
		if err != nil {
			return nil, fmt.Errorf("create issuer %q: %w", prefix, err)
		}
	}
	for _, address := range a.addresses() {
		a.lists[address] = &list{}
	}
	return a, nil
}

func createCA(creator *softcas.SoftCAS, name string, pathLength int, crl string, parent *apiv1.CreateCertificateAuthorityResponse, algorithm kmsapi.SignatureAlgorithm, now time.Time) (*apiv1.CreateCertificateAuthorityResponse, error) {
	template := &x509util.Certificate{
		Subject:          x509util.Subject{CommonName: name, Organization: x509util.MultiString{"nhs"}, OrganizationalUnit: x509util.MultiString{"CA"}},
		KeyUsage:         x509util.KeyUsage(x509.KeyUsageCertSign | x509.KeyUsageCRLSign),
		BasicConstraints: &x509util.BasicConstraints{IsCA: true, MaxPathLen: pathLength},
		NotBefore:        now.Add(-backdate),
		NotAfter:         now.Add(caLife),
	}
	request := &apiv1.CreateCertificateAuthorityRequest{
		Name:      name,
		Type:      apiv1.RootCA,
		Lifetime:  caLife,
		CreateKey: &kmsapi.CreateKeyRequest{SignatureAlgorithm: algorithm},
	}
	if algorithm == kmsapi.SHA256WithRSA {
		request.CreateKey.Bits = rsaBits
	}
	if parent != nil {
		request.Type = apiv1.IntermediateCA
		request.Parent = parent
		template.CRLDistributionPoints = x509util.CRLDistributionPoints{crl}
	}
	request.Template = template.GetCertificate()
	return creator.CreateCertificateAuthority(request)
}

// issue makes an identity for name, valid in [notBefore, notAfter]. It names one
// partition of the subCA's CRL, the partitions in turn.
func (a *authority) issue(name string, key crypto.Signer, notBefore, notAfter time.Time) (*identity, error) {
	template := &x509util.Certificate{
		PublicKey: key.Public(),
		Subject:   x509util.Subject{CommonName: name, Organization: x509util.MultiString{"nhs"}, OrganizationalUnit: x509util.MultiString{"Devices"}},
		KeyUsage:  x509util.KeyUsage(x509.KeyUsageDigitalSignature),
		ExtKeyUsage: x509util.ExtKeyUsage{
			x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth,
		},
		CRLDistributionPoints: x509util.CRLDistributionPoints{a.nextList()},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
	}
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		template.KeyUsage |= x509util.KeyUsage(x509.KeyUsageKeyEncipherment)
	}
	if a.profile == ProfileG2 {
		template.DNSNames = x509util.MultiString{name}
	}
	response, err := a.issuer.CreateCertificate(&apiv1.CreateCertificateRequest{
		Template: template.GetCertificate(),
		Lifetime: notAfter.Sub(notBefore),
	})
	if err != nil {
		return nil, fmt.Errorf("issue certificate %q: %w", name, err)
	}
	return &identity{leaf: response.Certificate, chain: response.CertificateChain, key: key}, nil
}

// bundlePEM is the trust file: the root and the subCA.
func (a *authority) bundlePEM() []byte {
	return append(encodeCertificate(a.root.Certificate), encodeCertificate(a.sub.Certificate)...)
}

// certificatePEM is the leaf and its subCA in one file, as nginx and others want it.
func (i *identity) certificatePEM() []byte {
	out := encodeCertificate(i.leaf)
	for _, c := range i.chain {
		out = append(out, encodeCertificate(c)...)
	}
	return out
}

// keyPEM is the private key as PKCS #8.
func (i *identity) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return nil, fmt.Errorf("encode key of %q: %w", i.leaf.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func encodeCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// keyPool hands out RSA keys in turn: making one takes a tenth of a second of a
// core, which a rehearsal of a thousand rotations does not have. Safe for
// concurrent use.
type keyPool struct {
	keys []crypto.Signer
	next atomic.Int64
}

// newKeyPool makes n RSA keys, several at once. It returns when all are made.
func newKeyPool(n int) (*keyPool, error) {
	p := &keyPool{keys: make([]crypto.Signer, n)}
	var group errgroup.Group
	for i := range p.keys {
		group.Go(func() error {
			key, err := rsa.GenerateKey(rand.Reader, rsaBits)
			if err != nil {
				return fmt.Errorf("generate key: %w", err)
			}
			p.keys[i] = key
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return p, nil
}

// take returns the next key. Two calls in a row never return the same one.
func (p *keyPool) take() crypto.Signer {
	return p.keys[p.next.Add(1)%int64(len(p.keys))]
}
