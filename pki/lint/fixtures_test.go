package lint_test

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/testpki"
)

// fixture is one certificate or request, made to break exactly one rule, or none.
type fixture struct {
	rule string
	name string         // bad_... breaks the rule, good_... keeps it although it comes close
	make func(*kit) any // *x509.Certificate or *x509.CertificateRequest
	also []string       // other rules that cannot but break as well
}

type (
	cert = x509.Certificate
	csr  = x509.CertificateRequest
)

func leaf(opts ...testpki.Option) func(*kit) any {
	return func(k *kit) any { return k.leaf(opts...) }
}

func g1(opts ...testpki.Option) func(*kit) any {
	return func(k *kit) any { return k.g1(opts...) }
}

func ca(opts ...testpki.Option) func(*kit) any {
	return func(k *kit) any { return k.ca(opts...) }
}

func root(k *kit) any { return k.root.Cert }

func request(change func(*csr)) func(*kit) any {
	return func(k *kit) any { return k.request(change) }
}

// named is an endpoint's certificate for one name, by SAN and CN.
func named(name string) func(*kit) any { return leaf(testpki.Name(name), testpki.DNS(name)) }

func cn(name string) testpki.Option { return testpki.Subject(pkix.Name{CommonName: name}) }

func asked(name string) func(*kit) any {
	return request(func(r *csr) { r.Subject.CommonName = name })
}

func commonNames(names ...string) pkix.Name {
	var name pkix.Name
	for _, n := range names {
		name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: n})
	}
	return name
}

func email(cn, address string) pkix.Name {
	name := commonNames(cn)
	name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: address})
	return name
}

