package cli

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/format"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// keptSlots is a configuration, and a state directory with generations 1 and 2 of
// slot pcs; slot bare has none, and its environment no CRLs.
type keptSlots struct {
	dir, config   string
	root, sub     *testpki.Authority
	added         *testpki.Authority // by word, to environment live
	first, second *testpki.Leaf
}

func newKeptSlots(t *testing.T) *keptSlots {
	t.Helper()
	k := &keptSlots{dir: t.TempDir(), root: testpki.NewRoot(t), added: testpki.NewRoot(t, testpki.Name("Word of Mouth Root"))}
	k.sub = k.root.SubCA(t, testpki.Name("Kept Authentication"))
	k.first, k.second = k.sub.Issue(t, testpki.DNS("one.nhs.uk")), k.sub.Issue(t, testpki.DNS("two.nhs.uk"))
	put := func(name string, data []byte) { testpki.WriteFile(t, filepath.Join(k.dir, name), data, 0o644) }
	put("root.pem", k.root.CertPEM())
	put("sub.pem", k.sub.CertPEM())
	put("sub.crl", k.sub.CRL(t))
	put("first.pem", append(k.first.FullChainPEM(), k.first.KeyPEM()...))
	k.config = filepath.Join(k.dir, "spinecert.yaml")
	k.configure(t, "")
	d, err := state.Lock(filepath.Join(k.dir, "state"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i, leaf := range []*testpki.Leaf{k.first, k.second} {
		id, err := pki.NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
		if err != nil {
			t.Fatal(err)
		}
		r := rotate.Record{Number: uint64(i + 1), Environment: "live", Origin: rotate.FromFiles, Digest: contentDigest(leaf), Since: time.Now(), NotAfter: leaf.Cert.NotAfter}
		if err := d.Commit("pcs", r, id, 5); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.AddTrust("live", k.added.Cert); err != nil {
		t.Fatal(err)
	}
	return k
}

// configure writes the configuration; more goes behind the directory of state.
func (k *keptSlots) configure(t *testing.T, more string) {
	t.Helper()
	testpki.WriteFile(t, k.config, fmt.Appendf(nil, `default_environment: live
environments:
  live: {profile: private, trust: [root.pem, sub.pem], revocation: prefer, crl: {files: [sub.crl]}}
  int: {profile: private, trust: [sub.pem, root.pem], revocation: off}
slots:
  pcs: {environment: live, files: {certificate: a, key: b}}
  bare: {environment: int, files: {certificate: c, key: d}}
state: {directory: state%s}
`, more), 0o644)
}

// contentDigest is that of rotate: each certificate with its length before it.
func contentDigest(leaf *testpki.Leaf) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, c := range append([]*x509.Certificate{leaf.Cert}, leaf.Chain...) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(c.Raw))))
		h.Write(c.Raw)
	}
	h.Sum(sum[:0])
	return sum
}

// export runs export --to - with the configuration.
func (k *keptSlots) export(t *testing.T, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	return run(t, append([]string{"export", "--config", k.config, "--to", "-"}, args...)...)
}

