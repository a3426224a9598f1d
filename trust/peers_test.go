package trust

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

func TestPeers(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	const name = "pcs.thirdparty.nhs.uk"
	cn := func(s string) []testpki.Option { return []testpki.Option{testpki.Name(s), testpki.NoSAN()} }
	san := func(s ...string) []testpki.Option {
		return []testpki.Option{testpki.Name("other.nhs.uk"), testpki.DNS(s...)}
	}
	oidCN := asn1.ObjectIdentifier{2, 5, 4, 3}
	twoCNs := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidCN, Value: "evil.nhs.uk"}, {Type: oidCN, Value: name}}}
	emptySAN := testpki.Extension(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: []byte{0x30, 0}})
	one, several := Names(name), Names("z.nhs.uk", name, "a.nhs.uk", "p.nhs.uk")
	const server, client = ServerAuth, ClientAuth
	tests := map[string]struct {
		leaf    []testpki.Option
		peers   Peers
		purpose Purpose
		fromCN  bool
		want    Reason // "": accepted with name
		source  pki.NameSource
	}{
		"SAN":                     {san(name), one, server, false, "", pki.NameFromSAN},
		"second SAN":              {san("x.nhs.uk", name), one, client, false, "", pki.NameFromSAN},
		"one of several":          {san(name), several, client, false, "", pki.NameFromSAN},
		"case in the certificate": {san("PCS.ThirdParty.nhs.uk"), one, server, false, "", pki.NameFromSAN},
		"case in the policy":      {san(name), Names("PCS.thirdparty.NHS.uk"), server, false, "", pki.NameFromSAN},
		"dot in the certificate":  {san(name + "."), one, server, false, "", pki.NameFromSAN},
		"dot in the policy":       {san(name), Names(name + "."), server, false, "", pki.NameFromSAN},
		"CN":                      {cn(name), one, server, true, "", pki.NameFromCN},
		"CN in capitals":          {cn("PCS.THIRDPARTY.NHS.UK."), one, server, true, "", pki.NameFromCN},

		"CN where it does not count":   {cn(name), one, server, false, NameMismatch, ""},
		"CN of a client":               {cn(name), one, client, false, NotListed, ""},
		"CN beside another SAN":        {append(san("x.nhs.uk"), testpki.Name(name)), one, server, true, NameMismatch, ""},
		"CN beside an address":         {[]testpki.Option{testpki.Name(name), testpki.IP(net.IPv4(10, 0, 0, 1))}, one, server, true, NameMismatch, ""},
		"CN beside a mail address":     {[]testpki.Option{testpki.Name(name), testpki.Email("a@nhs.uk")}, one, server, true, NameMismatch, ""},
		"CN beside an empty SAN":       {append(cn(name), emptySAN), one, server, true, NameMismatch, ""},
		"two CNs":                      {[]testpki.Option{testpki.Subject(twoCNs), testpki.NoSAN()}, one, server, true, NameMismatch, ""},
		"CN with NUL":                  {cn(name + "\x00.evil.uk"), one, server, true, NameMismatch, ""},
		"CN with a control character":  {cn(name + "\n"), one, server, true, NameMismatch, ""},
		"CN with a space":              {cn(" " + name), one, server, true, NameMismatch, ""},
		"CN that looks alike":          {cn("pсs.thirdparty.nhs.uk"), one, server, true, NameMismatch, ""}, // a Cyrillic s
		"CN with Kelvin sign":          {cn("nhs.u\u212a"), Names("nhs.uk"), server, true, NameMismatch, ""},
		"SAN that looks alike":         {san("xn--ps-vlc.thirdparty.nhs.uk"), one, server, false, NameMismatch, ""},
		"wildcard":                     {san("*.thirdparty.nhs.uk"), one, server, false, NameMismatch, ""},
		"wildcard CN":                  {cn("*.thirdparty.nhs.uk"), one, server, true, NameMismatch, ""},
		"wildcard in the policy":       {san(name), Names("*.thirdparty.nhs.uk"), server, false, NameMismatch, ""},
		"wildcard in both":             {san("*.thirdparty.nhs.uk"), Names("*.thirdparty.nhs.uk"), server, false, NameMismatch, ""},
		"star is no AnyName":           {san(name), Names("*"), client, false, NotListed, ""},
		"parent":                       {san("thirdparty.nhs.uk"), one, server, false, NameMismatch, ""},
		"child":                        {san("x." + name), one, server, false, NameMismatch, ""},
		"suffix":                       {san("x" + name), one, client, false, NotListed, ""},
		"client not listed":            {san("x.nhs.uk"), several, client, false, NotListed, ""},
		"server not expected":          {san("x.nhs.uk"), one, server, false, NameMismatch, ""},
		"either purpose":               {san("x.nhs.uk"), one, AnyPurpose, false, NameMismatch, ""},
		"nobody, client":               {san(name), Peers{}, client, false, NotListed, ""},
		"nobody, server":               {san(name), Names(), server, false, NameMismatch, ""},
		"empty name":                   {[]testpki.Option{testpki.Subject(pkix.Name{Organization: []string{"nhs"}}), testpki.NoSAN()}, Names("", "."), server, true, NameMismatch, ""},
		"no name at all, name wanted":  {[]testpki.Option{testpki.Subject(pkix.Name{Organization: []string{"nhs"}}), testpki.NoSAN()}, one, server, true, NameMismatch, ""},
		"the same name, cut by policy": {san(name), Names(name[:len(name)-1]), server, false, NameMismatch, ""},
	}
	for label, tt := range tests {
		t.Run(label, func(t *testing.T) {
			s := stateOf(t, StateConfig{}, root.Cert)
			v, err := s.Verify(sent(root.Issue(t, tt.leaf...)), Request{Purpose: tt.purpose, Peers: tt.peers, NameFromCN: tt.fromCN, Now: now})
			if tt.want != "" {
				e := wantRefusal(t, v, err, tt.want)
				if strings.ContainsAny(e.Error(), "\x00\n") {
					t.Errorf("control characters in %q", e.Error())
				}
				return
			}
			if err != nil || v.Name != name || v.NameSource != tt.source {
				t.Errorf("name %q from %q, error %v", v.Name, v.NameSource, err)
			}
		})
	}
}

