package release

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// unitPatterns are the units among what is in systemd/.
var unitPatterns = []string{"*.service", "*.timer", "*.socket", "*.target", "*.path"}

// fill puts beside the programs all else that packaging/nfpm.yaml names.
func (b *Build) fill(ctx context.Context) error {
	for _, from := range [][2]string{ // below the root: what, and where to
		{"systemd/spinecert.sysusers", "sysusers.conf"},
		{"systemd/spinecert.tmpfiles", "tmpfiles.conf"},
		{"systemd/spinecert.yaml", "spinecert.yaml"},
		{"systemd/50-spinecert.rules.example", "doc/50-spinecert.rules.example"},
		{"systemd/spinecert-check-failed@.service.example", "doc/spinecert-check-failed@.service.example"},
		{"CHANGELOG.md", "doc/CHANGELOG.md"},
		{"LICENSE", "LICENSE"},
		{"packaging/nfpm.yaml", "nfpm.yaml"},
		{"packaging/deb/copyright", "copyright"},
		{"packaging/deb/lintian-overrides", "lintian-overrides"},
	} {
		if err := b.take(from[0], from[1]); err != nil {
			return err
		}
	}
	for _, tree := range []struct {
		from, to string
		patterns []string
	}{
		{"docs", "doc", []string{"*.md", "*.yml", "*.json", "*.png"}},
		{"systemd", "units", unitPatterns},
		{"packaging/deb", "deb", []string{"p*inst", "p*rm"}},
		{"packaging/rpm", "rpm", []string{"*.sh"}},
	} {
		if err := b.takeTree(tree.from, tree.to, tree.patterns); err != nil {
			return err
		}
	}
	if err := b.run(ctx, b.Root, nil, "go", "run", "-trimpath", "./internal/cli/man", filepath.Join(b.stage, "man")); err != nil {
		return err
	}
	if err := b.compress("man"); err != nil {
		return err
	}
	if err := b.completions(ctx); err != nil {
		return err
	}
	changelog, err := compressed([]byte(b.changelog()))
	if err != nil {
		return err
	}
	if err := b.put("changelog.Debian.gz", changelog); err != nil {
		return err
	}
	if err := b.notices(ctx); err != nil {
		return err
	}
	return b.settle()
}

// put writes a file of the stage.
func (b *Build) put(name string, data []byte) error {
	path := filepath.Join(b.stage, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// take copies a file of the sources.
func (b *Build) take(from, to string) error {
	data, err := os.ReadFile(filepath.Join(b.Root, from))
	if err != nil {
		return err
	}
	return b.put(to, data)
}

// takeTree copies the files below a directory whose names match.
func (b *Build) takeTree(from, to string, patterns []string) error {
	sources := os.DirFS(filepath.Join(b.Root, from))
	return fs.WalkDir(sources, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		fits := func(pattern string) bool {
			ok, _ := filepath.Match(pattern, entry.Name())
			return ok
		}
		if !slices.ContainsFunc(patterns, fits) {
			return nil
		}
		return b.take(filepath.Join(from, name), filepath.Join(to, name))
	})
}

// completions asks the command line for its completion scripts. What was built may
// be for another kind of machine.
func (b *Build) completions(ctx context.Context) error {
	program := b.Program("spinecert")
	if b.Arch != runtime.GOARCH {
		program = filepath.Join(b.stage, "host")
		if err := b.run(ctx, b.Root, nil, "go", "build", "-tags", tags, "-o", program, "./cmd/spinecert"); err != nil {
			return err
		}
		defer os.Remove(program)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := exec.CommandContext(ctx, program, "completion", shell).Output()
		if err != nil {
			return fmt.Errorf("make the completion script of %s: %w", shell, err)
		}
		if err := b.put("completions/"+shell, script); err != nil {
			return err
		}
	}
	return nil
}

// compress compresses all files below a directory of the stage.
func (b *Build) compress(dir string) error {
	return filepath.WalkDir(filepath.Join(b.stage, dir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if data, err = compressed(data); err != nil {
			return err
		}
		if err := os.WriteFile(path+".gz", data, 0o644); err != nil {
			return err
		}
		return os.Remove(path)
	})
}

// compressed is data as gzip -9n makes it: without name and time.
func compressed(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// maintainer is whom packages name.
const maintainer = "Spinecert <spinecert@users.noreply.github.com>"

// changelog is the one of the Debian package. What changed in the programs stands in
// CHANGELOG.md.
func (b *Build) changelog() string {
	return fmt.Sprintf("spinecert (%s-1) unstable; urgency=medium\n\n  * Built of %s.\n    What changed: /usr/share/doc/spinecert/CHANGELOG.md\n\n -- %s  %s\n",
		b.version, strings.TrimPrefix(b.Version, "v"), maintainer, b.At.UTC().Format(time.RFC1123Z))
}

// settle gives everything its mode and the time of the build, whatever the umask.
func (b *Build) settle() error {
	return filepath.WalkDir(b.stage, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if dir := filepath.Base(filepath.Dir(path)); entry.IsDir() || dir == "bin" || dir == "deb" || dir == "rpm" {
			mode = 0o755
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
		return os.Chtimes(path, b.At, b.At)
	})
}
