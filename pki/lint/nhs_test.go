package lint_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/pki/lint"
)

// TestNHS: no certificate that the NHS published breaks a rule that is an error,
// and which others they break is known.
func TestNHS(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "spine", "ca")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the real NHS certificates are not beside the repository: %v", err)
	}
	known := map[string][]string{
		"NHS Root Authority":              {"ca-basic-constraints-critical"},
		"NHS Level 1C":                    {"ca-path-length"},
		"NHS PTL Root Authority":          {"ca-basic-constraints-critical"},
		"NHS INT Level 1C":                {"ca-basic-constraints-critical", "ca-path-length"},
		"NHS DEP Level 1C":                {"ca-basic-constraints-critical", "ca-path-length"},
		"int.api.service.nhs.uk":          {"san-missing"},
		"bars-proxy.spineservices.nhs.uk": {"san-missing"},
	} // those of G2 break none
	paths, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil || len(paths) < 5 {
		t.Fatalf("only %d files: %v", len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		certs, err := pki.ParseCertificates(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range certs {
			name := c.Subject.CommonName
			findings := lint.Certificate(c)
			for _, f := range findings {
				if f.Rule.Severity != lint.Info {
					t.Errorf("%s: %s: %s", filepath.Base(path), name, f)
				}
			}
			want := known[name]
			if got := ids(findings); !slices.Equal(got, want) {
				t.Errorf("%s: %q: %q, want %q", filepath.Base(path), name, got, want)
			}
		}
	}
}

func ids(findings []lint.Finding) []string {
	var out []string
	for _, f := range findings {
		out = append(out, f.Rule.ID)
	}
	return out
}
