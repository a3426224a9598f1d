package state

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

func TestCommitAndReadBack(t *testing.T) {
	d := mustLock(t, t.TempDir())
	if r, err := d.Current(testSlot); r != (rotate.Record{}) || err != nil {
		t.Errorf("nothing is kept: %v, %v", r, err)
	}
	if _, _, err := d.GenerationFiles(testSlot, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing is kept: %v", err)
	}
	root := testpki.NewRoot(t)
	for i, leaf := range []*testpki.Leaf{root.SubCA(t).Issue(t, testpki.DNS(testFQDN)), root.Issue(t, testpki.DNS(testFQDN))} { // the second without a chain
		number := uint64(i + 1)
		id := identityOf(t, leaf)
		r := recordOf(id, number)
		r.Origin, r.Of, r.Held, r.Left, r.LeftLeaf = rotate.FromRollback, 7, true, [32]byte{9}, [32]byte{8}
		if err := d.Commit(testSlot, r, id, 5); err != nil {
			t.Fatal(err)
		}
		dir, known, err := d.GenerationFiles(testSlot, number)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, known); diff != "" {
			t.Error(diff)
		}
		r.Highest = number
		got, err := d.Current(testSlot)
		if diff := cmp.Diff(r, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
		for name, want := range map[string][]byte{"cert.pem": leaf.CertPEM(), "chain.pem": leaf.ChainPEM(), "fullchain.pem": leaf.FullChainPEM(), "key.pem": leaf.KeyPEM()} {
			if data, err := os.ReadFile(filepath.Join(dir, name)); !bytes.Equal(data, want) || err != nil {
				t.Errorf("%s: %v, %q", name, err, data)
			}
		}
		back, err := d.Load(testSlot, number)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(back.TLS().Certificate, id.TLS().Certificate, bytes.Equal) {
			t.Error("other certificates came back")
		}
	}
	if err := checkModes(d.Path()); err != nil {
		t.Error(err)
	}
	wantClean(t, d)
	if all, err := d.History(testSlot); !slices.Equal(numbersOf(all), []uint64{2, 1}) || err != nil {
		t.Errorf("%v, %v", all, err)
	}
}

func TestCommitRefuses(t *testing.T) {
	d := mustLock(t, t.TempDir())
	id, other := newIdentity(t), newIdentity(t)
	mustCommit(t, d, 1, id, 1)
	wrong := recordOf(other, 2)
	for what, err := range map[string]error{
		"nothing kept": d.Commit(testSlot, recordOf(id, 2), id, 0),
		"no number":    d.Commit(testSlot, recordOf(id, 0), id, 1),
		"no identity":  d.Commit(testSlot, recordOf(id, 2), nil, 1),
		"wrong digest": d.Commit(testSlot, wrong, id, 1),
		"bad slot":     d.Commit("../pcs", recordOf(id, 2), id, 1),
		"number used":  d.Commit(testSlot, recordOf(other, 1), other, 1),
	} {
		if err == nil {
			t.Errorf("%s: committed", what)
		}
		if what == "number used" && !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if r, err := d.Current(testSlot); r.Number != 1 || r.Highest != 1 || err != nil {
		t.Errorf("%v, %v", r, err)
	}
	wantClean(t, d)
}

// TestCommitAgain: what an attempt left is adopted, if it is the same.
func TestCommitAgain(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	id := newIdentity(t)
	r := mustCommit(t, d, 1, id, 1)
	if err := os.Remove(filepath.Join(dir, "slots", testSlot, "current")); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Current(testSlot); got != (rotate.Record{Highest: 1}) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	wantClean(t, d) // as after a crash before the first swap
	r.Origin, r.Source, r.Since = rotate.FromFiles, [32]byte{4}, r.Since.Add(5)
	if err := d.Commit(testSlot, r, id, 1); err != nil {
		t.Fatal(err)
	}
	r.Highest = 1
	if got, err := d.Current(testSlot); cmp.Diff(r, got) != "" || err != nil {
		t.Error(err, cmp.Diff(r, got))
	}
	wantClean(t, d)
	// The attempt may have failed at the fsync: it is made up for before the swap.
	var calls []string
	d.disk.Fault = func(op, name string) error {
		calls = append(calls, op+" "+name)
		return nil
	}
	if err := d.Commit(testSlot, r, id, 1); err != nil {
		t.Error(err)
	}
	d.disk.Fault = nil
	if diff := cmp.Diff([]string{"fsync .", "symlink current", "rename current", "fsync ."}, calls); diff != "" {
		t.Error(diff)
	}
	// One that is not whole is not.
	testpki.WriteFile(t, filepath.Join(dir, "slots", testSlot, "generations", "1", "key.pem"), newKeyPEM(t), 0o600)
	if err := d.Commit(testSlot, r, id, 1); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("%v", err)
	}
}