// TestExportSlot: a slot gives what its files would have given, and its environment
// the CAs and CRLs.
func TestExportSlot(t *testing.T) {
	t.Parallel()
	k := newKeptSlots(t)
	for _, f := range format.Formats() {
		if f.Needs&^format.Identity != 0 || f.Password { // those are never the same twice
			continue
		}
		exit, want, errs := k.export(t, "--in", filepath.Join(k.dir, "first.pem"), "--format", f.Name)
		if exit != exitDone || want == "" {
			t.Fatalf("%s of files: exit %d, %s", f.Name, exit, errs)
		}
		if exit, got, errs := k.export(t, "--slot", "pcs", "--generation", "1", "--format", f.Name); exit != exitDone || got != want {
			t.Errorf("%s of generation 1: exit %d, %s, %q", f.Name, exit, errs, got)
		}
		if _, got, _ := k.export(t, "--slot", "pcs", "--generation", "2", "--format", f.Name); got == want && f.Name != "chain" {
			t.Errorf("%s is that of generation 1", f.Name)
		}
	}
	for name, want := range map[string][]byte{"fullchain": k.second.FullChainPEM(), "key": k.second.KeyPEM()} {
		if exit, got, errs := k.export(t, "--slot", "pcs", "--format", name); exit != exitDone || got != string(want) {
			t.Errorf("%s: exit %d, %s, %q", name, exit, errs, got)
		}
	}
	// The same as is delivered to services.
	source := format.Source{Certificates: append([]*x509.Certificate{k.second.Cert}, k.second.Chain...), Key: k.second.Key}
	for _, f := range format.Formats() {
		if f.Needs&^format.Identity != 0 || f.Password {
			continue
		}
		want, err := f.Encode(source)
		if exit, got, errs := k.export(t, "--slot", "pcs", "--format", f.Name); err != nil || exit != exitDone || got != string(want) {
			t.Errorf("%s is not what is delivered: %v, exit %d, %s", f.Name, err, exit, errs)
		}
	}
	exit, got, errs := k.export(t, "--slot", "pcs", "--format", "trust-pem")
	a, b := string(k.root.CertPEM()), string(k.added.CertPEM())
	if roots, ok := strings.CutPrefix(got, string(k.sub.CertPEM())); exit != exitDone || !ok || roots != a+b && roots != b+a {
		t.Errorf("trust-pem: exit %d, %s, %q", exit, errs, got)
	}
	if exit, got, errs := k.export(t, "--slot", "pcs", "--format", "crl-pem"); exit != exitDone || !strings.HasPrefix(got, "-----BEGIN X509 CRL-----") {
		t.Errorf("crl-pem: exit %d, %s", exit, errs)
	}
	// CAs need no generation, and no state directory at all.
	if exit, got, errs := k.export(t, "--slot", "bare", "--format", "trust-pem"); exit != exitDone || got != string(k.sub.CertPEM())+string(k.root.CertPEM()) {
		t.Errorf("trust-pem of a slot with nothing: exit %d, %s", exit, errs)
	}
	to := filepath.Join(k.dir, "ldaprc")
	exit, got, errs = run(t, "export", "--config", k.config, "--slot", "pcs", "--format", "ldaprc", "--to", to)
	rc, _ := os.ReadFile(to)
	if exit != exitDone || !strings.Contains(got, "pcs, generation 2") || !strings.Contains(string(rc), "TLS_KEY "+filepath.Join(k.dir, "key.pem")+"\n") {
		t.Errorf("ldaprc: exit %d, %s%s, %s", exit, got, errs, rc)
	}
}

func TestExportSlotRefused(t *testing.T) {
	t.Parallel()
	k := newKeptSlots(t)
	for name, tc := range map[string]struct {
		args       []string
		exit       int
		text, hint string
	}{
		"no such slot":          {[]string{"--slot", "other", "--format", "cert"}, exitUsage, `"other": not in the configuration`, "see slots in"},
		"no such generation":    {[]string{"--slot", "pcs", "--generation", "7", "--format", "cert"}, exitUsage, `slot "pcs" does not have it`, "it has 2, 1"},
		"none of its own":       {[]string{"--slot", "bare", "--generation", "1", "--format", "cert"}, exitUsage, "does not have it", "none at all"},
		"nothing kept":          {[]string{"--slot", "bare", "--format", "key"}, exitFailed, `slot "bare" has nothing`, "spinecert status"},
		"nothing kept for ldap": {[]string{"--slot", "bare", "--format", "combined"}, exitFailed, `slot "bare" has nothing`, "--in"},
		"no CRLs":               {[]string{"--slot", "bare", "--format", "crl-pem"}, exitFailed, `"int" names no CRL files`, "--in"},
		"trust has no numbers":  {[]string{"--slot", "pcs", "--generation", "1", "--format", "trust-pem"}, exitUsage, "no generations", "leave --generation out"},
		"a name as a path":      {[]string{"--slot", "../pcs", "--format", "cert"}, exitUsage, "not in the configuration", ""},
	} {
		exit, out, errs := k.export(t, tc.args...)
		if exit != tc.exit || out != "" || !strings.Contains(errs, tc.text) || !strings.Contains(errs, tc.hint) {
			t.Errorf("%s: exit %d, %s%s", name, exit, out, errs)
		}
	}
	k.configure(t, "2, keep_generations: 0")
	if exit, _, errs := k.export(t, "--slot", "pcs", "--format", "cert"); exit != exitFailed || !strings.Contains(errs, "keep_generations is 0") {
		t.Errorf("no state directory: exit %d, %s", exit, errs)
	}
	if exit, _, errs := k.export(t, "--slot", "pcs", "--format", "trust-pem"); exit != exitDone {
		t.Errorf("trust-pem without a state directory: exit %d, %s", exit, errs)
	}
}

