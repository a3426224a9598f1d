package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/format"
	"github.com/spinecert/spinecert/internal/testpki"
)

// TestNoKeyToTerminal: what holds a private key is refused on a terminal, which a
// new pseudo-terminal is, before any file is read.
func TestNoKeyToTerminal(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	defer tty.Close()
	need(t, isTerminal(tty), "a pseudo-terminal that says it is one")
	leaf := testpki.NewRoot(t).SubCA(t).Issue(t)
	dir := t.TempDir()
	in, password := filepath.Join(dir, "all.pem"), filepath.Join(dir, "password")
	testpki.WriteFile(t, in, append(leaf.FullChainPEM(), leaf.KeyPEM()...), 0o600)
	testpki.WriteFile(t, password, []byte("word\n"), 0o600)
	for _, f := range format.Formats() {
		if len(f.Beside) > 0 { // goes to no standard output at all
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			args := []string{"export", "--in", in, "--format", f.Name, "--to", "-", "--password-file", password}
			var out, errs bytes.Buffer
			if !f.Password && f.Needs != format.CRLs { // the scripts write those, which takes its time
				if exit := Main(context.Background(), "test", args, strings.NewReader(""), &out, &errs); exit != exitDone {
					t.Fatalf("to a pipe: exit %d, %s", exit, errs.String())
				}
			}
			if private := bytes.Contains(out.Bytes(), []byte("PRIVATE KEY")); private && !f.Private {
				t.Error("a private key in a format that is said to have none")
			}
			if !f.Private {
				return
			}
			errs.Reset()
			exit := Main(context.Background(), "test", args, strings.NewReader(""), tty, &errs)
			if exit != exitUsage || !strings.Contains(errs.String(), "does not go to a terminal") {
				t.Errorf("to a terminal: exit %d, %s", exit, errs.String())
			}
		})
	}
}

// TestExportPaths: of ldaprc nothing is written where a path would be read as another
// one, or as a setting.
func TestExportPaths(t *testing.T) {
	t.Parallel()
	root := testpki.NewRoot(t)
	leaf := root.SubCA(t).Issue(t)
	in := filepath.Join(t.TempDir(), "all.pem")
	testpki.WriteFile(t, in, append(append(leaf.FullChainPEM(), root.CertPEM()...), leaf.KeyPEM()...), 0o600)
	for name, refused := range map[string]bool{"a\nTLS_REQCERT never": true, "a\tb": true, "a b": false} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		exit, out, errs := run(t, "export", "--in", in, "--format", "ldaprc", "--to", filepath.Join(dir, "ldaprc"))
		there, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case !refused && (exit != exitDone || len(there) != 4):
			t.Errorf("%q: exit %d, %s%s", name, exit, out, errs)
		case refused && (exit != exitUsage || len(there) != 0 || !strings.Contains(errs, "control characters") || !strings.Contains(errs, "hint: use another directory")):
			t.Errorf("%q: exit %d, %d files, %s%s", name, exit, len(there), out, errs)
		}
	}
}

// TestExportRecords: what is told of a file is what is in it.
func TestExportRecords(t *testing.T) {
	t.Parallel()
	root := testpki.NewRoot(t, testpki.Name("Root"))
	sub := root.SubCA(t, testpki.Name("Sub"))
	leaf, direct := sub.Issue(t, testpki.DNS("leaf.nhs.uk")), root.Issue(t, testpki.DNS("direct.nhs.uk"))
	dir := t.TempDir()
	put := func(name string, parts ...[]byte) string {
		testpki.WriteFile(t, filepath.Join(dir, name), bytes.Join(parts, nil), 0o600)
		return filepath.Join(dir, name)
	}
	all, alone := put("all", leaf.FullChainPEM(), root.CertPEM(), leaf.KeyPEM()), put("direct", direct.CertPEM(), root.CertPEM(), direct.KeyPEM())
	for name, want := range map[string]string{
		"cert": "leaf.nhs.uk", "der": "leaf.nhs.uk", "chain": "Sub", "fullchain": "leaf.nhs.uk Sub", "key": "", "combined": "leaf.nhs.uk Sub", "trust-pem": "Sub Root", "ldaprc": "leaf.nhs.uk Sub",
	} {
		o := &exportOptions{files: []string{all}, format: name, to: filepath.Join(t.TempDir(), "ldaprc")}
		r, err := runExport(t.Context(), o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var told []string
		for _, c := range r.Certificates {
			told = append(told, strings.TrimPrefix(c, "CN="))
		}
		if got := strings.Join(told, " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	exit, out, errs := run(t, "export", "--in", alone, "--format", "chain", "--to", "-")
	if exit != exitJudged || out != "" || !strings.Contains(errs, "there is no subCA: a root issued the certificate itself") || !strings.Contains(errs, "hint: use fullchain") {
		t.Errorf("chain of a certificate of a root: exit %d, %s%s", exit, out, errs)
	}
	if exit, out, errs := run(t, "export", "--in", alone, "--format", "fullchain", "--to", "-"); exit != exitDone || out != string(direct.CertPEM()) {
		t.Errorf("fullchain of a certificate of a root: exit %d, %s%s", exit, out, errs)
	}
}
