package lint_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

const (
	extSubjectKeyID     = "2.5.29.14"
	extAuthorityKeyID   = "2.5.29.35"
	extBasicConstraints = "2.5.29.19"
	extNameConstraints  = "2.5.29.30"
	extCRLAddresses     = "2.5.29.31"
	extPolicies         = "2.5.29.32"
)

func changed(base func(*kit) any, oid string, change func(*pkix.Extension) bool) func(*kit) any {
	return func(k *kit) any { return k.extensions(base(k).(*cert), oid, change) }
}

func withField(base func(*kit) any, field int, der []byte) func(*kit) any {
	return func(k *kit) any { return k.field(base(k).(*cert), field, der) }
}

// serial is a serial number in DER.
func serial(octets ...byte) []byte { return append([]byte{2, byte(len(octets))}, octets...) }

// validity is one in DER, in the forms given.
func validity(notBefore, notAfter string) []byte {
	form := func(s string) []byte {
		tag := byte(23)
		if len(s) == len("20250301120000Z") {
			tag = 24
		}
		return append([]byte{tag, byte(len(s))}, s...)
	}
	return sequence(form(notBefore), form(notAfter))
}

// directoryName is a CRL distribution point that names an entry of a directory.
func directoryName(e *pkix.Extension) bool {
	name := must(asn1.Marshal(pkix.Name{CommonName: "CRL1"}.ToRDNSequence()))
	context := func(tag int, content []byte) []byte {
		return must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: content}))
	}
	e.Value = sequence(sequence(context(0, context(0, context(4, name)))))
	return true
}

func otherPolicy(oid ...int) func(*pkix.Extension) bool {
	return func(e *pkix.Extension) bool {
		*e = policy(oid...)
		return true
	}
}

