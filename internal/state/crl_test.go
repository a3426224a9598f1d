package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

const crlAddress = "http://crl.nhs.uk/live/1c/crlc1.crl"

func keptList(n int) rotate.KeptCRL {
	return rotate.KeptCRL{Address: crlAddress, ETag: fmt.Sprintf(`"%d"`, n), LastModified: "Sun, 22 Nov 2026 10:00:00 GMT", Fetched: time.Date(2026, 11, 22, 10, n, 0, 0, time.UTC)}
}

// contentsOf makes a list that is told from others by its bytes; nothing here reads it.
func contentsOf(n int) []byte { return bytes.Repeat([]byte{byte(n), 0x30}, 70_000) }

// keepList spools data and keeps it.
func keepList(d *Directory, environment string, k rotate.KeptCRL, data []byte) error {
	spool, err := d.SpoolCRL()
	if err != nil {
		return err
	}
	defer spool.Close()
	if _, err := spool.Write(data); err != nil {
		return err
	}
	return d.KeepCRL(environment, k, spool)
}

func readList(d *Directory, environment, address string) ([]byte, error) {
	f, err := d.OpenCRL(environment, address)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// wantLists wants exactly these to be kept of environment live.
func wantLists(t *testing.T, d *Directory, want ...rotate.KeptCRL) {
	t.Helper()
	got, err := d.ListCRLs("live")
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

// listFile is the path of a file of the list at crlAddress.
func listFile(d *Directory, suffix string) string {
	return filepath.Join(d.Path(), "crl", "live", crlSum(crlAddress)+suffix)
}

func TestCRLsAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := mustLock(t, dir)
	wantLists(t, d)
	carried := rotate.KeptCRL{Address: rotate.CarriedPrefix + "ürgent list.crl", Fetched: time.Date(2026, 11, 22, 11, 0, 0, 7, time.UTC)}
	if err := errors.Join(keepList(d, "live", keptList(1), contentsOf(1)), keepList(d, "live", carried, contentsOf(2)), keepList(d, "int", keptList(3), nil)); err != nil {
		t.Fatal(err)
	}
	both := []rotate.KeptCRL{keptList(1), carried}
	slices.SortFunc(both, func(a, b rotate.KeptCRL) int { return strings.Compare(crlSum(a.Address), crlSum(b.Address)) })
	wantLists(t, d, both...)
	wantClean(t, d)
	if err := checkModes(dir); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	d = mustLock(t, dir) // what is whole is not swept
	wantLists(t, d, both...)
	for address, want := range map[string][]byte{crlAddress: contentsOf(1), carried.Address: contentsOf(2)} {
		if got, err := readList(d, "live", address); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", address, len(got), err)
		}
	}
	if err := errors.Join(keepList(d, "live", keptList(4), contentsOf(4)), d.DropCRL("live", carried.Address), d.DropCRL("live", carried.Address)); err != nil {
		t.Fatal(err)
	}
	wantLists(t, d, keptList(4))
	if got, err := readList(d, "live", crlAddress); err != nil || !bytes.Equal(got, contentsOf(4)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := d.OpenCRL("live", carried.Address); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was dropped: %v", err)
	}
	wantClean(t, d)
}

// TestSameCRL: a server that has nothing newer changes what is known of a list, and
// not the list.
func TestSameCRL(t *testing.T) {
	t.Parallel()
	d := mustLock(t, t.TempDir())
	if err := d.KeepCRL("live", keptList(1), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a list that was never kept: %v", err)
	}
	if err := keepList(d, "live", keptList(1), contentsOf(1)); err != nil {
		t.Fatal(err)
	}
	later := keptList(1)
	later.Fetched = later.Fetched.Add(time.Hour)
	if err := d.KeepCRL("live", later, nil); err != nil {
		t.Fatal(err)
	}
	wantLists(t, d, later)
	if got, err := readList(d, "live", crlAddress); err != nil || !bytes.Equal(got, contentsOf(1)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}

	// The ETag of an answer that never came to the disk would freeze the older list.
	if err := d.KeepCRL("live", keptList(2), nil); err != nil {
		t.Fatal(err)
	}
	bare := keptList(2)
	bare.ETag, bare.LastModified = "", ""
	wantLists(t, d, bare)
}

