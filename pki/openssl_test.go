package pki_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

// openssl runs the command in a directory and fails the test if it fails. The
// test is skipped where openssl is missing, except in CI.
func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("openssl is missing in CI")
		}
		t.Skip("openssl is missing")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %q: %v\n%s", args, err, out.Bytes())
	}
}

// material is a leaf below a subCA, in files for openssl: leaf.pem, chain.pem,
// root.pem, full.pem, key.pem.
func material(t *testing.T, opts ...testpki.Option) (string, *testpki.Leaf, *testpki.Authority) {
	t.Helper()
	root := testpki.NewRoot(t)
	leaf := root.SubCA(t).Issue(t, opts...)
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"leaf.pem": leaf.CertPEM(), "chain.pem": leaf.ChainPEM(), "root.pem": root.CertPEM(),
		"full.pem": leaf.FullChainPEM(), "key.pem": leaf.KeyPEM(),
	} {
		testpki.WriteFile(t, filepath.Join(dir, name), data, 0o600)
	}
	return dir, leaf, root
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// spineCA returns the directory of the real NHS certificates, which lies beside
// the repository.
func spineCA(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "shared", "spine", "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the real NHS certificates are not beside the repository (shared/spine/ca)")
	}
	return dir
}
