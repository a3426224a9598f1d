package state

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

func TestRequestAndBack(t *testing.T) {
	d := mustLock(t, t.TempDir())
	if all, err := d.Requests(""); len(all) != 0 || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	key := testpki.NewKey(t, "ecdsa-p256")
	want := newRequest(30)
	want.SANs, want.Reason = []string{"b.thirdparty.nhs.uk"}, "expiring"
	made, err := d.NewRequest(want, key, func() ([]byte, error) { return pki.NewRequest(key, testFQDN, want.SANs...) })
	if err != nil {
		t.Fatal(err)
	}
	want.ID, want.CSR = pki.RequestID(key.Public()), made.CSR
	if diff := cmp.Diff(want, made); diff != "" || !bytes.Contains(made.CSR, []byte("CERTIFICATE REQUEST")) {
		t.Error(diff)
	}
	older, _ := mustRequest(t, d)
	all, err := d.Requests(testSlot)
	if diff := cmp.Diff([]Request{older, want}, all); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if one, err := d.Requests("other"); len(one) != 0 || err != nil {
		t.Errorf("of another slot: %v, %v", one, err)
	}
	back, err := d.RequestKey(testSlot, want.ID)
	if err != nil || pki.RequestID(back.Public()) != want.ID {
		t.Errorf("key: %v", err)
	}
	if _, err := d.NewRequest(want, key, func() ([]byte, error) { return pki.NewRequest(key, testFQDN) }); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same key again: %v", err)
	}
	if err := errors.Join(d.EndRequest(testSlot, want.ID), checkModes(d.Path())); err != nil {
		t.Error(err)
	}
	if _, err := d.RequestKey(testSlot, want.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("key of one that ended: %v", err)
	}
	if err := d.EndRequest(testSlot, want.ID); !errors.Is(err, fs.ErrNotExist) || pki.Hint(err) == "" {
		t.Errorf("ended twice: %v", err)
	}
	if all, err = d.Requests(""); len(all) != 1 || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	wantClean(t, d)
}

// TestKeyBeforeCSR: when the CSR is made the key is on disk, and without a CSR that
// fits nothing stays.
func TestKeyBeforeCSR(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	key, other := testpki.NewKey(t, "ecdsa-p256"), testpki.NewKey(t, "ecdsa-p256")
	broken := errors.New("broken")
	for name, csr := range map[string]func() ([]byte, error){
		"fails":       func() ([]byte, error) { return nil, broken },
		"nothing":     func() ([]byte, error) { return nil, nil },
		"other key":   func() ([]byte, error) { return pki.NewRequest(other, testFQDN) },
		"no CSR":      func() ([]byte, error) { return testpki.EncodeCerts(testpki.NewRoot(t).Cert), nil },
		"no good one": func() ([]byte, error) { return newKeyPEM(t), nil },
	} {
		seen := false
		_, err := d.NewRequest(newRequest(1), key, func() ([]byte, error) {
			found, _ := filepath.Glob(filepath.Join(dir, "slots", testSlot, "requests", ".*", "key.pem"))
			for _, path := range found {
				data, _ := os.ReadFile(path)
				seen = seen || bytes.Equal(data, testpki.EncodeKey(key))
			}
			return csr()
		})
		if err == nil || !seen || name == "fails" && !errors.Is(err, broken) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %v, key seen: %v", name, err, seen)
		}
	}
	if err := checkModes(dir); err != nil {
		t.Error(err)
	}
	if all, err := d.Requests(""); len(all) != 0 || err != nil {
		t.Errorf("%v, %v", all, err)
	}
}

