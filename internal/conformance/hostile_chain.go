package main

import (
	"crypto/x509"
	"encoding/asn1"
	"net"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

var unknownOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}

// CAs that may not, keys that are too weak, dates, purposes: chains as such.
func chainCases() []chainCase {
	day := 24 * time.Hour
	ago, soon := time.Now().Add(-400*day), time.Now().Add(400*day)
	return []chainCase{
		{"an X.509 version 1 CA in the chain", trust.PathLength, func(c *chain) { c.after(dropSubCA) }, func(c *chain) { c.after(versionOne) }},
		{"a subCA below a path length of 0", trust.PathLength, func(c *chain) { c.before(deeper) }, func(c *chain) { c.ofSub(testpki.PathLen(0)) }},
		{"a leaf that issues", trust.PathLength, nil, func(c *chain) { c.before(leafAsCA) }},
		{"a subCA without basicConstraints", trust.PathLength, func(c *chain) { c.after(dropSubCA) }, func(c *chain) { c.ofSub(testpki.NoBasicConstraints()) }},
		{"a subCA that says it is none", trust.PathLength, func(c *chain) { c.after(dropSubCA) }, func(c *chain) { c.ofSub(testpki.NotCA()) }},
		{"a subCA that may sign CRLs only", trust.PathLength, func(c *chain) { c.after(dropSubCA) }, func(c *chain) { c.ofSub(testpki.KeyUsage(x509.KeyUsageCRLSign)) }},
		{"a subCA of the same name with another key", trust.BadSignature, nil, func(c *chain) { c.before(impostor(true)) }},
		{"the same, and the peer presents it", trust.BadSignature, nil, func(c *chain) { c.before(impostor(false)) }},
		{"a root of its own, presented along", trust.UnknownIssuer, nil, func(c *chain) { c.before(foreign) }},
		{"a self-signed leaf", trust.UnknownIssuer, nil, func(c *chain) { c.after(selfSigned) }},
		{"a cycle of two CAs and no root", trust.UnknownIssuer, nil, func(c *chain) { c.before(cycle) }},
		{"a chain of 100 certificates", trust.TooLarge, nil, func(c *chain) { c.after(func(c *chain) { repeat(c, 100) }) }},
		{"no certificate at all", trust.NoCertificate, nil, func(c *chain) { c.after(func(c *chain) { c.presented = nil }) }},
		{"a leaf with a spoiled signature", trust.BadSignature, nil, func(c *chain) { c.ofLeaf(testpki.BadSignature()) }},
		{"a subCA with a spoiled signature", trust.BadSignature, nil, func(c *chain) { c.ofSub(testpki.BadSignature()) }},
		{"an unknown critical extension in the leaf", trust.CriticalExtension, nil, func(c *chain) { c.ofLeaf(testpki.CriticalExtension(unknownOID)) }},
		{"an unknown critical extension in the subCA", trust.CriticalExtension, nil, func(c *chain) { c.ofSub(testpki.CriticalExtension(unknownOID)) }},
		{"an RSA 1024 leaf", trust.WeakKey, rsa, func(c *chain) { c.ofLeaf(testpki.KeyType("rsa-1024")) }},
		{"an RSA 1024 subCA", trust.WeakKey, rsa, func(c *chain) { c.ofSub(testpki.KeyType("rsa-1024")) }},
		{"a P-224 leaf", trust.WeakKey, nil, func(c *chain) { c.ofLeaf(testpki.KeyType("ecdsa-p224")) }},
		{"RSA 2048 where 3072 is asked for", trust.WeakKey, rsa, func(c *chain) { c.config.MinRSABits = 3072 }},
		{"a leaf signed with SHA-1", trust.WeakSignature, rsa, func(c *chain) { c.ofLeaf(testpki.SHA1()) }},
		{"a subCA signed with SHA-1", trust.WeakSignature, rsa, func(c *chain) { c.ofSub(testpki.SHA1()) }},
		{"a signature algorithm that is not permitted", trust.WeakSignature, nil, func(c *chain) {
			c.config.SignatureAlgorithms = []x509.SignatureAlgorithm{x509.SHA256WithRSA}
		}},
		{"an expired leaf", trust.Expired, nil, func(c *chain) { c.ofLeaf(testpki.Validity(ago, time.Now().Add(-time.Second))) }},
		{"an expired subCA", trust.Expired, nil, func(c *chain) { c.ofSub(testpki.Validity(ago, time.Now().Add(-time.Second))) }},
		{"an expired root", trust.Expired, nil, func(c *chain) { c.ofRoot(testpki.Validity(ago, time.Now().Add(-time.Second))) }},
		{"a leaf of tomorrow", trust.NotYetValid, nil, func(c *chain) { c.ofLeaf(testpki.Validity(time.Now().Add(day), soon)) }},
		{"a client's certificate as a server's", trust.WrongPurpose, nil, func(c *chain) { c.ofLeaf(testpki.EKU(x509.ExtKeyUsageClientAuth)) }},
		{"a server's certificate as a client's", trust.WrongPurpose, func(c *chain) { c.request.Purpose = trust.ClientAuth },
			func(c *chain) { c.ofLeaf(testpki.EKU(x509.ExtKeyUsageServerAuth)) }},
		{"a subCA for mail only", trust.WrongPurpose, nil, func(c *chain) { c.ofSub(testpki.EKU(x509.ExtKeyUsageEmailProtection)) }},
	}
}