// TestTornCRL: list and description that do not fit are from before and after a
// crash. The list is kept, and asked for anew.
func TestTornCRL(t *testing.T) {
	t.Parallel()
	bare := keptList(1)
	bare.ETag, bare.LastModified = "", ""
	for _, c := range []struct {
		name    string
		tear    func(d *Directory) error
		want    []rotate.KeptCRL
		error   string // of ListCRLs
		finding string // "" is none
		swept   bool   // gone with the next start
	}{
		{"another list", func(d *Directory) error { return os.WriteFile(listFile(d, ".crl"), contentsOf(9), 0o600) }, []rotate.KeptCRL{bare}, "", CodeDigest + " .crl", false},
		{"half a list", func(d *Directory) error { return os.Truncate(listFile(d, ".crl"), 1000) }, []rotate.KeptCRL{bare}, "", CodeDigest + " .crl", false},
		{"an empty list", func(d *Directory) error { return os.Truncate(listFile(d, ".crl"), 0) }, []rotate.KeptCRL{bare}, "", CodeDigest + " .crl", false},
		{"no list", func(d *Directory) error { return os.Remove(listFile(d, ".crl")) }, nil, "no such file", CodeMissing + " .json", true},
		{"no description", func(d *Directory) error { return os.Remove(listFile(d, ".json")) }, nil, "", CodeMissing + " .crl", true},
		{"half a description", func(d *Directory) error { return os.Truncate(listFile(d, ".json"), 50) }, nil, "no JSON", CodeUnreadable + " .json", false},
		{"an empty description", func(d *Directory) error { return os.WriteFile(listFile(d, ".json"), []byte(`{"schema":1}`), 0o600) }, nil, "not complete", CodeUnreadable + " .json", false},
		{"of a later version", func(d *Directory) error {
			return rewrite(listFile(d, ".json"), `"schema": 1`, `"schema": 2`)
		}, nil, "not supported", CodeUnreadable + " .json", false},
		{"of another address", func(d *Directory) error {
			return rewrite(listFile(d, ".json"), "crlc1.crl", "crlc2.crl")
		}, nil, "of another address", CodeUnreadable + " .json", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := mustLock(t, t.TempDir())
			if err := errors.Join(keepList(d, "live", keptList(1), contentsOf(1)), c.tear(d)); err != nil {
				t.Fatal(err)
			}
			got, err := d.ListCRLs("live")
			if diff := cmp.Diff(c.want, got); diff != "" || (c.error == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.error) {
				t.Errorf("%v; kept (-want +got):\n%s", err, diff)
			}
			code, suffix, _ := strings.Cut(c.finding, " ")
			wantCodes(t, d, code+" crl/live/"+crlSum(crlAddress)+suffix)

			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d = mustLock(t, d.Path())
			if c.swept {
				wantClean(t, d)
				wantLists(t, d)
			}
			// Whatever it is, the next answer mends it.
			if err := keepList(d, "live", keptList(2), contentsOf(2)); err != nil {
				t.Fatal(err)
			}
			wantLists(t, d, keptList(2))
			wantClean(t, d)
		})
	}
}

func rewrite(path, old, text string) error {
	data, err := os.ReadFile(path)
	if err == nil && !bytes.Contains(data, []byte(old)) {
		err = errors.New("nothing to rewrite")
	}
	return errors.Join(err, os.WriteFile(path, bytes.ReplaceAll(data, []byte(old), []byte(text)), 0o600))
}