func TestAnswer(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	sub := testpki.NewRoot(t).SubCA(t)
	leaf := sub.Issue(t, testpki.DNS(testFQDN))
	r, err := d.NewRequest(newRequest(1), leaf.Key, func() ([]byte, error) { return pki.NewRequest(leaf.Key, testFQDN) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Answer(testSlot, r.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no answer: %v", err)
	}
	if err := d.DropAnswer(testSlot, r.ID); err != nil {
		t.Error(err)
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "another": sub.CertPEM(), "too large": append(leaf.CertPEM(), bytes.Repeat([]byte("\n"), maxFile)...),
	} {
		if err := d.KeepAnswer(testSlot, r.ID, data); err == nil {
			t.Errorf("%s: kept", name)
		}
	}
	for _, data := range [][]byte{leaf.CertPEM(), leaf.FullChainPEM()} {
		if err := d.KeepAnswer(testSlot, r.ID, data); err != nil {
			t.Fatal(err)
		}
		certs, err := d.Answer(testSlot, r.ID)
		if err != nil || !bytes.Equal(pki.EncodeCertificates(certs...), data) {
			t.Errorf("%v, %d certificates", err, len(certs))
		}
	}
	all, err := d.Requests(testSlot)
	if len(all) != 1 || all[0].Answered.IsZero() || err != nil {
		t.Fatalf("%v, %v", all, err)
	}
	wantClean(t, d)
	if err := errors.Join(checkModes(dir), d.DropAnswer(testSlot, r.ID)); err != nil {
		t.Error(err)
	}
	if all, err = d.Requests(testSlot); len(all) != 1 || !all[0].Answered.IsZero() || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	if err := d.KeepAnswer(testSlot, "0123456789abcdef", leaf.CertPEM()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no request: %v", err)
	}
}

// TestRequestsThatAreNotWhole are named, and hide no others.
func TestRequestsThatAreNotWhole(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string) error
		key    bool // only RequestKey notices
	}{
		"key is a link": {damage: func(r string) error {
			return errors.Join(os.Rename(r+"/key.pem", r+"/../../elsewhere"), os.Symlink("../../elsewhere", r+"/key.pem"))
		}},
		"key is a pipe":   {damage: func(r string) error { return errors.Join(os.Remove(r+"/key.pem"), syscall.Mkfifo(r+"/key.pem", 0o600)) }},
		"key is missing":  {damage: func(r string) error { return os.Remove(r + "/key.pem") }},
		"key of another":  {damage: func(r string) error { return os.WriteFile(r+"/key.pem", newKeyPEM(t), 0o600) }, key: true},
		"CSR of another":  {damage: func(r string) error { return os.WriteFile(r+"/request.csr", otherCSR(t), 0o600) }},
		"CSR is torn":     {damage: func(r string) error { return os.Truncate(r+"/request.csr", 50) }},
		"json is torn":    {damage: func(r string) error { return os.Truncate(r+"/request.json", 50) }},
		"json to come":    {damage: func(r string) error { return edit(r+"/request.json", `"schema": 1`, `"schema": 9`) }},
		"json of a slot":  {damage: func(r string) error { return edit(r+"/request.json", `"slot": "pcs"`, `"slot": "other"`) }},
		"named otherwise": {damage: func(r string) error { return os.Rename(r, filepath.Dir(r)+"/0123456789abcdef") }},
		"not an ID":       {damage: func(r string) error { return os.Rename(r, filepath.Dir(r)+"/new") }},
		"is a file":       {damage: func(r string) error { return replace(r, "") }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := mustLock(t, dir)
			good, _ := mustRequest(t, d)
			bad, _ := mustRequest(t, d)
			if err := c.damage(filepath.Join(dir, "slots", testSlot, "requests", bad.ID)); err != nil {
				t.Fatal(err)
			}
			all, err := d.Requests("")
			if c.key {
				if _, err := d.RequestKey(testSlot, bad.ID); err == nil || strings.Contains(err.Error(), "PRIVATE") {
					t.Errorf("key: %v", err)
				}
			} else if len(all) != 1 || all[0].ID != good.ID || err == nil || !strings.Contains(err.Error(), "requests/") {
				t.Errorf("%v, %v", all, err)
			}
			if _, findings, err := d.Verify(t.Context()); len(findings) == 0 || err != nil {
				t.Errorf("verify finds %v, %v", findings, err)
			}
		})
	}
}

