package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/lexer"
)

// Files that are small and would take a YAML library minutes, gigabytes or its stack.
func TestBombs(t *testing.T) {
	const size = maxFile / 16 // the lexer alone needs its time, and more with the race detector
	var names, nested, many strings.Builder
	names.WriteString("slots:\n")
	for i := range maxEntries + 1 {
		fmt.Fprintf(&names, "  s%d: {}\n", i)
	}
	for i := range 1000 {
		nested.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	for range 63_000 {
		many.WriteString("- [a]\n")
	}
	key := strings.Repeat("k", 20_000)
	for name, data := range map[string]string{
		"flow sequences":  strings.Repeat("[", size),
		"flow mappings":   strings.Repeat("{a: ", size/4),
		"closed":          strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
		"block sequences": strings.Repeat("- ", size/2),
		"block mappings":  nested.String(),
		"keys on a line":  strings.Repeat("a: ", size/3),
		"complex keys":    strings.Repeat("? ", size/2),
		"anchors":         strings.Repeat("&a ", size/3),
		"tags":            strings.Repeat("!a ", size/3),
		"entries":         names.String(),
		"equal entries":   strings.Repeat("a:\n", size/3),
		"flow entries":    "{" + strings.Repeat("a: b,", maxEntries+1) + "}",
		"words":           many.String(),
		"long key":        key + ": {a: " + key + ", b: c}\n",
		"laughs":          "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(data), "bomb.yaml")
			if problems, ok := errors.AsType[Problems](err); !ok || len(problems) != 1 {
				t.Errorf("Parse: %.200v, want one problem", err)
			}
		})
	}
}

// 10,000 slots are what one daemon is made for: they are within the bounds. Fewer are enough to see them
// bound in order.
func TestTenThousandSlots(t *testing.T) {
	slots := func(n int) []byte {
		var b strings.Builder
		b.WriteString("environments: {live: {trust: [live.pem]}}\nslots:\n")
		for i := range n {
			fmt.Fprintf(&b, "  s%d: {fqdn: s%d.nhs.uk, files: {certificate: s/%d.crt, key: s/%d.key}}\n", i, i, i, i)
		}
		return []byte(b.String())
	}
	many := slots(10_000)
	if problem := readable(many); problem != nil {
		t.Error(problem)
	}
	if _, problem := inspect(lexer.Tokenize(string(many))); problem != nil {
		t.Error(problem)
	}
	c, err := Parse(slots(1000), "/etc/f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Slots) != 1000 || c.Slots[999].Name != "s999" {
		t.Errorf("%d slots", len(c.Slots))
	}
}

func TestManyProblemsAreCut(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	_, err := Parse([]byte(b.String()), "f.yaml")
	problems, _ := errors.AsType[Problems](err)
	if len(problems) != maxProblems+1 || !strings.Contains(problems[maxProblems].Message, "more problems") {
		t.Errorf("%d problems, last %v", len(problems), problems[len(problems)-1])
	}
}

func TestDefaultSuites(t *testing.T) {
	for profile, want := range map[string][]uint16{
		"nhs-g1":  {tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		"nhs-g2":  {tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		"private": {tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	} {
		data := strings.Replace(string(read(t, "testdata/good_contract.yaml")), "profile: nhs-g2", "profile: "+profile, 1)
		c, err := Parse([]byte(data), "/etc/f.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Tunnels[0].TLS.CipherSuites; !slices.Equal(got, want) {
			t.Errorf("%s: %x, want %x", profile, got, want)
		}
	}
}

// The names that Go gives to the suites are the ones accepted here.
func TestSuiteNames(t *testing.T) {
	for _, s := range suites() {
		if got := tls.CipherSuiteName(s.id); got != s.iana {
			t.Errorf("%#x is %s, not %s", s.id, got, s.iana)
		}
	}
}
