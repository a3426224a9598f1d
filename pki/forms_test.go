package pki

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestSharedForms reads the same chain from every form in which it may arrive.
func TestSharedForms(t *testing.T) {
	const dir = "../testdata/forms"
	want := map[string]bool{}
	for _, c := range mustParse(t, filepath.Join(dir, "chain.pem")) {
		want[c] = true
	}
	if len(want) != 3 {
		t.Fatalf("chain.pem holds %d certificates", len(want))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) {
			got := mustParse(t, filepath.Join(dir, e.Name()))
			if e.Name() == "leaf.cer" {
				if len(got) != 1 || !want[got[0]] {
					t.Errorf("got %q", got)
				}
				return
			}
			slices.Sort(got)
			if len(slices.Compact(got)) != len(want) {
				t.Fatalf("got %q", got)
			}
			for _, fingerprint := range got {
				if !want[fingerprint] {
					t.Errorf("a certificate that is not in the chain: %s", fingerprint)
				}
			}
		})
	}
}

func mustParse(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	var prints []string
	for _, c := range certs {
		prints = append(prints, Fingerprint(c))
	}
	return prints
}