func TestAnyName(t *testing.T) {
	root := testpki.NewRoot(t)
	tests := map[string]struct {
		leaf   []testpki.Option
		fromCN bool
		name   string
		source pki.NameSource
	}{
		"SAN":         {[]testpki.Option{testpki.DNS("a.nhs.uk", "b.nhs.uk")}, false, "a.nhs.uk", pki.NameFromSAN},
		"CN":          {[]testpki.Option{testpki.Name("a.nhs.uk"), testpki.NoSAN()}, true, "a.nhs.uk", pki.NameFromCN},
		"CN, ignored": {[]testpki.Option{testpki.Name("a.nhs.uk"), testpki.NoSAN()}, false, "", pki.NameNone},
		"none":        {[]testpki.Option{testpki.Name("not a host"), testpki.NoSAN()}, true, "", pki.NameNone},
	}
	for label, tt := range tests {
		s := stateOf(t, StateConfig{NameFromCN: tt.fromCN}, root.Cert)
		v, err := s.Verify(sent(root.Issue(t, tt.leaf...)), Request{Peers: AnyName(), Now: second()})
		if err != nil || v.Name != tt.name || v.NameSource != tt.source {
			t.Errorf("%s: name %q from %q, error %v", label, v.Name, v.NameSource, err)
		}
	}
}

func TestPins(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	leaf := root.Issue(t, testpki.DNS("a.nhs.uk"))
	pin, other := pki.KeyFingerprint(leaf.Cert.PublicKey), pki.KeyFingerprint(root.Cert.PublicKey)
	colons := strings.ToUpper(pin[:2] + ":" + pin[2:])
	tests := map[string]struct {
		peers Peers
		pins  []string
		want  Reason
	}{
		"pinned":             {Names("a.nhs.uk"), []string{pin}, ""},
		"one of two":         {Names("a.nhs.uk"), []string{other, colons}, ""},
		"any name, pinned":   {AnyName(), []string{pin}, ""},
		"other key":          {Names("a.nhs.uk"), []string{other}, NotListed},
		"any name other key": {AnyName(), []string{other}, NotListed},
		"name still counts":  {Names("b.nhs.uk"), []string{pin}, NameMismatch},
		"pin is no name":     {Peers{}, []string{pin}, NameMismatch},
		"no pins":            {Names("a.nhs.uk"), nil, ""},
	}
	for label, tt := range tests {
		t.Run(label, func(t *testing.T) {
			p, err := tt.peers.WithPins(tt.pins...)
			if err != nil {
				t.Fatal(err)
			}
			v, err := stateOf(t, StateConfig{}, root.Cert).Verify(sent(leaf), Request{Peers: p, Now: now})
			if tt.want != "" {
				wantRefusal(t, v, err, tt.want)
			} else if err != nil || v.Name != "a.nhs.uk" {
				t.Errorf("name %q, error %v", v.Name, err)
			}
		})
	}
	for _, bad := range []string{"", "00", pin[:63], pin + "00", "x" + pin[1:]} {
		if p, err := AnyName().WithPins(bad); err == nil || !p.Empty() {
			t.Errorf("pin %q is accepted, or gives a policy that accepts somebody", bad)
		}
	}
}

func TestPeersEmpty(t *testing.T) {
	for label, tt := range map[string]struct {
		peers Peers
		want  bool
	}{
		"zero": {Peers{}, true}, "no names": {Names(), true}, "empty names": {Names("", "."), true},
		"a name": {Names("a"), false}, "any": {AnyName(), false},
	} {
		if tt.peers.Empty() != tt.want {
			t.Errorf("%s: Empty is %v", label, !tt.want)
		}
	}
}

// Names are judged before revocation: an unlisted peer must not be able to make
// anybody look for its CRL.
func TestNamesComeBeforeRevocation(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	leaf := root.Issue(t, testpki.DNS("a.nhs.uk"), testpki.CDP("http://crl.test/1.crl"))
	revoked := readCRL1(t, root, "root.crl", testpki.Revoke(leaf.Cert.SerialNumber))
	for label, crls := range map[string][]*CRL{"revoked": {revoked}, "no CRL": nil} {
		s := stateOf(t, StateConfig{CRLs: crls, Revocation: Require}, root.Cert)
		v, err := s.Verify(sent(leaf), Request{Purpose: ClientAuth, Peers: Names("b.nhs.uk"), Now: now})
		if e := wantRefusal(t, v, err, NotListed); e.Addresses != nil {
			t.Errorf("%s: an unlisted peer names addresses %q", label, e.Addresses)
		}
	}
}
