package sandbox

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"
	kmsapi "go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/x509util"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
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
	leafLife = 90 * 24 * time.Hour
	backdate = time.Minute
	crlLife  = 7 * 24 * time.Hour
)

// rsaBits is the key length of everything that the NHS PKI issues today.
const rsaBits = 2048

// authority is a root and a subCA that issue identities of one profile.
type authority struct {
	profile string
	base    string // of the CRL addresses
	root    *apiv1.CreateCertificateAuthorityResponse
	sub     *apiv1.CreateCertificateAuthorityResponse
	issuer  *softcas.SoftCAS
}

// identity is a leaf, its subCA and its key. It may be broken on purpose.
type identity struct {
	leaf  *x509.Certificate
	chain []*x509.Certificate
	key   crypto.Signer
}

// newAuthority makes a root and a subCA named after prefix. The keys are RSA
// like Spine's, or ECDSA where only speed matters.
func newAuthority(ctx context.Context, prefix, profile string, algorithm kmsapi.SignatureAlgorithm, now time.Time) (*authority, error) {
	creator, err := softcas.New(ctx, apiv1.Options{IsCreator: true})
	if err != nil {
		return nil, fmt.Errorf("create authority %q: %w", prefix, err)
	}
	a := &authority{profile: profile, base: "http://crl.sandbox.invalid/" + profile}
	a.root, err = createCA(creator, prefix+" Root Authority", -1, "", nil, algorithm, now)
	if err != nil {
		return nil, fmt.Errorf("create root %q: %w", prefix, err)
	}
	// The path length is the one of NHS Authentication G2 (SPINE.md, 3).
	a.sub, err = createCA(creator, prefix+" Authentication", 1, a.base+"/root.crl", a.root, algorithm, now)
	if err != nil {
		return nil, fmt.Errorf("create subCA %q: %w", prefix, err)
	}
	a.issuer, err = softcas.New(ctx, apiv1.Options{
		CertificateChain: []*x509.Certificate{a.sub.Certificate},
		Signer:           a.sub.Signer,
	})
	if err != nil {
		return nil, fmt.Errorf("create issuer %q: %w", prefix, err)
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

// issue makes an identity for name, valid in [notBefore, notAfter].
func (a *authority) issue(name string, key crypto.Signer, notBefore, notAfter time.Time) (*identity, error) {
	template := &x509util.Certificate{
		PublicKey: key.Public(),
		Subject:   x509util.Subject{CommonName: name, Organization: x509util.MultiString{"nhs"}, OrganizationalUnit: x509util.MultiString{"Devices"}},
		KeyUsage:  x509util.KeyUsage(x509.KeyUsageDigitalSignature),
		ExtKeyUsage: x509util.ExtKeyUsage{
			x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth,
		},
		CRLDistributionPoints: x509util.CRLDistributionPoints{a.base + "/sub.crl"},
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

// crls returns the CRLs of the root and of the subCA, DER, nothing revoked,
// each scoped to the address that the certificates name (RFC 5280, Section 5.2.5).
func (a *authority) crls(ctx context.Context, now time.Time) (root, sub []byte, err error) {
	root, err = createCRL(ctx, a.root, a.base+"/root.crl", now)
	if err != nil {
		return nil, nil, fmt.Errorf("create CRL of root: %w", err)
	}
	sub, err = createCRL(ctx, a.sub, a.base+"/sub.crl", now)
	if err != nil {
		return nil, nil, fmt.Errorf("create CRL of subCA: %w", err)
	}
	return root, sub, nil
}

func createCRL(ctx context.Context, issuer *apiv1.CreateCertificateAuthorityResponse, address string, now time.Time) ([]byte, error) {
	cas, err := softcas.New(ctx, apiv1.Options{
		CertificateChain: []*x509.Certificate{issuer.Certificate},
		Signer:           issuer.Signer,
	})
	if err != nil {
		return nil, err
	}
	scope, err := issuingDistributionPoint(address)
	if err != nil {
		return nil, err
	}
	response, err := cas.CreateCRL(&apiv1.CreateCRLRequest{RevocationList: &x509.RevocationList{
		Number:          big.NewInt(1),
		ThisUpdate:      now.Add(-backdate),
		NextUpdate:      now.Add(crlLife),
		ExtraExtensions: []pkix.Extension{scope},
	}})
	if err != nil {
		return nil, err
	}
	return response.CRL, nil
}

// issuingDistributionPoint encodes the extension that crypto/x509 has no field for.
func issuingDistributionPoint(address string) (pkix.Extension, error) {
	context0 := cbasn1.Tag(0).ContextSpecific().Constructed()
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(context0, func(b *cryptobyte.Builder) { // distributionPoint
			b.AddASN1(context0, func(b *cryptobyte.Builder) { // fullName
				b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { // uniformResourceIdentifier
					b.AddBytes([]byte(address))
				})
			})
		})
	})
	value, err := b.Bytes()
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: value}, err
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
// core, which a rehearsal of a thousand rotations does not have. Not safe for
// concurrent use.
type keyPool struct {
	keys []crypto.Signer
	next int
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
	key := p.keys[p.next]
	p.next = (p.next + 1) % len(p.keys)
	return key
}