// Names: what counts, and what only looks like it.
func nameCases() []chainCase {
	fromCN := func(c *chain) { c.config.NameFromCN = true; c.ofLeaf(testpki.NoSAN()) }
	dns := func(names ...string) func(*chain) {
		return func(c *chain) { c.ofLeaf(testpki.DNS(names...)) }
	}
	cn := func(name string) func(*chain) { return func(c *chain) { c.ofLeaf(testpki.Name(name)) } }
	return []chainCase{
		{"another name of the same PKI", trust.NameMismatch, nil, dns("other.thirdparty.nhs.uk")},
		{"another client of the same PKI", trust.NotListed, func(c *chain) { c.request.Purpose = trust.ClientAuth }, dns("other.thirdparty.nhs.uk")},
		{"a name that ends like the peer's", trust.NameMismatch, nil, dns("evil" + peerName)},
		{"a name that begins like the peer's", trust.NameMismatch, nil, dns(peerName + ".example.com")},
		{"a wildcard over the peer's name", trust.NameMismatch, nil, dns("*.thirdparty.nhs.uk")},
		{"SAN and CN disagree: the CN is the peer's", trust.NameMismatch, func(c *chain) { c.config.NameFromCN = true }, dns("other.thirdparty.nhs.uk")},
		{"a CN where names from the CN do not count", trust.NameMismatch, nil, func(c *chain) { c.ofLeaf(testpki.NoSAN()) }},
		{"a CN outside a name constraint", trust.NameConstraint, fromCN, func(c *chain) { c.ofSub(testpki.NameConstraint([]string{"example.org"}, nil)) }},
		{"a CN inside an excluded name", trust.NameConstraint, fromCN, func(c *chain) { c.ofSub(testpki.NameConstraint(nil, []string{"nhs.uk"})) }},
		{"a SAN outside a name constraint", trust.NameConstraint, nil, func(c *chain) { c.ofSub(testpki.NameConstraint([]string{"example.org"}, nil)) }},
		{"a second SAN outside a name constraint", trust.NameConstraint, func(c *chain) { c.ofSub(testpki.NameConstraint([]string{"nhs.uk"}, nil)) },
			dns(peerName, "www.example.org")},
		{"NUL in the CN", trust.NameMismatch, fromCN, cn(peerName + "\x00.example.com")},
		{"NUL in the SAN", trust.NameMismatch, nil, dns(peerName + "\x00.example.com")},
		{"an IDN look-alike in the CN", trust.NameMismatch, fromCN, cn("p\u0435er.thirdparty.nhs.uk")}, // Cyrillic
		{"an IDN look-alike in the SAN", trust.NameMismatch, nil, dns("xn--per-qxc.thirdparty.nhs.uk")},
		{"a full-width CN", trust.NameMismatch, fromCN, cn("\uff50eer.thirdparty.nhs.uk")},
		{"two CNs, one of them the peer's", trust.NameMismatch, fromCN, func(c *chain) { c.ofLeaf(testpki.RawSubject(twoNames("other.nhs.uk", peerName))) }},
		{"an address in the SAN, the peer's name in the CN", trust.NameMismatch, func(c *chain) { c.config.NameFromCN = true },
			func(c *chain) { c.ofLeaf(testpki.IP(net.IPv4(127, 0, 0, 1))) }},
		{"an IP address written as a DNS name", trust.NameMismatch, func(c *chain) { c.request.Peers = trust.Names(peerName, "127.0.0.1") }, dns("127.0.0.1")},
		{"mail in the SAN, the peer's name in the CN", trust.NameMismatch, func(c *chain) { c.config.NameFromCN = true },
			func(c *chain) { c.ofLeaf(testpki.Email("a@" + peerName)) }},
		{"an empty SAN, the peer's name in the CN", trust.NameMismatch, fromCN, func(c *chain) { c.ofLeaf(testpki.Extension(emptySAN())) }},
		{"the peer's name with a key that is not pinned", trust.NotListed, nil, func(c *chain) { c.after(pinAnother) }},
		{"a tunnel that permits nobody", trust.NameMismatch, nil, func(c *chain) { c.request.Peers = trust.Peers{} }},
	}
}