func fieldFixtures() []fixture {
	empty := sequence()
	v1 := func(k *kit) any {
		return k.fields(k.leaf(), false, func(f [][]byte) [][]byte { return f[:fieldExtensions] })
	}
	selfSigned := func(k *kit) any {
		return testpki.NewRoot(k.t, testpki.KeyType("rsa-2048"), testpki.Name(host), testpki.DNS(host), testpki.NotCA(), testpki.Validity(date(2025), date(2028)),
			testpki.KeyUsage(x509.KeyUsageDigitalSignature), testpki.EKU(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth),
			testpki.Extension(policy(1, 2, 826, 0, 1275, 101, 0, 3, 1, 1))).Cert
	}
	twenty := append([]byte{0x7f}, make([]byte, 19)...)
	twentyOne := append([]byte{0}, append([]byte{0x80}, make([]byte, 19)...)...)
	unknown := asn1.ObjectIdentifier{1, 2, 3, 4}
	return []fixture{
		{"self-signed", "good_leaf", leaf(), nil},
		{"self-signed", "bad_leaf", selfSigned, nil},
		{"version", "good_leaf_3", leaf(), nil},
		{"version", "bad_leaf_1", v1, []string{"san-missing", "authority-key-id", "crl-address-missing", "policy-missing", "purposes-missing"}},
		{"version", "good_ca_3", root, nil},
		{"version", "bad_ca_1", func(k *kit) any { return k.oldRoot() }, []string{"ca-key-usage-missing", "ca-subject-key-id"}},
		{"serial-number", "good_leaf_20_octets", withField(leaf(), fieldSerial, serial(twenty...)), nil},
		{"serial-number", "bad_leaf_0", withField(leaf(), fieldSerial, serial(0)), nil},
		{"serial-number", "bad_leaf_21_octets", withField(leaf(), fieldSerial, serial(twentyOne...)), nil},
		{"serial-number", "good_ca_1", ca(testpki.Serial(big.NewInt(1))), nil},
		{"serial-number", "bad_ca_0", withField(ca(), fieldSerial, serial(0)), nil},
		{"issuer-empty", "good_leaf", leaf(), nil},
		{"issuer-empty", "bad_leaf", withField(leaf(), fieldIssuer, empty), nil},
		{"issuer-empty", "good_ca", ca(), nil},
		{"issuer-empty", "bad_ca", withField(ca(), fieldIssuer, empty), nil},
		{"validity-reversed", "good_leaf_of_an_instant", leaf(testpki.Validity(date(2025), date(2025))), nil},
		{"validity-reversed", "bad_leaf", leaf(testpki.Validity(date(2025), date(2024))), nil},
		{"validity-reversed", "good_ca", ca(), nil},
		{"validity-reversed", "bad_ca", ca(testpki.Validity(date(2025), date(2024))), nil},
		{"validity-long", "good_leaf_three_years_and_half_an_hour", leaf(testpki.Validity(date(2025), date(2028).Add(30*time.Minute))), nil},
		{"validity-long", "bad_leaf_ten_years", leaf(testpki.Validity(date(2025), date(2035))), nil},
		{"validity-long", "bad_leaf_three_years_and_two_days", leaf(testpki.Validity(date(2025), date(2028).Add(48*time.Hour))), nil},
		{"validity-encoding", "good_leaf", withField(leaf(), fieldValidity, validity("250301120000Z", "280301120000Z")), nil},
		{"validity-encoding", "bad_leaf_not_before", withField(leaf(), fieldValidity, validity("20250301120000Z", "280301120000Z")), nil},
		{"validity-encoding", "bad_leaf_not_after", withField(leaf(), fieldValidity, validity("250301120000Z", "20280301120000Z")), nil},
		{"validity-encoding", "good_ca_after_2050", withField(ca(), fieldValidity, validity("250301120000Z", "20550301120000Z")), nil},
		{"validity-encoding", "bad_ca", withField(ca(), fieldValidity, validity("20250301120000Z", "20550301120000Z")), nil},
		{"authority-key-id", "good_leaf", leaf(), nil},
		{"authority-key-id", "bad_leaf", changed(leaf(), extAuthorityKeyID, drop), nil},
		{"authority-key-id", "good_root_without", root, nil},
		{"authority-key-id", "bad_ca", changed(ca(), extAuthorityKeyID, drop), nil},
		{"crl-address-missing", "good_leaf", leaf(), nil},
		{"crl-address-missing", "bad_leaf", changed(leaf(), extCRLAddresses, drop), nil},
		{"crl-address-missing", "good_root_without", root, nil},
		{"crl-address-missing", "bad_ca", changed(ca(), extCRLAddresses, drop), nil},
		{"crl-address-scheme", "good_leaf_ldap_and_http", leaf(testpki.CDP("ldap://ldap.nhs.uk/cn=crl", "HTTP://crl.nhs.uk/1.crl")), nil},
		{"crl-address-scheme", "bad_leaf_ldap", leaf(testpki.CDP("ldap://ldap.nhs.uk/cn=crl")), nil},
		{"crl-address-scheme", "bad_leaf_https", leaf(testpki.CDP("https://crl.nhs.uk/1.crl")), nil},
		{"crl-address-scheme", "bad_leaf_directory_name", changed(leaf(), extCRLAddresses, directoryName), nil},
		{"crl-address-scheme", "good_ca", ca(), nil},
		{"crl-address-scheme", "bad_ca", ca(testpki.CDP("ldap://ldap.nhs.uk/cn=crl")), nil},
		{"critical-extension", "good_leaf_not_critical", leaf(testpki.Extension(pkix.Extension{Id: unknown, Value: asn1.NullBytes})), nil},
		{"critical-extension", "bad_leaf", leaf(testpki.CriticalExtension(unknown)), nil},
		{"critical-extension", "good_ca", ca(), nil},
		{"critical-extension", "bad_ca", ca(testpki.CriticalExtension(unknown)), nil},
		{"policy-missing", "good_leaf_g1", g1(), nil},
		{"policy-missing", "good_leaf_another_of_the_nhs", changed(leaf(), extPolicies, otherPolicy(1, 2, 826, 0, 1275, 101, 0, 3, 9, 9)), nil},
		{"policy-missing", "bad_leaf", changed(leaf(), extPolicies, drop), nil},
		{"policy-missing", "bad_leaf_foreign", changed(leaf(), extPolicies, otherPolicy(1, 2, 826, 0, 1275, 1010, 1)), nil},
	}
}