func nameFixtures() []fixture {
	long := strings.Repeat("a", 56)
	return []fixture{
		{"name-missing", "good_san", leaf(), nil},
		{"name-missing", "good_cn_alone", g1(), nil},
		{"name-missing", "bad_no_name_at_all", g1(testpki.Subject(pkix.Name{Organization: []string{"nhs"}})), []string{"common-name", "san-missing"}},
		{"name-missing", "bad_two_common_names", g1(testpki.Subject(commonNames(host, "b."+host))), []string{"common-name", "san-missing"}},
		{"name-missing", "bad_san_without_dns_name", leaf(testpki.NoSAN(), testpki.Extension(san(7, "\x0a\x00\x00\x01"))), []string{"san-types"}},
		{"common-name", "good_other_fields_beside_it", g1(), nil},
		{"common-name", "bad_two", leaf(testpki.Subject(commonNames(host, host))), nil},
		{"common-name", "bad_none", leaf(testpki.Subject(pkix.Name{Organization: []string{"nhs"}})), nil},

		{"name-wildcard", "good_leaf", named("star.thirdparty.nhs.uk"), nil},
		{"name-wildcard", "bad_in_san", leaf(testpki.DNS(host, "*.thirdparty.nhs.uk")), nil},
		{"name-wildcard", "bad_in_cn", g1(cn("*.thirdparty.nhs.uk")), []string{"san-missing"}},
		{"name-wildcard", "good_request", asked("star.thirdparty.nhs.uk"), nil},
		{"name-wildcard", "bad_request", asked("*.thirdparty.nhs.uk"), nil},
		{"name-underscore", "good_leaf", named("under-score.nhs.uk"), nil},
		{"name-underscore", "bad_leaf", named("under_score.nhs.uk"), nil},
		{"name-underscore", "good_request", asked("under-score.nhs.uk"), nil},
		{"name-underscore", "bad_request", asked("under_score.nhs.uk"), nil},
		{"name-address", "good_leaf", named("a10-0-0-1.thirdparty.nhs.uk"), nil},
		{"name-address", "bad_in_cn", g1(cn("10.0.0.1")), []string{"san-missing"}},
		{"name-address", "bad_in_san", leaf(testpki.DNS(host, "2001:db8::1")), nil},
		{"name-address", "good_request", asked("a10-0-0-1.thirdparty.nhs.uk"), nil},
		{"name-address", "bad_request", asked("10.0.0.1"), nil},
		{"name-syntax", "good_leaf", named("a-1.b--2.3.nhs.uk"), nil},
		{"name-syntax", "bad_space", named("pcs thirdparty.nhs.uk"), nil},
		{"name-syntax", "bad_hyphen", named("-pcs.thirdparty.nhs.uk"), nil},
		{"name-syntax", "bad_empty_label", named("pcs..nhs.uk"), nil},
		{"name-syntax", "bad_long_label", leaf(testpki.DNS(host, strings.Repeat("a", 64)+".nhs.uk")), nil},
		{"name-syntax", "bad_long_name", leaf(testpki.DNS(host, strings.Repeat(long+".", 5)+"nhs.uk")), nil},
		{"name-syntax", "bad_trailing_dot", named(host + "."), nil},
		{"name-syntax", "bad_name_of_a_thing", g1(cn("PCS,thirdparty.nhs.uk")), []string{"name-case", "san-missing"}},
		{"name-syntax", "good_request", asked("a-1.b--2.3.nhs.uk"), nil},
		{"name-syntax", "bad_request_address", asked("https://pcs.thirdparty.nhs.uk"), nil},
		{"name-syntax", "bad_request_letters", asked("ä.thirdparty.nhs.uk"), nil},
		{"name-domain", "good_leaf", named("a.nhs.uk"), nil},
		{"name-domain", "bad_leaf", named("pcs.example.com"), nil},
		{"name-domain", "bad_lookalike", named("pcs.fakenhs.uk"), nil},
		{"name-domain", "bad_second_name", leaf(testpki.DNS(host, "pcs.example.com")), nil},
		{"name-domain", "good_request", asked("a.nhs.uk"), nil},
		{"name-domain", "bad_request", asked("example.com"), nil},
		{"name-case", "good_leaf", named("bars-int-t99999.supplier.thirdparty.nhs.uk"), nil},
		{"name-case", "bad_leaf", named("BaRS-INT-T99999.Supplier.thirdparty.nhs.uk"), nil},
		{"request-name-case", "good_request", asked("bars-int-t99999.supplier.thirdparty.nhs.uk"), nil},
		{"request-name-case", "bad_request", asked("BaRS-INT-T99999.Supplier.thirdparty.nhs.uk"), nil},
		{"common-name-length", "good_64", named(long + "x.nhs.uk"), nil},
		{"common-name-length", "bad_65", named(long + "xx.nhs.uk"), nil},
		{"common-name-length", "good_request", asked(long + "x.nhs.uk"), nil},
		{"common-name-length", "bad_request", asked(long + "xx.nhs.uk"), nil},
		{"common-name-not-in-san", "good_second", leaf(testpki.DNS("b."+host, host)), nil},
		{"common-name-not-in-san", "good_other_case", leaf(testpki.Name(strings.ToUpper(host)), testpki.DNS(host)), nil},
		{"common-name-not-in-san", "bad_leaf", leaf(testpki.Name(host), testpki.DNS("b."+host)), nil},
		{"common-name-not-in-san", "good_request", request(func(r *csr) { r.DNSNames = []string{"b." + host, host} }), nil},
		{"common-name-not-in-san", "bad_request", request(func(r *csr) { r.DNSNames = []string{"b." + host} }), []string{"request-san"}},
		{"san-missing", "good_leaf", leaf(), nil},
		{"san-missing", "bad_g1", g1(), nil},
		{"san-types", "good_leaf", leaf(testpki.DNS(host, "b."+host)), nil},
		{"san-types", "bad_address", leaf(testpki.IP(net.IPv4(10, 0, 0, 1))), nil},
		{"san-types", "bad_other_name", leaf(testpki.NoSAN(), testpki.Extension(san(8, "\x2a\x03"))), []string{"name-missing"}},
		{"san-types", "good_request", request(func(r *csr) { r.DNSNames = []string{host} }), nil},
		{"san-types", "bad_request_uri", request(func(r *csr) { r.URIs = []*url.URL{{Scheme: "https", Host: host}} }), []string{"request-san"}},
		{"email", "good_at_in_no_name", leaf(), nil},
		{"email", "bad_in_san", leaf(testpki.Email("ops@example.nhs.uk")), nil},
		{"email", "bad_in_subject", leaf(testpki.Subject(email(host, "ops@example.nhs.uk"))), nil},
		{"request-email", "good_request", request(nil), nil},
		{"request-email", "bad_in_subject", request(func(r *csr) { r.Subject = email(host, "ops@example.nhs.uk") }), nil},
		{"request-email", "bad_in_san", request(func(r *csr) { r.DNSNames, r.EmailAddresses = []string{host}, []string{"ops@example.nhs.uk"} }), []string{"request-san"}},
		{"hidden-characters", "good_letters_of_other_scripts", g1(testpki.Subject(pkix.Name{Organization: []string{"Ysbyty Gwynedd â"}, CommonName: host})), nil},
		{"hidden-characters", "bad_nul_in_cn", g1(cn(host + "\x00.example.com")), []string{"san-missing"}},
		{"hidden-characters", "bad_nul_in_san", leaf(testpki.DNS(host, host+"\x00.example.com")), nil},
		{"hidden-characters", "bad_writing_direction", g1(testpki.Subject(pkix.Name{Organization: []string{"nhs\u202egro"}, CommonName: host})), []string{"san-missing"}},
		{"hidden-characters", "good_ca", ca(testpki.Name("Test Authentication G2")), nil},
		{"hidden-characters", "bad_ca", ca(testpki.Name("Test\nAuthentication")), nil},
		{"hidden-characters", "good_request", request(nil), nil},
		{"hidden-characters", "bad_request", asked(host + "\x1b[2J"), nil},
	}
}

