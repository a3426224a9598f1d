package pki_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

func TestNames(t *testing.T) {
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	twoCNs := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: cn, Value: "a.nhs.uk"}, {Type: cn, Value: "b.nhs.uk"}}}
	onlyCN := func(name string) []testpki.Option {
		return []testpki.Option{testpki.Name(name), testpki.NoSAN()}
	}
	tests := map[string]struct {
		opts   []testpki.Option
		want   []string
		source pki.NameSource
	}{
		"san":              {[]testpki.Option{testpki.DNS("B.nhs.uk", "a.NHS.uk")}, []string{"b.nhs.uk", "a.nhs.uk"}, pki.NameFromSAN},
		"san beats cn":     {[]testpki.Option{testpki.Name("cn.nhs.uk"), testpki.DNS("san.nhs.uk")}, []string{"san.nhs.uk"}, pki.NameFromSAN},
		"san twice":        {[]testpki.Option{testpki.DNS("a.nhs.uk", "A.nhs.uk")}, []string{"a.nhs.uk"}, pki.NameFromSAN},
		"san wildcard":     {[]testpki.Option{testpki.DNS("*.nhs.uk")}, []string{"*.nhs.uk"}, pki.NameFromSAN},
		"san without dns":  {[]testpki.Option{testpki.Name("cn.nhs.uk"), testpki.IP(net.IPv4(10, 0, 0, 1))}, nil, pki.NameFromSAN},
		"san email":        {[]testpki.Option{testpki.Name("cn.nhs.uk"), testpki.Email("a@nhs.uk")}, nil, pki.NameFromSAN},
		"cn":               {onlyCN("CN.nhs.UK"), []string{"cn.nhs.uk"}, pki.NameFromCN},
		"cn dot":           {onlyCN("cn.nhs.uk."), []string{"cn.nhs.uk"}, pki.NameFromCN},
		"cn single label":  {onlyCN("localhost"), []string{"localhost"}, pki.NameFromCN},
		"cn digits":        {onlyCN("1a-2.3com"), []string{"1a-2.3com"}, pki.NameFromCN},
		"cn spaces":        {onlyCN("NHS Level 1C"), nil, pki.NameNone},
		"cn wildcard":      {onlyCN("*.nhs.uk"), nil, pki.NameNone},
		"cn underscore":    {onlyCN("a_b.nhs.uk"), nil, pki.NameNone},
		"cn address":       {onlyCN("10.0.0.1"), nil, pki.NameNone},
		"cn empty label":   {onlyCN("a..nhs.uk"), nil, pki.NameNone},
		"cn two dots":      {onlyCN("a.nhs.uk.."), nil, pki.NameNone},
		"cn hyphen":        {onlyCN("-a.nhs.uk"), nil, pki.NameNone},
		"cn hyphen behind": {onlyCN("a-.nhs.uk"), nil, pki.NameNone},
		"cn long label":    {onlyCN(strings.Repeat("a", 64) + ".nhs.uk"), nil, pki.NameNone},
		"cn unicode":       {onlyCN("ä.nhs.uk"), nil, pki.NameNone},
		"cn nul":           {onlyCN("a.nhs.uk\x00.evil.test"), nil, pki.NameNone},
		"cn twice":         {[]testpki.Option{testpki.Subject(twoCNs), testpki.NoSAN()}, nil, pki.NameNone},
		"cn none":          {[]testpki.Option{testpki.Subject(pkix.Name{Organization: []string{"nhs"}}), testpki.NoSAN()}, nil, pki.NameNone},
	}
	root := testpki.NewRoot(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			leaf := root.Issue(t, tt.opts...)
			got, source := pki.Names(leaf.Cert)
			if !slices.Equal(got, tt.want) || source != tt.source {
				t.Errorf("Names = %q from %q, want %q from %q", got, source, tt.want, tt.source)
			}
		})
	}
}
