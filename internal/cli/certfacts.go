package cli

import (
	"crypto/x509"
	"net/url"
	"strconv"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// The roles of a certificate.
const (
	roleRoot  = "root"
	roleSubCA = "subca"
	roleLeaf  = "leaf"
)

// certificateFacts is what inspect says of a certificate.
type certificateFacts struct {
	Role               string         `json:"role"`
	Subject            string         `json:"subject"`
	Issuer             string         `json:"issuer"`
	Serial             string         `json:"serial"`
	Names              []string       `json:"names"`
	NameSource         pki.NameSource `json:"name_source"`
	OtherNames         []string       `json:"other_names"` // addresses, mail, URIs of the SAN
	NotBefore          time.Time      `json:"not_before"`
	NotAfter           time.Time      `json:"not_after"`
	DaysLeft           int            `json:"days_left"` // negative when it is over
	Expired            bool           `json:"expired"`
	Key                string         `json:"key"`
	KeySHA256          string         `json:"key_sha256"`
	SignatureAlgorithm string         `json:"signature_algorithm"`
	KeyUsage           []string       `json:"key_usage"`
	ExtKeyUsage        []string       `json:"ext_key_usage"`
	CA                 bool           `json:"ca"`
	PathLength         *int           `json:"path_length,omitempty"` // absent: no limit
	CRLAddresses       []string       `json:"crl_addresses"`
	OCSP               []string       `json:"ocsp"`
	SHA256             string         `json:"sha256"`
	Known              *knownFacts    `json:"known,omitempty"`
	Lint               []lintFacts    `json:"lint,omitzero"` // with --strict only
}

// knownFacts is what the program knows of a CA of the NHS.
type knownFacts struct {
	Name        string `json:"name"`
	Environment string `json:"environment"`
	Generation  string `json:"generation"`
}

// String says it in words.
func (k *knownFacts) String() string {
	if k == nil {
		return ""
	}
	environment := k.Environment
	if environment == "ptl" {
		environment = "path to live"
	}
	return k.Name + ", NHS " + environment + ", " + k.Generation
}

func known(c *x509.Certificate) *knownFacts {
	k, ok := trust.Known(c)
	if !ok {
		return nil
	}
	return &knownFacts{Name: k.Name, Environment: k.Environment, Generation: k.Generation}
}

func describeCertificate(c *x509.Certificate, now time.Time) certificateFacts {
	names, source := pki.Names(c)
	f := certificateFacts{
		Role: role(c), Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: c.SerialNumber.Text(16),
		Names: list(names), NameSource: source, OtherNames: otherNames(c),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), DaysLeft: daysLeft(c.NotAfter, now), Expired: now.After(c.NotAfter),
		Key: pki.DescribeKey(c.PublicKey), KeySHA256: pki.KeyFingerprint(c.PublicKey), SignatureAlgorithm: c.SignatureAlgorithm.String(),
		KeyUsage: keyUsages(c.KeyUsage), ExtKeyUsage: extKeyUsages(c), CA: isCA(c),
		CRLAddresses: list(c.CRLDistributionPoints), OCSP: list(c.OCSPServer), SHA256: pki.Fingerprint(c), Known: known(c),
	}
	if f.CA && (c.MaxPathLen > 0 || c.MaxPathLenZero) {
		f.PathLength = &c.MaxPathLen
	}
	return f
}

func isCA(c *x509.Certificate) bool { return c.BasicConstraintsValid && c.IsCA }

func role(c *x509.Certificate) string {
	switch {
	case selfSigned(c) && (isCA(c) || c.Version < 3):
		return roleRoot
	case isCA(c):
		return roleSubCA
	}
	return roleLeaf
}

func otherNames(c *x509.Certificate) []string {
	names := []string{}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	names = append(names, c.EmailAddresses...)
	return append(names, texts(c.URIs)...)
}

func texts(uris []*url.URL) []string {
	out := make([]string, 0, len(uris))
	for _, u := range uris {
		out = append(out, u.String())
	}
	return out
}

// list is never nil, so that JSON has an empty list instead of null.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// keyUsages names the bits as RFC 5280, Section 4.2.1.3 does.
func keyUsages(usage x509.KeyUsage) []string {
	names := [...]string{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement",
		"keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"}
	out := []string{}
	for bit, name := range names {
		if usage&(1<<bit) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// extKeyUsages names the purposes as RFC 5280, Section 4.2.1.12 does; others by
// their object identifier.
func extKeyUsages(c *x509.Certificate) []string {
	out := []string{}
	for _, usage := range c.ExtKeyUsage {
		switch usage {
		case x509.ExtKeyUsageAny:
			out = append(out, "any")
		case x509.ExtKeyUsageServerAuth:
			out = append(out, "serverAuth")
		case x509.ExtKeyUsageClientAuth:
			out = append(out, "clientAuth")
		case x509.ExtKeyUsageCodeSigning:
			out = append(out, "codeSigning")
		case x509.ExtKeyUsageEmailProtection:
			out = append(out, "emailProtection")
		case x509.ExtKeyUsageTimeStamping:
			out = append(out, "timeStamping")
		case x509.ExtKeyUsageOCSPSigning:
			out = append(out, "OCSPSigning")
		default:
			out = append(out, "other "+strconv.Itoa(int(usage)))
		}
	}
	for _, oid := range c.UnknownExtKeyUsage {
		out = append(out, oid.String())
	}
	return out
}