func otherCSR(t *testing.T) []byte {
	t.Helper()
	csr, err := pki.NewRequest(testpki.NewKey(t, "ecdsa-p256"), testFQDN)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// TestNamesThatAreNone never become paths.
func TestNamesThatAreNone(t *testing.T) {
	base := t.TempDir()
	d := mustLock(t, filepath.Join(base, "state"))
	key := testpki.NewKey(t, "ecdsa-p256")
	id := newIdentity(t)
	r, _ := mustRequest(t, d)
	csr := func() ([]byte, error) { return pki.NewRequest(key, testFQDN) }
	sum := pki.Fingerprint(id.Leaf())
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc", "A", "a_b", "a\x00b", "a\n", strings.Repeat("a", 64), "-a"} {
		bad := newRequest(0)
		bad.Slot = name
		_, err := d.NewRequest(bad, key, csr)
		errs := map[string]error{"NewRequest slot": err}
		bad.Slot, bad.Environment = testSlot, name
		_, errs["NewRequest environment"] = d.NewRequest(bad, key, csr)
		_, errs["Current"] = d.Current(name)
		_, errs["History"] = d.History(name)
		_, errs["Load"] = d.Load(name, 1)
		errs["Commit"] = d.Commit(name, recordOf(id, 1), id, 1)
		_, _, errs["GenerationFiles"] = d.GenerationFiles(name, 0)
		_, errs["RequestKey slot"] = d.RequestKey(name, r.ID)
		_, errs["RequestKey"] = d.RequestKey(testSlot, name)
		errs["KeepAnswer slot"] = d.KeepAnswer(name, r.ID, nil)
		errs["KeepAnswer"] = d.KeepAnswer(testSlot, name, nil)
		errs["DropAnswer"] = d.DropAnswer(testSlot, name)
		_, errs["Answer"] = d.Answer(testSlot, name)
		errs["EndRequest slot"] = d.EndRequest(name, r.ID)
		errs["EndRequest"] = d.EndRequest(testSlot, name)
		_, errs["TrustFiles"] = d.TrustFiles(name)
		_, errs["AddTrust"] = d.AddTrust(name, id.Leaf())
		errs["DropTrust"] = d.DropTrust(name, sum)
		errs["DropTrust sum"] = d.DropTrust("live", name)
		if name != "" { // all slots
			_, errs["Requests"] = d.Requests(name)
		}
		for what, err := range errs {
			if err == nil {
				t.Errorf("%s took %q", what, name)
			}
		}
	}
	wantClean(t, d)
	if names, _ := filepath.Glob(base + "/*"); len(names) != 1 {
		t.Errorf("written beside the directory: %q", names)
	}
}

func TestTrust(t *testing.T) {
	d := mustLock(t, t.TempDir())
	root := testpki.NewRoot(t)
	certs := []*x509.Certificate{root.Cert, root.SubCA(t).Cert}
	if files, err := d.TrustFiles("live"); len(files) != 0 || err != nil {
		t.Errorf("%v, %v", files, err)
	}
	var paths []string
	for range 2 {
		for _, c := range certs {
			path, err := d.AddTrust("live", c)
			if err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
			if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, testpki.EncodeCerts(c)) || filepath.Base(path) != pki.Fingerprint(c)+".pem" {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	// What is no certificate of ours is not handed on.
	live := d.TrustPath("live")
	link := filepath.Join(live, strings.Repeat("0", 64)+".pem")
	if err := os.Symlink(paths[0], link); err != nil {
		t.Fatal(err)
	}
	testpki.WriteFile(t, filepath.Join(live, "notes.txt"), nil, 0o600)
	testpki.WriteFile(t, filepath.Join(live, ".x.pem"), nil, 0o600)
	files, err := d.TrustFiles("live")
	want := []string{paths[0], paths[1]}
	if want[0] > want[1] {
		want[0], want[1] = want[1], want[0]
	}
	if diff := cmp.Diff(want, files); diff != "" || err != nil {
		t.Error(err, diff)
	}
	wantCodes(t, d, "unreadable trust.d/live/"+filepath.Base(link), "stray trust.d/live/notes.txt", "temporary trust.d/live/.x.pem")
	if err := errors.Join(os.Remove(link), os.Remove(filepath.Join(live, "notes.txt")), os.Remove(filepath.Join(live, ".x.pem"))); err != nil {
		t.Fatal(err)
	}
	wantClean(t, d)
	// A file that does not hold what its name says is mended by adding it again.
	testpki.WriteFile(t, paths[0], root.CertPEM()[:40], 0o600)
	wantCodes(t, d, "unreadable trust.d/live/"+filepath.Base(paths[0]))
	testpki.WriteFile(t, paths[0], testpki.EncodeCerts(certs[1]), 0o600)
	wantCodes(t, d, "digest trust.d/live/"+filepath.Base(paths[0]))
	if _, err := d.AddTrust("live", certs[0]); err != nil {
		t.Error(err)
	}
	wantClean(t, d)
	sum := pki.Fingerprint(certs[0])
	if err := d.DropTrust("live", sum); err != nil {
		t.Error(err)
	}
	if err := d.DropTrust("live", sum); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dropped twice: %v", err)
	}
	if files, err := d.TrustFiles("live"); len(files) != 1 || err != nil {
		t.Errorf("%v, %v", files, err)
	}
}