func newKeyPEM(t *testing.T) []byte {
	t.Helper()
	return testpki.EncodeKey(testpki.NewKey(t, "ecdsa-p256"))
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	generations := filepath.Join(dir, "slots", testSlot, "generations")
	first, left := newIdentity(t), newIdentity(t)
	wantKept := func(want ...uint64) {
		t.Helper()
		all, err := d.History(testSlot)
		if got := numbersOf(all); !slices.Equal(got, want) || err != nil {
			t.Errorf("kept %v, want %v (%v)", got, want, err)
		}
	}
	mustCommit(t, d, 1, first, 2)
	mustCommit(t, d, 2, newIdentity(t), 2)
	wantKept(2, 1)
	mustCommit(t, d, 3, left, 2)
	wantKept(3, 2)
	mustCommit(t, d, 4, newIdentity(t), 3)
	r := recordOf(first, 5)
	r.Origin, r.Of = rotate.FromRollback, 2
	r.Held, r.Left = true, recordOf(left, 0).Digest
	if err := d.Commit(testSlot, r, first, 1); err != nil {
		t.Fatal(err)
	}
	wantKept(5, 3, 2) // 2 is what it was made of, 3 what a release goes back to
	// What is not whole counts for nothing, and goes with those around it.
	if err := os.Remove(filepath.Join(generations, "3", "key.pem")); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, d, 6, newIdentity(t), 2)
	wantKept(6, 5)
	if _, err := os.Lstat(filepath.Join(generations, "3")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("3 is still there: %v", err)
	}
	// A prune that fails is no commit that fails, and is made up for.
	d.disk.Fault = func(op, name string) error {
		if op == "rename" && strings.HasPrefix(name, ".5.") {
			return syscall.EIO
		}
		return nil
	}
	mustCommit(t, d, 7, newIdentity(t), 1)
	wantKept(7, 5)
	d.disk.Fault = nil
	mustCommit(t, d, 8, newIdentity(t), 1)
	wantKept(8)
	wantClean(t, d)
}

// TestDamage: what is not whole is an error of Current and Load, and no more in the
// history.
func TestDamage(t *testing.T) {
	other := newIdentity(t)
	outside := t.TempDir()
	for name, c := range map[string]struct {
		damage func(slot, generation string) error
		load   bool // only Load notices
	}{
		"current leads out": {damage: func(slot, _ string) error { return relink(slot, "../../../etc") }},
		"current is absolute": {damage: func(slot, generation string) error {
			return relink(slot, generation)
		}},
		"current leads about":  {damage: func(slot, _ string) error { return relink(slot, "generations/../generations/5") }},
		"current with zeros":   {damage: func(slot, _ string) error { return relink(slot, "generations/05") }},
		"current dangles":      {damage: func(slot, _ string) error { return relink(slot, "generations/6") }},
		"current is a file":    {damage: func(slot, _ string) error { return replace(filepath.Join(slot, "current"), "generations/5") }},
		"generation is a link": {damage: func(_, g string) error { return errors.Join(os.Rename(g, outside+"/5"), os.Symlink(outside+"/5", g)) }},
		"key is a link": {damage: func(_, g string) error {
			return errors.Join(os.Rename(g+"/key.pem", outside+"/key"), os.Symlink(outside+"/key", g+"/key.pem"))
		}},
		"key is a pipe": {damage: func(_, g string) error {
			return errors.Join(os.Remove(g+"/key.pem"), syscall.Mkfifo(g+"/key.pem", 0o600))
		}},
		"key is missing":  {damage: func(_, g string) error { return os.Remove(g + "/key.pem") }},
		"key of another":  {damage: func(_, g string) error { return replace(g+"/key.pem", string(mustKey(other))) }, load: true},
		"key is nonsense": {damage: func(_, g string) error { return replace(g+"/key.pem", "x") }, load: true},
		"chain of another": {damage: func(_, g string) error {
			return replace(g+"/fullchain.pem", string(pki.EncodeCertificates(other.Leaf())))
		}},
		"chain is a pipe": {damage: func(_, g string) error {
			return errors.Join(os.Remove(g+"/fullchain.pem"), syscall.Mkfifo(g+"/fullchain.pem", 0o600))
		}},
		"chain is empty":  {damage: func(_, g string) error { return replace(g+"/fullchain.pem", "") }},
		"too large":       {damage: func(_, g string) error { return replace(g+"/fullchain.pem", strings.Repeat("\n", maxFile+1)) }},
		"json is missing": {damage: func(_, g string) error { return os.Remove(g + "/generation.json") }},
		"json is torn":    {damage: func(_, g string) error { return os.Truncate(g+"/generation.json", 100) }},
		"json of another": {damage: func(_, g string) error { return edit(g+"/generation.json", `"number": 5`, `"number": 4`) }},
		"json of a slot":  {damage: func(_, g string) error { return edit(g+"/generation.json", `"slot": "pcs"`, `"slot": "other"`) }},
		"json to come":    {damage: func(_, g string) error { return edit(g+"/generation.json", `"schema": 1`, `"schema": 2`) }},
		"json lies":       {damage: func(_, g string) error { return edit(g+"/generation.json", `"digest": "`, `"digest": "00`) }},
		"unknown origin":  {damage: func(_, g string) error { return edit(g+"/generation.json", `"import"`, `"theft"`) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := mustLock(t, dir)
			mustCommit(t, d, 5, newIdentity(t), 3)
			slot := filepath.Join(dir, "slots", testSlot)
			if err := c.damage(slot, filepath.Join(slot, "generations", "5")); err != nil {
				t.Fatal(err)
			}
			r, err := d.Current(testSlot)
			if c.load != (err == nil) || c.load != (r.Number == 5) || r.Highest < 5 {
				t.Errorf("current: %v, %v", r, err)
			}
			if err != nil && (!strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "PRIVATE")) {
				t.Errorf("current: %v", err)
			}
			if id, err := d.Load(testSlot, 5); err == nil && !strings.HasPrefix(name, "current") {
				t.Errorf("loaded %v", id.Leaf().Subject)
			}
			if _, findings, err := d.Verify(t.Context()); len(findings) == 0 || err != nil {
				t.Errorf("verify finds %v, %v", findings, err)
			}
			_ = os.RemoveAll(outside + "/5")
		})
	}
}

