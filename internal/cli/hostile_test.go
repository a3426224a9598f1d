package cli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// inTime runs a command that must not wait for what somebody else put in its way.
func inTime(t *testing.T, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		exit, stdout, stderr = run(t, args...)
	}()
	select {
	case <-ended:
		return exit, stdout, stderr
	case <-time.After(30 * time.Second):
		t.Fatalf("%v hangs", args)
		return 0, "", ""
	}
}

// TestSilentDaemon: of a daemon that does not answer the process is named, and
// nothing else that its lock file may be.
func TestSilentDaemon(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sc") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "mute"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	secret := filepath.Join(dir, "secret")
	testpki.WriteFile(t, secret, []byte("hunter2"), 0o600)
	config, lock := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "state", ".lock")
	testpki.WriteFile(t, config, []byte("environments: {live: {trust: [a.pem]}}\nslots: {pcs: {environment: live, fqdn: a.nhs.uk, managed: {}}}\n"+
		"admin: {socket: {path: mute}}\nstate: {directory: state}\n"), 0o644)
	for name, c := range map[string]struct {
		plant func() error
		want  string
	}{
		"a pid":    {func() error { return os.WriteFile(lock, []byte("4711\n"), 0o600) }, "process 4711 holds the state directory"},
		"a secret": {func() error { return os.WriteFile(lock, []byte("hunter2"), 0o600) }, ""},
		"a link":   {func() error { return os.Symlink(secret, lock) }, ""},
		"no end":   {func() error { return os.Symlink("/dev/zero", lock) }, ""},
		"a pipe":   {func() error { return syscall.Mkfifo(lock, 0o600) }, ""},
	} {
		if err := errors.Join(os.RemoveAll(filepath.Dir(lock)), os.Mkdir(filepath.Dir(lock), 0o700), c.plant()); err != nil {
			t.Fatal(err)
		}
		exit, _, errs := inTime(t, "csr", "cancel", "0123456789abcdef", "--config", config, "--timeout", "100ms")
		if exit != exitFailed || !strings.Contains(errs, c.want) || c.want == "" && strings.Contains(errs, "holds") || strings.Contains(errs, "hunter2") {
			t.Errorf("%s: exit %d, %s", name, exit, errs)
		}
	}
}

// TestAddedTrustThatChanges: who owns the state directory puts pipes in the place of
// files while root reads them.
func TestAddedTrustThatChanges(t *testing.T) {
	t.Parallel()
	k := newKeptSlots(t)
	path := filepath.Join(k.dir, "state/trust.d/live", pki.Fingerprint(k.added.Cert)+".pem")
	pipe, file := filepath.Join(k.dir, "pipe"), filepath.Join(k.dir, "file")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Link(path, file)); err != nil {
		t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
			}
			_ = os.Link([]string{pipe, file}[i%2], path+".x")
			_ = os.Rename(path+".x", path)
		}
	}()
	defer func() { close(end); <-ended }()
	for range 150 {
		if exit, out, errs := inTime(t, "export", "--config", k.config, "--to", "-", "--slot", "pcs", "--format", "trust-pem"); exit != exitDone || !strings.HasPrefix(out, "-----BEGIN") {
			t.Fatalf("export: exit %d, %s", exit, errs)
		}
	}
	for range 50 {
		if exit, _, errs := inTime(t, "trust", "list", "--config", k.config, "--socket", filepath.Join(k.dir, "none")); exit != exitDone {
			t.Fatalf("trust list: exit %d, %s", exit, errs)
		}
		if exit, _, errs := inTime(t, "trust", "diff", "--environment", "live", "--config", k.config, "--socket", filepath.Join(k.dir, "none"), filepath.Join(k.dir, "root.pem")); exit != exitJudged && exit != exitDone {
			t.Fatalf("trust diff: exit %d, %s", exit, errs)
		}
	}
}

// TestExportBesideWhatIsThere: a set is written whole or not at all, and what is
// there is not waited for.
func TestExportBesideWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	set := func() []exportFile {
		return []exportFile{{path("a"), []byte("1"), 0o600}, {path("b"), []byte("2"), 0o644}, {path("c"), []byte("3"), 0o600}}
	}
	names := func() []string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	for name, plant := range map[string]func() error{
		"another file": func() error { return os.WriteFile(path("c"), []byte("x"), 0o600) },
		"a pipe":       func() error { return syscall.Mkfifo(path("c"), 0o600) },
		"a link":       func() error { return os.Symlink("/dev/zero", path("c")) },
		"a link to it": func() error {
			return errors.Join(os.WriteFile(path("d"), []byte("3"), 0o600), os.Symlink("d", path("c")))
		},
	} {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700), plant()); err != nil {
			t.Fatal(err)
		}
		before := names()
		var failure *exitError
		if err := writeExport(set(), false); !errors.As(err, &failure) || failure.code != codeExists || !strings.Contains(failure.hint, "--force") {
			t.Errorf("%s: %v", name, err)
		}
		if got := names(); !slices.Equal(got, before) {
			t.Errorf("%s: left %v", name, got)
		}
	}
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700), writeExport(set()[:1], false), writeExport(set(), false), writeExport(set(), false)); err != nil {
		t.Error(err)
	}
	if err := writeExport([]exportFile{{path("none/a"), nil, 0o600}}, false); err == nil || pki.Hint(err) == "" {
		t.Errorf("no directory: %v", err)
	}
}

// TestOfflineAsTheOwnerOnTheWay: a state directory below a directory of somebody
// else's is written as that one.
func TestOfflineAsTheOwnerOnTheWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "open"), 0o700), os.Chmod(filepath.Join(dir, "open"), 0o777)); err != nil || os.Geteuid() != 0 {
		t.Skip("only root acts as others", err)
	}
	config := filepath.Join(dir, "c.yaml")
	testpki.WriteFile(t, config, []byte("environments: {live: {trust: [a.pem]}}\nslots: {pcs: {environment: live, fqdn: a.nhs.uk, managed: {}}}\n"+
		"admin: {socket: {path: none}}\nstate: {directory: open/state}\n"), 0o644)
	exit, _, errs := run(t, "csr", "new", "--slot", "pcs", "--config", config)
	if exit != exitFailed || !strings.Contains(errs, "put another in its place") || !strings.Contains(errs, "hint: chmod go-w") {
		t.Errorf("exit %d, %s", exit, errs)
	}
	if _, err := state.Open(filepath.Join(dir, "open/state")); err == nil {
		t.Error("made all the same")
	}
}
