package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// nfpm makes packages. Through the module proxy, pinned, and not in go.mod, to which
// it would add a hundred modules.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0"

// tags are those of every program that is handed out: nothing here speaks HTTP/2, which
// would be half a megabyte of each.
const tags = "nethttpomithttp2"

// programs are what is built and handed out.
var programs = []string{"spinecert", "spinecertd"}

// Build is one set of sources, built.
type Build struct {
	Root    string    // of the sources
	Version string    // what the programs call themselves, as git describes it
	At      time.Time // of every file that is made: the time of the last commit
	Arch    string    // as Go calls it

	stage   string
	version string // of packages
}

// New builds the programs, and stages all that is put into packages in a directory
// below temporary, which is the caller's to remove.
func New(ctx context.Context, b Build, temporary string) (*Build, error) {
	var err error
	if b.version, err = PackageVersion(b.Version, b.At); err != nil {
		return nil, err
	}
	if b.Root, err = filepath.Abs(b.Root); err != nil {
		return nil, err
	}
	if b.stage, err = os.MkdirTemp(temporary, "stage-"); err != nil {
		return nil, err
	}
	if err := b.compile(ctx); err != nil {
		return nil, err
	}
	return &b, b.fill(ctx)
}

// Program returns the path of a program that was built.
func (b *Build) Program(name string) string { return filepath.Join(b.stage, "bin", name) }

// compile builds the programs.
func (b *Build) compile(ctx context.Context) error {
	args := []string{"build", "-tags", tags, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=" + b.Version, "-o", filepath.Join(b.stage, "bin") + "/"}
	for _, name := range programs {
		args = append(args, "./cmd/"+name)
	}
	return b.run(ctx, b.Root, b.target(), "go", args...)
}

// target is the environment that programs are built in: what decides on their bits
// is set, not inherited.
func (b *Build) target() []string {
	return []string{"GOOS=linux", "GOARCH=" + b.Arch, "GOARM64=v8.0"}
}

// run runs a program in a directory. What it prints is part of the error.
func (b *Build) run(ctx context.Context, dir string, environment []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = slices.Concat(os.Environ(), []string{
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(b.At.Unix(), 10), "TZ=UTC", "LC_ALL=C.UTF-8", "CGO_ENABLED=0", "GOEXPERIMENT=", "GOAMD64=v1",
	}, environment)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s %s: %w\n%s", name, args[0], err, out.Bytes())
	}
	return nil
}

// Deb makes the package for Debian and returns its path, below out.
func (b *Build) Deb(ctx context.Context, out string) (string, error) {
	return b.pack(ctx, "deb", filepath.Join(out, fmt.Sprintf("spinecert_%s-1_%s.deb", b.version, b.Arch)))
}

// RPM makes the package for RHEL and its kin and returns its path, below out.
func (b *Build) RPM(ctx context.Context, out string) (string, error) {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[b.Arch]
	if arch == "" {
		arch = b.Arch
	}
	return b.pack(ctx, "rpm", filepath.Join(out, fmt.Sprintf("spinecert-%s-1.%s.rpm", b.version, arch)))
}

// pack has nfpm make a package of what is staged. What is there under its name is
// replaced by the whole package, or stays.
func (b *Build) pack(ctx context.Context, packager, path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	made := filepath.Join(b.stage, filepath.Base(path))
	// nfpm runs on this machine, whatever it packs for.
	environment := []string{"VERSION=" + b.version, "ARCH=" + b.Arch}
	if err := b.run(ctx, b.stage, environment, "go", "run", nfpm, "package", "--config", "nfpm.yaml", "--packager", packager, "--target", made); err != nil {
		return "", fmt.Errorf("make %q: %w", path, err)
	}
	return path, move(made, path)
}

// move moves a file, also to another file system.
func move(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", data, 0o644); err != nil {
		return err
	}
	return errors.Join(os.Rename(to+".new", to), os.Remove(from))
}
