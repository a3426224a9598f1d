package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/box"
)

// Version is that of the package which [Deb] builds, as the programs say it.
const Version = "v0.1.0"

// Deb builds the deb of the sources as they are and returns its path. It takes a few
// seconds once the programs are in Go's cache, so that a test does it once. What it
// cannot build ends the test.
func Deb(t testing.TB) string {
	t.Helper()
	return DebOf(t, Version)
}

// DebOf is Deb for another version, such as v0.2.0: the same sources under another
// name, to upgrade and downgrade to.
func DebOf(t testing.TB, version string) string {
	t.Helper()
	return makeOf(t, root(t), version, "deb")[".deb"]
}

// Install installs a deb in a box, as dpkg --install does, and returns what that said.
// It is an upgrade, or a downgrade, where another version is installed.
func Install(t testing.TB, b *box.Box, deb string) string {
	t.Helper()
	const path = "/root/spinecert.deb"
	b = b.For(t)
	b.PushFile(path, deb, 0o644)
	b.Run("rm", "-f", "/usr/sbin/policy-rc.d") // a host that starts no services while packages are installed: here they are to stop
	// The index of all manual pages would take longer than everything else.
	return b.Run("dpkg", "--no-triggers", "--install", path)
}

// epoch is the time of what is made here, in seconds since 1970: noon of 1 November 2026.
const epoch = 1793534400

// makeOf has the sources in a directory made into packages, and returns the paths of
// what was made, by the end of their names. It runs the command: what a test does
// itself the race detector makes ten times slower.
func makeOf(t testing.TB, root, version string, what ...string) map[string]string {
	t.Helper()
	out := t.TempDir()
	command := filepath.Join(out, "make")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", command, "github.com/spinecert/spinecert/internal/release/make")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOAMD64=v1")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, text)
	}
	run := exec.CommandContext(t.Context(), command, append([]string{"-out", filepath.Join(out, "dist"), "-version", version}, what...)...)
	run.Dir = root
	run.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.Itoa(epoch))
	var said strings.Builder
	run.Stderr = &said
	text, err := run.Output()
	if err != nil {
		t.Fatalf("make %q: %v\n%s", what, err, said.String())
	}
	made := map[string]string{}
	for _, path := range strings.Fields(string(text)) {
		made[filepath.Ext(path)] = path
	}
	return made
}

// root is the directory of the module that the test is part of.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatalf("there is no go.mod above this test: %v", err)
	return ""
}
