package sandbox

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// partitions is how many CRLs the subCA has: each certificate names its own, as
// those of NHS do (SPINE.md, 3).
const partitions = 2

// keyCompromise is the reason that is given (RFC 5280, Section 5.3.1).
const keyCompromise = 1

// list is one CRL of an authority: what is on it, and how often it was made.
type list struct {
	entries []x509.RevocationListEntry
	number  int64
}

func (a *authority) rootList() string { return a.base + "/root.crl" }
func (a *authority) subList(partition int) string {
	return a.base + "/sub-" + strconv.Itoa(partition+1) + ".crl"
}

// addresses are those of all its CRLs.
func (a *authority) addresses() []string {
	out := []string{a.rootList()}
	for i := range partitions {
		out = append(out, a.subList(i))
	}
	return out
}

// nextList is the partition of the next certificate.
func (a *authority) nextList() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued++
	return a.subList(a.issued % partitions)
}

// revoke enters a certificate in its partition and returns the address of that.
func (a *authority) revoke(leaf *x509.Certificate, now time.Time) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, address := range leaf.CRLDistributionPoints {
		if l, ok := a.lists[address]; ok {
			l.entries = append(l.entries, x509.RevocationListEntry{SerialNumber: leaf.SerialNumber, RevocationTime: now, ReasonCode: keyCompromise})
			return address, nil
		}
	}
	return "", fmt.Errorf("revoke certificate %q: none of its CRLs %q is made here", leaf.Subject.CommonName, leaf.CRLDistributionPoints)
}

// sign makes the next version of the CRL for an address, DER, scoped to that
// address (RFC 5280, Section 5.2.5).
func (a *authority) sign(ctx context.Context, address string, now time.Time) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.lists[address]
	if !ok {
		return nil, fmt.Errorf("create CRL %q: no such list", address)
	}
	scope, err := issuingDistributionPoint(address)
	if err != nil {
		return nil, fmt.Errorf("create CRL %q: %w", address, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("create CRL %q: %w", address, err)
	}
	signer := a.issuer
	if address == a.rootList() {
		signer = a.above
	}
	l.number++
	response, err := signer.CreateCRL(&apiv1.CreateCRLRequest{RevocationList: &x509.RevocationList{
		Number:                    big.NewInt(l.number),
		ThisUpdate:                now.Add(-backdate),
		NextUpdate:                now.Add(crlLife),
		RevokedCertificateEntries: slices.Clone(l.entries),
		ExtraExtensions:           []pkix.Extension{scope},
	}})
	if err != nil {
		return nil, fmt.Errorf("create CRL %q: %w", address, err)
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
