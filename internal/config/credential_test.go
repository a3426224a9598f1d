package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCredentials: each is named once, with all that it is for.
func TestCredentials(t *testing.T) {
	c, err := Parse(read(t, "testdata/good_credentials.yaml"), "/etc/spinecert/spinecert.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const dir = "/run/credentials/spinecertd.service/"
	want := []Credential{
		{"java.password", dir + "java.password", []string{"the password of service java"}},
		{"live.pem", dir + "live.pem", []string{"the trust of environment live"}},
		{"p12.password", dir + "p12.password", []string{"the password of slot p12"}},
		{"pcs chain", dir + "pcs chain", []string{"the chain of slot pcs"}},
		{"pcs.crt", dir + "pcs.crt", []string{"the certificate of slot pcs", "the certificate of slot same"}},
		{"pcs.key", dir + "pcs.key", []string{"the key of slot pcs", "the key of slot same"}},
		{"sub.crl", dir + "sub.crl", []string{"the CRLs of environment live"}},
	}
	if diff := cmp.Diff(want, c.Credentials()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := SourceLabel(dir + "pcs.key"); got != "credential:pcs.key" {
		t.Errorf("SourceLabel = %q", got)
	}
	if got := SourceLabel("/etc/pcs.key"); got != "/etc/pcs.key" {
		t.Errorf("SourceLabel = %q", got)
	}
}

// TestCredentialsDirectory: in its unit the daemon is told where they are, and the words of the unit of another count for nothing.
func TestCredentialsDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "spinecert.yaml")
	text := "environments: {live: {profile: private, trust: [\"credential:live.pem\", \"" + dir + "/other.pem\"], revocation: \"off\"}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, variable, want string }{
		{"in the unit", dir, dir + "/live.pem"},
		{"elsewhere", "", "/run/credentials/spinecertd.service/live.pem"},
		{"no path", "relative", "/run/credentials/spinecertd.service/live.pem"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", tc.variable)
			c, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Environments[0].Trust[0]; got != tc.want {
				t.Errorf("Trust = %q, want %q", got, tc.want)
			}
			literal := false
			for _, w := range c.Warnings() {
				literal = literal || strings.Contains(w.Error(), "lies among the credentials of a unit")
			}
			if literal != (tc.variable == dir) {
				t.Errorf("a path below the directory of credentials: warned %v, %v", literal, c.Warnings())
			}
		})
	}
}
