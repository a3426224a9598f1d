package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every page is there, names its program, and is what man reads without complaint.
func TestPages(t *testing.T) {
	t.Chdir("../../..")
	dir := t.TempDir()
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	for page, want := range map[string]string{
		"man1/spinecert.1": "spinecert", "man1/spinecert-csr-new.1": "--fqdn", "man5/spinecert.yaml.5": "keep_generations", "man8/spinecertd.8": "SIGHUP",
	} {
		path := filepath.Join(dir, page)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.NewReplacer(`\-`, "-", `\_`, "_", `\&`, "").Replace(string(data)); !strings.Contains(text, want) {
			t.Errorf("%s has no %q", page, want)
		}
		if groff, err := exec.LookPath("groff"); err == nil {
			out, err := exec.Command(groff, "-t", "-man", "-Tutf8", "-wmac", "-z", path).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("groff %s: %v: %s", page, err, out)
			}
		}
	}
	if err := run(nil); err == nil {
		t.Error("no directory was taken")
	}
}