// TestHostileCRLs: whatever was put there is neither followed nor waited for.
func TestHostileCRLs(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(path string) error{
		"link":         func(p string) error { return os.Symlink(secret, p) },
		"link to zero": func(p string) error { return os.Symlink("/dev/zero", p) },
		"pipe":         func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"directory":    func(p string) error { return os.Mkdir(p, 0o700) },
		"huge":         func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 1<<40)) },
	} {
		for _, suffix := range []string{".crl", ".json"} {
			t.Run(name+suffix, func(t *testing.T) {
				t.Parallel()
				d := mustLock(t, t.TempDir())
				path := listFile(d, suffix)
				if err := errors.Join(keepList(d, "live", keptList(1), contentsOf(1)), os.Remove(path), plant(path)); err != nil {
					t.Fatal(err)
				}
				got, err := d.ListCRLs("live")
				if err == nil || len(got) != 0 || strings.Contains(err.Error(), "secret") {
					t.Errorf("list: %v, %v", got, err)
				}
				if f, err := d.OpenCRL("live", crlAddress); suffix == ".crl" && err == nil {
					t.Errorf("opened %s", f.Name())
				}
				wantCodes(t, d, CodeUnreadable+" crl/live/"+crlSum(crlAddress)+suffix)
				err = keepList(d, "live", keptList(2), contentsOf(2))
				if (err == nil) != (name == "huge") { // what is no file of ours is not taken away
					t.Errorf("keep: %v", err)
				}
				if data, _ := os.ReadFile(secret); string(data) != "secret" {
					t.Errorf("the target of the link holds %q", data)
				}
			})
		}
	}
}

// TestCRLDirectoriesAreNotFollowed: nor are links in the place of directories.
func TestCRLDirectoriesAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"crl", "crl/live"} {
		d := mustLock(t, t.TempDir())
		elsewhere := t.TempDir()
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(d.Path(), name)), 0o700), os.Symlink(elsewhere, filepath.Join(d.Path(), name))); err != nil {
			t.Fatal(err)
		}
		if err := keepList(d, "live", keptList(1), contentsOf(1)); err == nil {
			t.Errorf("%s: kept", name)
		}
		if _, err := d.ListCRLs("live"); err == nil {
			t.Errorf("%s: listed", name)
		}
		if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
			t.Errorf("%s: written elsewhere: %v, %v", name, entries, err)
		}
	}
}

func TestCRLBounds(t *testing.T) {
	t.Parallel()
	d := mustLock(t, t.TempDir())
	long := keptList(1)
	long.Address = "http://crl.nhs.uk/" + strings.Repeat("a", maxCRLInfo)
	if err := keepList(d, "live", long, nil); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long address: %v", err)
	}
	spool, err := d.SpoolCRL()
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	if err := errors.Join(spool.Truncate(MaxCRL + 1)); err != nil {
		t.Fatal(err)
	}
	if err := d.KeepCRL("live", keptList(1), spool); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a huge list: %v", err)
	}
	wantLists(t, d)
	for _, err := range []error{d.KeepCRL("../live", keptList(1), nil), d.DropCRL("../live", crlAddress)} {
		if err == nil {
			t.Error("a path for an environment")
		}
	}
	if err := keepList(d, "live", keptList(1), contentsOf(1)); err != nil {
		t.Fatal(err)
	}
	for n := range MaxCRLs - 1 {
		if err := os.WriteFile(filepath.Join(d.Path(), "crl", "live", crlSum(fmt.Sprint(n))+".crl"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := rotate.KeptCRL{Address: "http://crl.nhs.uk/other.crl"}
	if err := keepList(d, "live", other, nil); err == nil || pki.Hint(err) == "" {
		t.Errorf("one too many: %v", err)
	}
	if err := keepList(d, "live", keptList(2), contentsOf(2)); err != nil { // one that is there is replaced
		t.Error(err)
	}
}

// TestCRLsReadOnly: who has no lock reads, and changes nothing.
func TestCRLsReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := keepList(mustLock(t, dir), "live", keptList(1), contentsOf(1)); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	wantLists(t, d, keptList(1))
	_, spoolErr := d.SpoolCRL()
	for what, err := range map[string]error{"spool": spoolErr, "keep": d.KeepCRL("live", keptList(1), nil), "drop": d.DropCRL("live", crlAddress)} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	wantLists(t, d, keptList(1))
}

// TestSpoolHasNoName: a crash leaves nothing of a download.
func TestSpoolHasNoName(t *testing.T) {
	t.Parallel()
	d := mustLock(t, t.TempDir())
	spool, err := d.SpoolCRL()
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	if entries, err := os.ReadDir(filepath.Join(d.Path(), "crl")); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
	if info, err := spool.Stat(); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