// TestExportSlotTorn: what is not whole is not exported.
func TestExportSlotTorn(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(k *keptSlots, dir string) error{
		"no key": func(_ *keptSlots, dir string) error { return os.Remove(filepath.Join(dir, "key.pem")) },
		"another key": func(k *keptSlots, dir string) error {
			return os.WriteFile(filepath.Join(dir, "key.pem"), k.first.KeyPEM(), 0o600)
		},
		"another chain": func(k *keptSlots, dir string) error {
			return os.WriteFile(filepath.Join(dir, "fullchain.pem"), k.first.FullChainPEM(), 0o600)
		},
		"no description": func(_ *keptSlots, dir string) error { return os.Remove(filepath.Join(dir, "generation.json")) },
	} {
		k := newKeptSlots(t)
		if err := spoil(k, filepath.Join(k.dir, "state/slots/pcs/generations/2")); err != nil {
			t.Fatal(err)
		}
		if exit, out, errs := k.export(t, "--slot", "pcs", "--format", "combined"); exit != exitFailed || out != "" || !strings.Contains(errs, "hint: ") {
			t.Errorf("%s: exit %d, %s%s", name, exit, out, errs)
		}
		if exit, out, errs := k.export(t, "--slot", "pcs", "--generation", "1", "--format", "combined"); exit != exitDone || out == "" {
			t.Errorf("%s: generation 1: exit %d, %s", name, exit, errs)
		}
	}
}

// TestExportSlotMoved: the identity of one environment, the CAs of another.
func TestExportSlotMoved(t *testing.T) {
	t.Parallel()
	k := newKeptSlots(t)
	data, err := os.ReadFile(k.config)
	if err != nil {
		t.Fatal(err)
	}
	testpki.WriteFile(t, k.config, bytes.Replace(data, []byte("pcs: {environment: live"), []byte("pcs: {environment: int"), 1), 0o644)
	exit, out, errs := run(t, "export", "--config", k.config, "--slot", "pcs", "--format", "cert", "--to", filepath.Join(k.dir, "x"))
	if exit != exitDone || !strings.Contains(out, "note: generation 2 is of environment live, and the slot is of environment int now") {
		t.Errorf("exit %d, %s%s", exit, out, errs)
	}
}

// TestExportSlotOfOthers: the state directory is closed to everybody else.
func TestExportSlotOfOthers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	k := newKeptSlots(t)
	dir, err := os.MkdirTemp("", "export") // t.TempDir is closed, too
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(k.dir, filepath.Join(dir, "k")), os.Chmod(dir, 0o711), os.Chmod(filepath.Join(dir, "k"), 0o711)); err != nil {
		t.Fatal(err)
	}
	testpki.WriteFile(t, filepath.Join(dir, "spinecert"), program, 0o755)
	cmd := exec.Command(filepath.Join(dir, "spinecert"), "export", "--config", filepath.Join(dir, "k/spinecert.yaml"), "--slot", "pcs", "--format", "key", "--to", "-")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || bytes.Contains(out, []byte("PRIVATE KEY")) || !bytes.Contains(out, []byte("hint: run as root, or as the user of the daemon")) {
		t.Errorf("%v: %s", err, out)
	}
}
