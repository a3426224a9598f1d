package packaging

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// copyTree copies the sources, without what git ignores.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir() && (name == ".git" || name == "bin" || name == "dist" || name == "man"):
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// made is what a release made, by the ends of the names, and the programs in it.
type made struct {
	paths    map[string]string
	programs string // their directory
}

// TestRelease makes a release twice, and looks into it.
func TestRelease(t *testing.T) {
	// Others may change the sources meanwhile.
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "a longer", "path")
	copyTree(t, root(t), one)
	copyTree(t, one, two)
	first := made{paths: makeOf(t, one, Version, "release")}
	if len(first.paths) != 5 {
		t.Fatalf("made: %v", first.paths)
	}
	t.Run("same bits", func(t *testing.T) {
		old := syscall.Umask(0o077)
		defer syscall.Umask(old)
		for name, value := range map[string]string{"TZ": "Pacific/Auckland", "LC_ALL": "C", "HOSTNAME": "elsewhere", "GOAMD64": "v3", "CGO_ENABLED": "1"} {
			t.Setenv(name, value)
		}
		second := makeOf(t, two, Version, "release")
		for name, path := range first.paths {
			if a, b := sum(t, path), sum(t, second[name]); a != b {
				t.Errorf("%s is %s the first time, and %s the second", name, a, b)
			}
		}
	})
	testprogram.Need(t, "dpkg-deb")
	unpacked := t.TempDir()
	output(t, "dpkg-deb", "--extract", first.paths[".deb"], unpacked)
	first.programs = filepath.Join(unpacked, "usr", "bin")
	for _, part := range []struct {
		name string
		run  func(*testing.T, made)
	}{{"lintian", testLintian}, {"contents", testContents}, {"sums", testSums}, {"SBOM", testSBOM}, {"size", testSize}} {
		t.Run(part.name, func(t *testing.T) { part.run(t, first) })
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

// testLintian: no error and no warning but those that are overridden with a reason.
func testLintian(t *testing.T, m made) {
	testprogram.Need(t, "lintian")
	out, err := exec.CommandContext(t.Context(), "lintian", "--allow-root", "--fail-on", "error,warning", m.paths[".deb"]).CombinedOutput()
	if err != nil {
		t.Errorf("lintian: %v\n%s", err, out)
	}
	overrides := text(t, "packaging/deb/lintian-overrides")
	reason := false
	for line := range strings.Lines(overrides) {
		if comment := strings.HasPrefix(line, "#"); !comment && !reason {
			t.Errorf("an override without a reason: %s", line)
		} else {
			reason = true
		}
	}
}

// only are the files that one of the packages has alone, and why.
var only = map[string]string{
	"/usr/share/doc/spinecert/copyright":           "Debian's form; the rpm has LICENSE",
	"/usr/share/doc/spinecert/changelog.Debian.gz": "Debian demands it",
	"/usr/share/lintian/overrides/spinecert":       "lintian is Debian's",
	"/usr/share/zsh/vendor-completions/_spinecert": "where Debian's zsh looks",
	"/usr/share/zsh/site-functions/_spinecert":     "where RHEL's zsh looks",
	"/usr/share/licenses/spinecert/LICENSE":        "where rpm has licenses",
	"/usr/share/licenses/spinecert":                "its directory",
}

// testContents: both packages have the same files, with the same owners and modes, and those that people rely on.
func testContents(t *testing.T, m made) {
	testprogram.Need(t, "rpm")
	inDeb, inRPM := contents(t, m)
	for name := range only {
		delete(inDeb, name)
		delete(inRPM, name)
	}
	// dpkg has every directory on the way, rpm those that are ours.
	for name, what := range inDeb {
		if _, ours := inRPM[name]; what[0] == 'd' && !ours {
			if strings.Contains(name, "spinecert") {
				t.Errorf("the rpm does not own the directory %s", name)
			}
			delete(inDeb, name)
		}
	}
	if diff := gocmp.Diff(inDeb, inRPM); diff != "" {
		t.Errorf("the deb (-) and the rpm (+) have different files:\n%s", diff)
	}
	for _, name := range []string{
		"/usr/bin/spinecertd", "/usr/bin/spinecert", "/usr/lib/systemd/system/spinecertd.service", "/usr/lib/systemd/system/spinecert-hook@.service",
		"/usr/lib/systemd/system/spinecert-check.service", "/usr/lib/systemd/system/spinecert-check.timer",
		"/usr/lib/sysusers.d/spinecert.conf", "/usr/lib/tmpfiles.d/spinecert.conf", "/etc/spinecert/spinecert.yaml.example", "/etc/spinecert/trust",
		"/usr/share/man/man8/spinecertd.8.gz", "/usr/share/man/man5/spinecert.yaml.5.gz", "/usr/share/man/man1/spinecert.1.gz",
		"/usr/share/bash-completion/completions/spinecert", "/usr/share/fish/vendor_completions.d/spinecert.fish",
		"/usr/share/doc/spinecert/install.md", "/usr/share/doc/spinecert/50-spinecert.rules.example", "/usr/share/doc/spinecert/spinecert-check-failed@.service.example", "/usr/share/doc/spinecert/CHANGELOG.md",
	} {
		what, ok := inDeb[name]
		want := "-rw-r--r-- root root"
		if strings.HasPrefix(name, "/usr/bin/") {
			want = "-rwxr-xr-x root root"
		}
		if name == "/etc/spinecert/trust" {
			want = "drwxr-xr-x root root"
		}
		if !ok || !strings.HasPrefix(what, want) {
			t.Errorf("%s is %q, want %s", name, what, want)
		}
	}
	units, err := filepath.Glob(filepath.Join(root(t), "systemd", "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range units {
		switch filepath.Ext(unit) {
		case ".service", ".timer", ".socket", ".target", ".path":
			if inDeb["/usr/lib/systemd/system/"+filepath.Base(unit)] == "" {
				t.Errorf("%s is not in the packages", filepath.Base(unit))
			}
		}
	}
	config := output(t, "rpm", "-qp", "--nosignature", "--configfiles", m.paths[".rpm"])
	conffiles := output(t, "dpkg-deb", "--info", m.paths[".deb"], "conffiles")
	if strings.TrimSpace(config) != "/etc/spinecert/spinecert.yaml.example" || strings.TrimSpace(conffiles) != strings.TrimSpace(config) {
		t.Errorf("configuration files: rpm %q, deb %q", config, conffiles)
	}
}

// contents returns "mode owner group size" of everything in the packages, by path. Of directories the size says nothing.
func contents(t *testing.T, m made) (inDeb, inRPM map[string]string) {
	t.Helper()
	inDeb, inRPM = map[string]string{}, map[string]string{}
	for line := range strings.Lines(output(t, "dpkg-deb", "--contents", m.paths[".deb"])) {
		f := strings.Fields(line) // mode owner/group size date time name
		note(inDeb, strings.TrimSuffix(strings.TrimPrefix(f[5], "."), "/"), f[0], strings.Replace(f[1], "/", " ", 1), f[2])
	}
	format := `[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILESIZES} %{FILENAMES}\n]`
	for line := range strings.Lines(output(t, "rpm", "-qp", "--nosignature", "--queryformat", format, m.paths[".rpm"])) {
		f := strings.Fields(line)
		note(inRPM, f[4], f[0], f[1]+" "+f[2], f[3])
	}
	return inDeb, inRPM
}

func note(into map[string]string, name, mode, owner, size string) {
	if mode[0] == 'd' {
		size = ""
	}
	into[name] = strings.TrimSpace(mode + " " + owner + " " + size)
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, said.Bytes())
	}
	return string(out)
}

func testSums(t *testing.T, m made) {
	cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = filepath.Dir(m.paths[""])
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), ": OK") != 4 {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
}

// maxDaemon is the promise, in bytes.
const maxDaemon = 16_000_000

func testSize(t *testing.T, m made) {
	info, err := os.Stat(filepath.Join(m.programs, "spinecertd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("spinecertd has %d bytes", info.Size())
	if info.Size() > maxDaemon {
		t.Errorf("spinecertd has %d bytes, more than %d", info.Size(), maxDaemon)
	}
}

// TestScripts: the scripts of the packages are what a plain shell reads.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(root(t), "packaging", "*", "p*"))
	if err != nil || len(scripts) < 6 {
		t.Fatalf("there are %d scripts: %v", len(scripts), err)
	}
	for _, script := range scripts {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("sh -n %s: %v\n%s", filepath.Base(script), err, out)
		}
		content, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(filepath.Dir(script)) == "deb" && !bytes.Contains(content, []byte("\nset -e\n")) {
			t.Errorf("%s goes on after an error", filepath.Base(script))
		}
	}
	testprogram.Need(t, "shellcheck")
	if out, err := exec.CommandContext(t.Context(), "shellcheck", slices.Concat([]string{"--severity=style"}, scripts)...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}