func keyFixtures() []fixture {
	exponent := func(e int) func(*rsa.PublicKey) { return func(k *rsa.PublicKey) { k.E = e } }
	bits := func(n uint) func(*rsa.PublicKey) {
		return func(k *rsa.PublicKey) { k.N = new(big.Int).SetBit(big.NewInt(1), int(n)-1, 1) }
	}
	pretended := func(change func(*rsa.PublicKey)) func(*kit) any {
		return func(k *kit) any { return k.leaf(testpki.Key(k.pretend(change))) }
	}
	pretendedCA := func(change func(*rsa.PublicKey)) func(*kit) any {
		return func(k *kit) any { return k.ca(testpki.Key(k.pretend(change))) }
	}
	pretendedRequest := func(change func(*rsa.PublicKey)) func(*kit) any {
		return func(k *kit) any { return k.requestKey(k.pretend(change).Public()) }
	}
	kind := func(kind string) func(*kit) any {
		return func(k *kit) any { return k.requestWith(testpki.NewKey(k.t, kind), nil) }
	}
	notItsOwn := []string{"request-signature"}
	return []fixture{
		{"rsa-short", "good_leaf_2048", leaf(), nil},
		{"rsa-short", "bad_leaf_1024", leaf(testpki.KeyType("rsa-1024")), nil},
		{"rsa-short", "bad_leaf_2047", pretended(bits(2047)), nil},
		{"rsa-short", "good_ca_2048", ca(), nil},
		{"rsa-short", "bad_ca_1024", ca(testpki.KeyType("rsa-1024")), nil},
		{"rsa-short", "good_request_2048", request(nil), nil},
		{"rsa-short", "bad_request_1024", kind("rsa-1024"), nil},
		{"rsa-size", "good_leaf_4096", pretended(bits(4096)), nil},
		{"rsa-size", "bad_leaf_3072", pretended(bits(3072)), nil},
		{"rsa-size", "bad_leaf_2049", pretended(bits(2049)), nil},
		{"rsa-size", "good_request_2048", request(nil), nil},
		{"rsa-size", "bad_request_3072", pretendedRequest(bits(3072)), notItsOwn},
		{"rsa-exponent", "good_leaf", pretended(exponent(65539)), nil},
		{"rsa-exponent", "bad_leaf_3", pretended(exponent(3)), nil},
		{"rsa-exponent", "bad_leaf_even", pretended(exponent(65538)), nil},
		{"rsa-exponent", "good_ca", ca(), nil},
		{"rsa-exponent", "bad_ca_3", pretendedCA(exponent(3)), nil},
		{"rsa-exponent", "good_request", request(nil), nil},
		{"rsa-exponent", "bad_request_3", pretendedRequest(exponent(3)), notItsOwn},
		{"key-unsupported", "good_leaf_8192", pretended(bits(8192)), nil},
		{"key-unsupported", "bad_leaf_8193", pretended(bits(8193)), nil},
		{"key-unsupported", "bad_leaf_p521", leaf(testpki.KeyType("ecdsa-p521")), []string{"key-not-rsa"}},
		{"key-unsupported", "good_ca_p521", ca(testpki.KeyType("ecdsa-p521")), nil},
		{"key-unsupported", "bad_ca_p224", ca(testpki.KeyType("ecdsa-p224")), nil},
		{"key-unsupported", "good_request", request(nil), nil},
		{"key-unsupported", "bad_request_p224", kind("ecdsa-p224"), []string{"key-not-rsa"}},
		{"key-unsupported", "bad_request_of_a_million_bits", pretendedRequest(bits(1 << 20)), nil},
		{"key-not-rsa", "good_leaf", leaf(), nil},
		{"key-not-rsa", "bad_leaf_p256", leaf(testpki.KeyType("ecdsa-p256")), nil},
		{"key-not-rsa", "bad_leaf_ed25519", leaf(testpki.KeyType("ed25519")), nil},
		{"key-not-rsa", "good_request", request(nil), nil},
		{"key-not-rsa", "bad_request_p384", kind("ecdsa-p384"), nil},
		{"signature-weak", "good_leaf_sha512", func(k *kit) any { return k.certAlgorithm(k.leaf(), 13) }, nil},
		{"signature-weak", "bad_leaf_sha1", leaf(testpki.SHA1()), nil},
		{"signature-weak", "bad_leaf_md5", func(k *kit) any { return k.certAlgorithm(k.leaf(), 4) }, nil},
		{"signature-weak", "good_root_sha1", func(k *kit) any {
			return testpki.NewRoot(k.t, testpki.KeyType("rsa-2048"), testpki.Validity(date(2022), date(2042)), testpki.SHA1()).Cert
		}, nil},
		{"signature-weak", "bad_ca_sha1", ca(testpki.SHA1()), nil},
		{"signature-weak", "good_request", request(nil), nil},
		{"signature-weak", "bad_request_sha1", request(func(r *csr) { r.SignatureAlgorithm = x509.SHA1WithRSA }), nil},
		{"signature-weak", "bad_request_md5", func(k *kit) any { return k.parseRequest(k.algorithm(k.request(nil).Raw, 4)) }, nil},
		{"signature-unknown", "good_leaf", leaf(), nil},
		{"signature-unknown", "bad_leaf", func(k *kit) any { return k.certAlgorithm(k.leaf(), 99) }, nil},
		{"signature-unknown", "good_ca", ca(), nil},
		{"signature-unknown", "bad_ca", func(k *kit) any { return k.certAlgorithm(k.ca(), 99) }, nil},
		{"signature-unknown", "good_request", request(nil), nil},
		{"signature-unknown", "bad_request", func(k *kit) any { return k.parseRequest(k.algorithm(k.request(nil).Raw, 99)) }, nil},
	}
}

func allFixtures() []fixture {
	return slices.Concat(nameFixtures(), keyFixtures(), fieldFixtures(), usageFixtures(), requestFixtures())
}