func usageFixtures() []fixture {
	const certSign, crlSign, signing = x509.KeyUsageCertSign, x509.KeyUsageCRLSign, x509.KeyUsageDigitalSignature
	server, client, code, anything := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageAny
	isCA := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}
	return []fixture{
		{"leaf-is-ca", "good_basic_constraints_say_no", leaf(), nil},
		{"leaf-is-ca", "good_no_basic_constraints", leaf(testpki.NoBasicConstraints()), nil},
		{"leaf-is-ca", "bad_basic_constraints", leaf(testpki.Extension(isCA)), nil},
		{"leaf-is-ca", "bad_key_cert_sign", leaf(testpki.KeyUsage(certSign | signing)), nil},
		{"key-usage", "good_without_key_encipherment", leaf(testpki.KeyUsage(signing)), nil},
		{"key-usage", "good_none", leaf(testpki.KeyUsage(0)), nil},
		{"key-usage", "bad_key_encipherment_alone", leaf(testpki.KeyUsage(x509.KeyUsageKeyEncipherment)), nil},
		{"purposes-missing", "good_leaf", leaf(), nil},
		{"purposes-missing", "bad_leaf", leaf(testpki.EKU()), nil},
		{"purposes-wrong", "good_leaf_one_more", leaf(testpki.EKU(server, client, code)), nil},
		{"purposes-wrong", "bad_leaf", leaf(testpki.EKU(code)), nil},
		{"purposes-wrong", "good_ca_none", ca(), nil},
		{"purposes-wrong", "bad_ca", ca(testpki.EKU(code)), nil},
		{"purposes-one-sided", "good_leaf", leaf(), nil},
		{"purposes-one-sided", "bad_leaf_server", leaf(testpki.EKU(server)), nil},
		{"purposes-one-sided", "bad_leaf_client", leaf(testpki.EKU(client)), nil},
		{"purposes-one-sided", "good_ca_any", ca(testpki.EKU(anything)), nil},
		{"purposes-one-sided", "good_ca_server_and_any", ca(testpki.EKU(server, anything)), nil},
		{"purposes-one-sided", "bad_ca", ca(testpki.EKU(server)), nil},
		{"purposes-any", "good_leaf", leaf(), nil},
		{"purposes-any", "bad_leaf", leaf(testpki.EKU(server, client, anything)), nil},

		{"ca-basic-constraints", "good_ca", ca(), nil},
		{"ca-basic-constraints", "bad_missing", ca(testpki.NoBasicConstraints()), nil},
		{"ca-basic-constraints", "bad_false", ca(testpki.NotCA()), nil},
		{"ca-basic-constraints-critical", "good_root", root, nil},
		{"ca-basic-constraints-critical", "bad_ca", changed(ca(), extBasicConstraints, notCritical), nil},
		{"ca-key-usage-missing", "good_ca", ca(), nil},
		{"ca-key-usage-missing", "bad_ca", ca(testpki.KeyUsage(0)), nil},
		{"ca-key-cert-sign", "good_one_more", ca(testpki.KeyUsage(certSign | crlSign | signing)), nil},
		{"ca-key-cert-sign", "bad_ca", ca(testpki.KeyUsage(crlSign)), nil},
		{"ca-crl-sign", "good_ca", ca(), nil},
		{"ca-crl-sign", "bad_ca", ca(testpki.KeyUsage(certSign)), nil},
		{"ca-subject-key-id", "good_ca", ca(), nil},
		{"ca-subject-key-id", "bad_ca", changed(ca(), extSubjectKeyID, drop), nil},
		{"ca-subject-empty", "good_ca", ca(), nil},
		{"ca-subject-empty", "bad_ca", withField(ca(), fieldSubject, sequence()), nil},
		{"ca-path-length", "good_zero", ca(), nil},
		{"ca-path-length", "good_one", ca(testpki.PathLen(1)), nil},
		{"ca-path-length", "good_root_without", root, nil},
		{"ca-path-length", "bad_ca", ca(testpki.PathLen(-1)), nil},
		{"ca-name-constraints-critical", "good_ca", ca(testpki.NameConstraint([]string{"nhs.uk"}, nil)), nil},
		{"ca-name-constraints-critical", "bad_ca", changed(ca(testpki.NameConstraint([]string{"nhs.uk"}, nil)), extNameConstraints, notCritical), nil},
	}
}

func requestFixtures() []fixture {
	constraints := func(value ...byte) func(*kit) any {
		return request(func(r *csr) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: value}}
		})
	}
	return []fixture{
		{"request-signature", "good_request", request(nil), nil},
		{"request-signature", "bad_foreign_key", func(k *kit) any { return k.requestKey(testpki.NewKey(k.t, "rsa-2048").Public()) }, nil},
		{"request-common-name", "good_request", request(nil), nil},
		{"request-common-name", "bad_none", request(func(r *csr) { r.Subject = pkix.Name{} }), nil},
		{"request-common-name", "bad_two", request(func(r *csr) { r.Subject = commonNames(host, host) }), nil},
		{"request-subject", "good_request", request(nil), nil},
		{"request-subject", "bad_organisation", request(func(r *csr) { r.Subject.Organization = []string{"nhs"} }), nil},
		{"request-subject", "bad_country_of_openssl", request(func(r *csr) { r.Subject.Country, r.Subject.Province = []string{"AU"}, []string{"Some-State"} }), nil},
		{"request-san", "good_request", request(nil), nil},
		{"request-san", "bad_request", request(func(r *csr) { r.DNSNames = []string{host} }), nil},
		{"request-attributes", "good_extension_request", request(func(r *csr) { r.DNSNames = []string{host} }), nil},
		{"request-attributes", "bad_challenge_password", func(k *kit) any { return k.attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, "hunter2") }, nil},
		{"request-attributes", "bad_unstructured_name", func(k *kit) any { return k.attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 2}, "ACME") }, nil},
		{"request-ca", "good_basic_constraints_say_no", constraints(0x30, 0), nil},
		{"request-ca", "good_written_out", constraints(0x30, 3, 1, 1, 0), nil},
		{"request-ca", "bad_request", constraints(0x30, 3, 1, 1, 0xff), nil},
	}
}
