package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/pki"
)

// The kinds of keys in the tag are those that pki makes, the default first.
func TestKeyKinds(t *testing.T) {
	field, _ := reflect.TypeFor[rawManaged]().FieldByName("Key")
	var want []string
	for _, kind := range pki.KeyKinds() {
		want = append(want, string(kind))
	}
	if diff := cmp.Diff(want, words(field.Tag, "enum")); diff != "" {
		t.Errorf("enum differs from pki.KeyKinds (-want +got):\n%s", diff)
	}
	if got := field.Tag.Get("default"); got != want[0] {
		t.Errorf("default %q, want %q", got, want[0])
	}
}

func TestManaged(t *testing.T) {
	c, err := Parse(read(t, "testdata/good_managed.yaml"), "/etc/f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defaults := &Managed{Key: "rsa-2048", Issuer: "manual", Prepare: 120 * 24 * time.Hour}
	for name, want := range map[string]*Managed{
		"defaults": defaults,
		"empty":    defaults,
		"all":      {Key: "rsa-4096", Issuer: "manual", SANs: []string{"other.thirdparty.nhs.uk", "mesh.x26.api.mesh-client.nhs.uk"}},
		"files":    nil,
	} {
		s, ok := c.Slot(name)
		if diff := cmp.Diff(want, s.Managed); diff != "" || !ok {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if managed := s.Files == (Files{}); managed != (want != nil) {
			t.Errorf("%s: files %+v", name, s.Files)
		}
	}
}

// What the names of a managed slot are refused for is said with the rule and its source, for each rule.
func TestManagedNames(t *testing.T) {
	for name, want := range map[string][]string{
		"":                      {"needs the name"},
		"*.thirdparty.nhs.uk":   {"wildcard", "SPINE.md, section 4"},
		"example.com":           {"rule domain"},
		"under_score.nhs.uk":    {"rule underscore"},
		"a..nhs.uk":             {"rule label", "RFC 1035"},
		"-a.nhs.uk":             {"rule hyphen", "RFC 1123"},
		"a.nhs.uk.":             {"rule label"},
		"_*.example.com":        {"rule wildcard", "rule underscore", "rule domain"},
		longName(65):            {"rule common-name", "RFC 5280"},
		longName(64):            nil,
		"PCS.thirdparty.nhs.uk": nil,
	} {
		_, err := Parse([]byte("environments: {live: {trust: [a]}}\nslots: {a: {managed: {}, fqdn: \""+name+"\"}}\n"), "f.yaml")
		if want == nil {
			if err != nil {
				t.Errorf("%q: %v", name, err)
			}
			continue
		}
		if err == nil || strings.Count(err.Error(), "\n") > 0 || slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(err.Error(), w) }) {
			t.Errorf("%q: %v, want one line with %q", name, err, want)
		}
	}
}

func longName(n int) string {
	const domain = ".a.nhs.uk"
	return strings.Repeat("a", n-len(domain)) + domain
}

// A slot with files may have any host name, and nothing kept on disk.
func TestFilesSlotIsNotHeldToRequestRules(t *testing.T) {
	const data = "environments: {live: {trust: [a]}}\nslots: {a: {fqdn: pcs.example.com, files: {pkcs12: a}}}\nstate: {keep_generations: 0}\n"
	if _, err := Parse([]byte(data), "f.yaml"); err != nil {
		t.Error(err)
	}
}
