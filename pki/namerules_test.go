package pki_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/pki"
)

// rules returns the rules that an error of CheckName joins.
func rules(err error) []string {
	var out []string
	var one *pki.NameError
	switch e := err.(type) {
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			out = append(out, rules(inner)...)
		}
		return out
	default:
		if errors.As(err, &one) {
			return []string{one.Rule}
		}
		return []string{"not a NameError: " + err.Error()}
	}
}

func TestCheckName(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	long := label63 + "." + label63 + "." + label63 + "." + strings.Repeat("b", 54) + ".nhs.uk" // 253
	for _, tc := range []struct {
		name string
		want []string
	}{
		{"pcs.thirdparty.nhs.uk", nil},
		{"bars-int-t99999.supplier.thirdparty.nhs.uk", nil},
		{"t99999ot001.t99999.api.mesh-client.nhs.uk", nil},
		{"1.nhs.uk", nil},
		{label63 + ".nhs.uk", nil},
		{long, nil},
		{"", []string{"empty"}},
		{"192.0.2.1", []string{"address"}},
		{"2001:db8::1", []string{"address"}},
		{"[2001:db8::1]", []string{"address"}},
		{"*.thirdparty.nhs.uk", []string{"wildcard"}},
		{"p*.thirdparty.nhs.uk", []string{"wildcard"}},
		{"*", []string{"wildcard", "domain"}},
		{"under_score.nhs.uk", []string{"underscore"}},
		{"BaRS-INT-T99999.Supplier.thirdparty.nhs.uk", []string{"case"}},
		{"PCS.THIRDPARTY.NHS.UK", []string{"case"}},
		{"p cs.nhs.uk", []string{"characters"}},
		{"pcs.nhs.uk\n", []string{"characters", "domain"}},
		{"pcs\x00.nhs.uk", []string{"characters"}},
		{"\u017fpcs.nhs.uk", []string{"characters"}},
		{"../pcs.nhs.uk", []string{"characters", "label"}},
		{"me@pcs.nhs.uk", []string{"characters"}},
		{"https://pcs.nhs.uk", []string{"characters"}},
		{"pcs..nhs.uk", []string{"label"}},
		{".nhs.uk", []string{"label", "domain"}},
		{"pcs.nhs.uk.", []string{"label"}},
		{label63 + "a.nhs.uk", []string{"label"}},
		{"a" + long, []string{"label", "length"}},
		{"b." + long, []string{"length"}},
		{"-pcs.nhs.uk", []string{"hyphen"}},
		{"pcs-.nhs.uk", []string{"hyphen"}},
		{"example.com", []string{"domain"}},
		{"nhs.uk", []string{"domain"}},
		{"pcs.xnhs.uk", []string{"domain"}},
		{"pcs.nhs.uk.example.com", []string{"domain"}},
		{"*_.example.com", []string{"wildcard", "underscore", "domain"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := pki.CheckName(tc.name)
			if diff := cmp.Diff(tc.want, rules(err)); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			if err != nil && pki.Hint(err) == "" {
				t.Error("no next action")
			}
		})
	}
}

func TestCheckCommonName(t *testing.T) {
	most := strings.Repeat("a", 57) + ".nhs.uk"
	if len(most) != 64 {
		t.Fatal(len(most))
	}
	if err := pki.CheckCommonName(most); err != nil {
		t.Errorf("64 characters: %v", err)
	}
	err := pki.CheckCommonName("a" + most)
	if diff := cmp.Diff([]string{"common-name"}, rules(err)); diff != "" {
		t.Errorf("65 characters (-want +got):\n%s", diff)
	}
	if err := pki.CheckName("a" + most); err != nil {
		t.Errorf("an alternative name of 65 characters: %v", err)
	}
}

// TestNameErrorSays has rule, source and next action in what an operator reads.
func TestNameErrorSays(t *testing.T) {
	err := pki.CheckName("under_score.nhs.uk")
	want := `judge name "under_score.nhs.uk": has an underscore (rule underscore: SPINE.md, section 4: labels a-z 0-9 and '-', no underscore)`
	if err.Error() != want {
		t.Errorf("error %q\nwant  %q", err, want)
	}
	if hint := pki.Hint(err); hint != "register a name with a hyphen in its place: under-score.nhs.uk" {
		t.Errorf("hint %q", hint)
	}
}

func FuzzCheckName(f *testing.F) {
	for _, seed := range []string{"pcs.thirdparty.nhs.uk", "*.nhs.uk", "a_b.nhs.uk", "1.2.3.4", "A.nhs.uk", "\xff.nhs.uk", "-.nhs.uk"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := pki.CheckCommonName(name)
		if err != nil {
			for _, rule := range rules(err) {
				if strings.HasPrefix(rule, "not a") {
					t.Error(rule)
				}
			}
			return
		}
		// What is accepted becomes a file name and a subject.
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || !strings.HasSuffix(name, ".nhs.uk") ||
			strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") || strings.Contains(name, "..") || len(name) > 64 {
			t.Errorf("%q was accepted", name)
		}
	})
}
