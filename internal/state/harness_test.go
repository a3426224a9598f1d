package state

import (
	"bufio"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

const (
	testSlot = "pcs"
	testFQDN = "pcs.thirdparty.nhs.uk"
)

// TestMain is the child of the tests that need a process of their own, too.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envCrash) != "":
		os.Exit(crashChild())
	case os.Getenv(envOwner) != "":
		os.Exit(ownerChild())
	case os.Getenv(envWay) != "":
		os.Exit(wayChild())
	}
	os.Exit(m.Run())
}

func mustLock(t *testing.T, dir string) *Directory {
	t.Helper()
	d, err := Lock(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := d.Trouble(); err != nil {
		t.Error(err)
	}
	return d
}

// newIdentity makes an identity with one CA certificate in its chain.
func newIdentity(t *testing.T) *pki.Identity {
	t.Helper()
	sub := testpki.NewRoot(t).SubCA(t, testpki.Name("State Authentication"))
	return identityOf(t, sub.Issue(t, testpki.DNS(testFQDN)))
}

func identityOf(t *testing.T, leaf *testpki.Leaf) *pki.Identity {
	t.Helper()
	id, err := pki.NewIdentity(append([]*x509.Certificate{leaf.Cert}, leaf.Chain...), leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// recordOf is what rotate would say of an identity.
func recordOf(id *pki.Identity, number uint64) rotate.Record {
	certs := append([]*x509.Certificate{id.Leaf()}, id.Chain()...)
	r := rotate.Record{Number: number, Environment: "live", Origin: rotate.FromImport, Digest: digestOf(raws(certs)), Source: [32]byte{1, 2, 3},
		Since: time.Date(2026, 11, 22, 10, 0, int(number), 5, time.UTC), NotAfter: id.Leaf().NotAfter}
	for _, c := range certs {
		if c.NotAfter.Before(r.NotAfter) {
			r.NotAfter = c.NotAfter
		}
	}
	return r
}

func mustCommit(t *testing.T, d *Directory, number uint64, id *pki.Identity, keep int) rotate.Record {
	t.Helper()
	r := recordOf(id, number)
	if err := d.Commit(testSlot, r, id, keep); err != nil {
		t.Fatal(err)
	}
	return r
}

// mustRequest keeps a request for a new key.
func mustRequest(t *testing.T, d *Directory) (Request, crypto.Signer) {
	t.Helper()
	key := testpki.NewKey(t, "ecdsa-p256")
	r, err := d.NewRequest(newRequest(1), key, func() ([]byte, error) { return pki.NewRequest(key, testFQDN) })
	if err != nil {
		t.Fatal(err)
	}
	return r, key
}

func newRequest(n int) Request {
	return Request{Slot: testSlot, Environment: "live", FQDN: testFQDN, Key: "ecdsa-p256", Created: time.Date(2026, 11, 22, 9, n, 0, 0, time.UTC), By: "uid 0", Reason: "new"}
}

// wantClean wants Verify to find nothing.
func wantClean(t *testing.T, d *Directory) {
	t.Helper()
	_, findings, err := d.Verify(t.Context())
	if err != nil {
		t.Error(err)
	}
	for _, f := range findings {
		t.Errorf("found %+v", f)
	}
}

// wantCodes wants Verify to find this, as "code path".
func wantCodes(t *testing.T, d *Directory, want ...string) {
	t.Helper()
	_, findings, err := d.Verify(t.Context())
	if err != nil {
		t.Error(err)
	}
	var got []string
	for _, f := range findings {
		name, _ := filepath.Rel(d.Path(), f.Path)
		got = append(got, f.Code+" "+name)
		if f.Message == "" || f.Hint == "" {
			t.Errorf("no message or no hint: %+v", f)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

func numbersOf(records []rotate.Record) []uint64 {
	var out []uint64
	for _, r := range records {
		out = append(out, r.Number)
	}
	return out
}

// checkModes looks at every file itself: nothing is readable by others, nothing is
// a temporary.
func checkModes(dir string) error {
	var errs []error
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		name, _ := filepath.Rel(dir, path)
		switch {
		case name == "inbox" || filepath.Dir(name) == "inbox":
			want = fs.ModeDir | fs.ModeSetgid | fs.ModeSticky | 0o770
		case e.IsDir():
			want = fs.ModeDir | 0o700
		case e.Type() == fs.ModeSymlink:
			want = info.Mode()
		}
		if info.Mode() != want {
			errs = append(errs, fmt.Errorf("%s has mode %v", name, info.Mode()))
		}
		if strings.HasPrefix(e.Name(), ".") && name != ".lock" {
			errs = append(errs, fmt.Errorf("%s is left", name))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// material is what the crash tests use, so that children need not make it.
type material struct {
	dir  string
	keys []crypto.Signer
	ids  []*pki.Identity
	ca   *x509.Certificate
}

// writeMaterial makes three identities: a, and b and c for requests.
func writeMaterial(t *testing.T) *material {
	t.Helper()
	m := &material{dir: t.TempDir()}
	root := testpki.NewRoot(t) // and no chain: less to read, thousands of times
	testpki.WriteFile(t, filepath.Join(m.dir, "ca.pem"), root.CertPEM(), 0o600)
	for i := range 3 {
		leaf := root.Issue(t, testpki.DNS(testFQDN))
		testpki.WriteFile(t, filepath.Join(m.dir, fmt.Sprintf("%d.key", i)), leaf.KeyPEM(), 0o600)
		testpki.WriteFile(t, filepath.Join(m.dir, fmt.Sprintf("%d.pem", i)), leaf.FullChainPEM(), 0o600)
	}
	if err := m.read(); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *material) read() error {
	certs := func(name string) ([]*x509.Certificate, error) {
		data, err := os.ReadFile(filepath.Join(m.dir, name))
		if err != nil {
			return nil, err
		}
		return pki.ParseCertificates(data)
	}
	for i := range 3 {
		data, err := os.ReadFile(filepath.Join(m.dir, fmt.Sprintf("%d.key", i)))
		if err != nil {
			return err
		}
		key, err := pki.ParseKey(data)
		if err != nil {
			return err
		}
		chain, err := certs(fmt.Sprintf("%d.pem", i))
		if err != nil {
			return err
		}
		id, err := pki.NewIdentity(chain, key)
		if err != nil {
			return err
		}
		m.keys, m.ids = append(m.keys, key), append(m.ids, id)
	}
	ca, err := certs("ca.pem")
	if err == nil {
		m.ca = ca[0]
	}
	return err
}

// quickDir is t.TempDir in memory, if there is such a place: thousands of fsyncs
// are counted here, and nobody waits for a disk.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "spinecert-state-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// ledger is what was promised: lines written to a file that outlives the process.
type ledger struct{ path string }

func (l ledger) note(format string, args ...any) error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format+"\n", args...)
	return errors.Join(err, f.Close())
}

// promised reads the requests that must be there and the generation that must.
func (l ledger) promised() (requests []string, committed uint64, err error) {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var what, value string
		if _, err := fmt.Sscan(s.Text(), &what, &value); err != nil {
			return nil, 0, err
		}
		switch what {
		case "requested":
			requests = append(requests, value)
		case "ending":
			requests = slices.DeleteFunc(requests, func(id string) bool { return id == value })
		case "committed":
			_, err = fmt.Sscan(value, &committed)
		}
	}
	return requests, committed, err
}
