package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nhsFiles is where the real certificates are (SPINE.md, 3), beside the repository.
func nhsFiles(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "spine", "ca")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the real NHS certificates are not beside the repository: %v", err)
	}
	return dir
}

func TestVerifyNHS(t *testing.T) {
	dir := nhsFiles(t)
	const live, in = "leaf-g1-live-bars-proxy.pem", "leaf-g1-int-api.pem"
	const liveName, intName = "bars-proxy.spineservices.nhs.uk", "int.api.service.nhs.uk"
	tests := []struct {
		name, bundle, leaf, at, expect string
		want                           []string // accepted, or any of these reasons
		environment                    string
	}{
		{"live accepted by CN", "live-bundle.pem", live, "2023-06-01", liveName, []string{verdictAccepted}, "live"},
		{"live without a date is expired", "live-bundle.pem", live, "", liveName, []string{"expired"}, ""},
		{"live against INT", "int-bundle.pem", live, "2023-06-01", liveName, []string{"wrong_environment", "unknown_issuer"}, ""},
		{"live against DEP", "dep-bundle.pem", live, "2023-06-01", liveName, []string{"wrong_environment", "unknown_issuer"}, ""},
		{"live by another name", "live-bundle.pem", live, "2023-06-01", "other.spineservices.nhs.uk", []string{"name_mismatch"}, ""},
		{"live too early", "live-bundle.pem", live, "2022-01-01", liveName, []string{"not_yet_valid"}, ""},
		{"INT accepted by CN", "int-bundle.pem", in, "2023-06-01", intName, []string{verdictAccepted}, "int"},
		{"INT without a date is expired", "int-bundle.pem", in, "", intName, []string{"expired"}, ""},
		{"INT against live", "live-bundle.pem", in, "2023-06-01", intName, []string{"wrong_environment", "unknown_issuer"}, ""},
		{"INT against DEP, which shares its root", "dep-bundle.pem", in, "2023-06-01", intName, []string{"wrong_environment", "unknown_issuer"}, ""},
		{"INT by another name", "int-bundle.pem", in, "2023-06-01", liveName, []string{"name_mismatch"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"--trust", filepath.Join(dir, tt.bundle), "--name", tt.expect, filepath.Join(dir, tt.leaf)}
			if tt.at != "" {
				args = append(args, "--at", tt.at)
			}
			exit, r, fault := verifyJSON(t, args...)
			if tt.want[0] == verdictAccepted {
				if exit != exitDone || r.Verdict != verdictAccepted || r.Name.Source != "cn" || r.Name.Value != tt.expect || r.Revocation != notChecked {
					t.Errorf("exit %d, %+v", exit, r)
				}
				if r.Environment != tt.environment || len(r.Chain) != 3 {
					t.Errorf("environment %q, chain %v", r.Environment, r.Chain)
				}
				_, out, _ := run(t, append([]string{"verify"}, args...)...)
				if !strings.HasPrefix(out, "accepted\n") || !strings.Contains(out, "by CN") {
					t.Errorf("does not say that the CN was used:\n%s", out)
				}
				return
			}
			if exit != exitJudged || r.Verdict != verdictRefused || !strings.Contains(strings.Join(tt.want, " "), r.Reason) || r.Reason != fault.Code || fault.Hint == "" {
				t.Errorf("exit %d, %+v, %+v, want %v", exit, r, fault, tt.want)
			}
		})
	}
}

func TestInspectNHS(t *testing.T) {
	dir, err := filepath.Abs(nhsFiles(t))
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"live-bundle", "int-bundle", "dep-bundle", "leaf-g1-int-api"} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(dir)
			r, err := runInspect(context.Background(), &inspectOptions{files: []string{name + ".pem"}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)})
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(here)
			golden(t, "inspect-"+name+".txt", text(r))
			for _, c := range r.Files[0].Certificates {
				if c.Role != roleLeaf && c.Known == nil {
					t.Errorf("%s is not known", c.Subject)
				}
			}
		})
	}
}
