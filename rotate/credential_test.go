package rotate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCredentialName(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/opt/credentials/")
	for path, want := range map[string]string{
		"/opt/credentials/pcs.key":                      "pcs.key",
		"/run/credentials/spinecertd.service/pcs.key":   "pcs.key",
		"/run/credentials/spinecertd.service//pcs.key":  "pcs.key",
		"/opt/credentials/sub/pcs.key":                  "",
		"/opt/credentials":                              "",
		"/run/credentials/pcs.key":                      "",
		"/run/credentials/spinecertd.service/a/pcs.key": "",
		"/etc/pcs.key":                                  "",
	} {
		if got, ok := CredentialName(path); got != want || ok != (want != "") {
			t.Errorf("CredentialName(%q) = %q, %v", path, got, ok)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if name, ok := CredentialName("pcs.key"); ok {
		t.Errorf("a relative path is the credential %q", name)
	}
}

// TestCredential: what is wrong with a credential is said of its name, with what puts it there.
func TestCredential(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name, directory, file, content string
		want, hint                     string
	}{
		{"missing", dir, "pcs.key", "", `read credential "pcs.key": no such file or directory`, "put its source in place; LoadCredential=pcs.key:/path in a drop-in of spinecertd.service names it"},
		{"its source is missing", dir, "pcs.key", "(missing)", `read credential "pcs.key": file does not exist`, "put its source in place"},
		{"no credentials at all", "/run/credentials/none.service", "pcs.key", "", `read credential "pcs.key": no such file or directory`, "put its source in place"},
		{"a file of that content", "", "pcs.key", "(missing)", "", ""},
		{"a file that is missing", "", "pcs.crt", "", `/pcs.crt": no such file or directory`, "it is picked up by itself"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", tc.directory)
			path := filepath.Join(tc.directory, tc.file)
			if tc.directory == "" {
				path = filepath.Join(t.TempDir(), tc.file)
			}
			if tc.content != "" {
				if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := readAll([]string{path}, maxFile)
			if tc.want == "" {
				if err != nil {
					t.Errorf("readAll: %v", err)
				}
				return
			}
			var r *Refusal
			if !errors.As(err, &r) || !r.Pending {
				t.Fatalf("readAll = %v, want a refusal that is pending", err)
			}
			if !strings.HasSuffix(r.Error(), tc.want) || !strings.Contains(r.Hint(), tc.hint) {
				t.Errorf("readAll = %q, hint %q; want %q, %q", r, r.Hint(), tc.want, tc.hint)
			}
		})
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if hint := CredentialAdvice("pcs.key", os.ErrNotExist); !strings.HasPrefix(hint, "only the daemon in its unit, and root") {
		t.Errorf("outside of the unit: %q", hint)
	}
	if got := label("/run/credentials/spinecertd.service/pcs.key"); got != "credential:pcs.key" {
		t.Errorf("label = %q", got)
	}
}