func relink(slot, target string) error {
	link := filepath.Join(slot, "current")
	return errors.Join(os.Remove(link), os.Symlink(target, link))
}

func replace(path, content string) error {
	return errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(content), 0o600))
}

func edit(path, old, with string) error {
	data, err := os.ReadFile(path)
	if err == nil && !bytes.Contains(data, []byte(old)) {
		err = errors.New("nothing to edit: " + old)
	}
	return errors.Join(err, os.WriteFile(path, bytes.Replace(data, []byte(old), []byte(with), 1), 0o600))
}

func mustKey(id *pki.Identity) []byte { return testpki.EncodeKey(id.Signer()) }

func TestHighestCountsWhatIsNotWhole(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	mustCommit(t, d, 3, newIdentity(t), 3)
	for _, name := range []string{"12", "007", "x", "-1", ".99.X", "99999999999999999999999"} {
		if err := os.Mkdir(filepath.Join(dir, "slots", testSlot, "generations", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := d.Current(testSlot); r.Number != 3 || r.Highest != 12 || err != nil {
		t.Errorf("%v, %v", r, err)
	}
	if all, err := d.History(testSlot); !slices.Equal(numbersOf(all), []uint64{3}) || err != nil {
		t.Errorf("%v, %v", all, err)
	}
}

// TestManyAtOnce is for the race detector: slots change at once, and are read.
func TestManyAtOnce(t *testing.T) {
	d := mustLock(t, t.TempDir())
	ids := []*pki.Identity{newIdentity(t), newIdentity(t)}
	done := make(chan error)
	for _, slot := range []string{"a", "b", "c", "d"} {
		go func() {
			var errs []error
			for n := range uint64(6) {
				id := ids[n%2]
				errs = append(errs, d.Commit(slot, recordOf(id, n+1), id, 2))
				key, err := pki.GenerateKey("ecdsa-p256")
				q := newRequest(0)
				q.Slot = slot
				q, newErr := d.NewRequest(q, key, func() ([]byte, error) { return pki.NewRequest(key, testFQDN) })
				errs = append(errs, err, newErr, d.EndRequest(slot, q.ID))
			}
			done <- errors.Join(errs...)
		}()
	}
	reader, err := Open(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for left := 4; left > 0; {
		select {
		case err := <-done:
			left--
			if err != nil {
				t.Error(err)
			}
		default:
			wantClean(t, reader)
			wantClean(t, d)
			if _, err := reader.Requests(""); err != nil {
				t.Error(err)
			}
		}
	}
	wantClean(t, d)
}
