package lint

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const (
	// nhsPolicies is the arc of the certificate policies of the NHS; that of G1
	// endpoints is 1.2.826.0.1275.101.0.3.1.1.
	nhsPolicies = "1.2.826.0.1275.101."
	// maxSerialBits is that of 20 octets: the first bit is the sign.
	maxSerialBits = 20*8 - 1
	maxYears      = 3
)

// fieldRows are the rules about the fields of a certificate, and those of its
// extensions that help to check it.
func fieldRows() []row {
	return []row{
		{Rule{"self-signed", of(TargetLeaf), "The certificate is issued by a CA, not by itself.",
			spine2, Error, "ask DIR for one: spinecert csr new"}, func(s *subject) string {
			if bytes.Equal(s.cert.RawSubject, s.cert.RawIssuer) {
				return "it names itself as its issuer"
			}
			return ""
		}},
		{Rule{"version", of(TargetLeaf, TargetCA), "The version is 3.",
			"RFC 5280, Section 4.1.2.1", Warning, "it cannot say what it is for; have it issued again"}, func(s *subject) string {
			if s.cert.Version != 3 {
				return fmt.Sprintf("the version is %d", s.cert.Version)
			}
			return ""
		}},
		{Rule{"serial-number", of(TargetLeaf, TargetCA), "The serial number is positive and has at most 20 octets.",
			"RFC 5280, Section 4.1.2.2", Warning, "tell the issuer: programs may refuse it, or not find it in a CRL"}, func(s *subject) string {
			switch n := s.cert.SerialNumber; {
			case n.Sign() <= 0:
				return "the serial number is " + n.String()
			case n.BitLen() > maxSerialBits:
				return fmt.Sprintf("the serial number has %d octets", n.BitLen()/8+1)
			}
			return ""
		}},
		{Rule{"issuer-empty", of(TargetLeaf, TargetCA), "The issuer has a name.",
			"RFC 5280, Section 4.1.2.4", Error, "have it issued again: no chain can be built without"}, func(s *subject) string {
			if len(s.cert.Issuer.Names) == 0 {
				return "the name of the issuer is empty"
			}
			return ""
		}},
		{Rule{"validity-reversed", of(TargetLeaf, TargetCA), "notAfter is not before notBefore.",
			"RFC 5280, Section 4.1.2.5", Error, "have it issued again: it is valid at no time"}, func(s *subject) string {
			if s.cert.NotAfter.Before(s.cert.NotBefore) {
				return "it ends on " + day(s.cert.NotAfter) + " and begins on " + day(s.cert.NotBefore)
			}
			return ""
		}},
		{Rule{"validity-long", of(TargetLeaf), "An endpoint's certificate is valid for three years at most.",
			spine3, Warning, "ask where it comes from: DIR issues for three years"}, func(s *subject) string {
			if s.cert.NotAfter.After(s.cert.NotBefore.AddDate(maxYears, 0, 1)) { // minutes more are common
				return "it is valid from " + day(s.cert.NotBefore) + " to " + day(s.cert.NotAfter)
			}
			return ""
		}},
		{Rule{"validity-encoding", of(TargetLeaf, TargetCA), "Dates before 2050 are written as UTCTime.",
			"RFC 5280, Section 4.1.2.5", Warning, "tell the issuer: programs may refuse it"}, earlyGeneralizedTime},
		{Rule{"authority-key-id", of(TargetLeaf, TargetCA), "There is an authority key identifier, but in a root.",
			"RFC 5280, Section 4.2.1.1", Warning, "tell the issuer: names do not tell two CAs of one name apart"}, func(s *subject) string {
			if len(s.cert.AuthorityKeyId) == 0 && !s.root {
				return "there is no authority key identifier"
			}
			return ""
		}},
		{Rule{"crl-address-missing", of(TargetLeaf, TargetCA), "The certificate says where its CRL is, but a root.",
			spine3, Warning, "peers with revocation: require refuse it (no_crl_address), unless crl.files has the CRL; ask the issuer"}, func(s *subject) string {
			if !s.has(oidCRLAddresses) && !s.root {
				return "there is no CRL distribution point"
			}
			return ""
		}},
		{Rule{"crl-address-scheme", of(TargetLeaf, TargetCA), "One address of the CRL begins with http://.",
			spine3, Warning, "the CRL is fetched by http only: put it into crl.files"}, noHTTPAddress},
		{Rule{"critical-extension", of(TargetLeaf, TargetCA), "Critical extensions are ones that are understood here.",
			"RFC 5280, Section 4.2", Error, "peers must refuse it (critical_extension); have it issued again without"}, func(s *subject) string {
			var ids []string
			for _, id := range s.cert.UnhandledCriticalExtensions {
				ids = append(ids, id.String())
			}
			if len(ids) == 0 {
				return ""
			}
			return "it has the critical extension " + few(ids)
		}},
		{Rule{"policy-missing", of(TargetLeaf), "A certificate policy of the NHS is named.",
			spine3, Info, "nothing, if its issuer is the right one; G1 endpoints have 1.2.826.0.1275.101.0.3.1.1, that of G2 is unconfirmed"}, func(s *subject) string {
			if slices.ContainsFunc(s.cert.Policies, func(id x509.OID) bool { return strings.HasPrefix(id.String(), nhsPolicies) }) {
				return ""
			}
			return "it names no certificate policy of the NHS"
		}},
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func noHTTPAddress(s *subject) string {
	if s.root || !s.has(oidCRLAddresses) {
		return ""
	}
	var quoted []string
	for _, address := range s.cert.CRLDistributionPoints {
		if len(address) > 7 && strings.EqualFold(address[:7], "http://") {
			return ""
		}
		quoted = append(quoted, quote(address))
	}
	if len(quoted) == 0 {
		return "the CRL distribution point has no address"
	}
	return "the addresses of the CRL are " + few(quoted)
}

// earlyGeneralizedTime looks at the dates as they are encoded: crypto/x509 takes
// both forms for every year.
func earlyGeneralizedTime(s *subject) string {
	der := cryptobyte.String(s.cert.RawTBSCertificate)
	var tbs, validity cryptobyte.String
	version := asn1.Tag(0).ContextSpecific().Constructed()
	ok := der.ReadASN1(&tbs, asn1.SEQUENCE) && tbs.SkipOptionalASN1(version) && tbs.SkipASN1(asn1.INTEGER) &&
		tbs.SkipASN1(asn1.SEQUENCE) && tbs.SkipASN1(asn1.SEQUENCE) && tbs.ReadASN1(&validity, asn1.SEQUENCE)
	for _, date := range []struct {
		name string
		time time.Time
	}{{"notBefore", s.cert.NotBefore}, {"notAfter", s.cert.NotAfter}} {
		if !ok {
			return ""
		}
		if validity.PeekASN1Tag(asn1.GeneralizedTime) && date.time.UTC().Year() < 2050 {
			return date.name + " is before 2050 and written as GeneralizedTime"
		}
		var value cryptobyte.String
		ok = validity.ReadAnyASN1(&value, new(asn1.Tag))
	}
	return ""
}
