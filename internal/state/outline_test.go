package state

import (
	"crypto/sha256"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/rotate"
)

func outlinesOf(d *Directory, below uint64, limit int) (numbers []uint64) {
	for _, o := range d.Outlines(testSlot, below, limit) {
		numbers = append(numbers, o.Number)
	}
	return numbers
}

func TestOutlines(t *testing.T) {
	d := mustLock(t, t.TempDir())
	if got := outlinesOf(d, math.MaxUint64, 9); got != nil {
		t.Errorf("nothing is kept: %v", got)
	}
	var records []rotate.Record
	id := newIdentity(t)
	for n := range uint64(4) {
		records = append(records, mustCommit(t, d, n+1, id, 9))
	}
	leaf := id.Leaf()
	want := Outline{Record: records[2], NotBefore: leaf.NotBefore.UTC(), Serial: leaf.SerialNumber.Text(16), SHA256: sha256.Sum256(leaf.Raw)}
	if diff := cmp.Diff([]Outline{want}, d.Outlines(testSlot, 4, 1)); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct {
		below uint64
		limit int
		want  []uint64
	}{{math.MaxUint64, 9, []uint64{4, 3, 2, 1}}, {4, 9, []uint64{3, 2, 1}}, {3, 1, []uint64{2}}, {1, 9, nil}, {9, 0, nil}} {
		if got := outlinesOf(d, tt.below, tt.limit); !slices.Equal(got, tt.want) {
			t.Errorf("below %d, at most %d: %v, want %v", tt.below, tt.limit, got, tt.want)
		}
	}
	for _, name := range []string{"", "..", "other", "a/b"} {
		if got := d.Outlines(name, 9, 9); len(got) != 0 {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// TestOutlinesOfDamage: what is damaged is left out, blocks nothing and leads nowhere else.
func TestOutlinesOfDamage(t *testing.T) {
	outside := t.TempDir()
	for what, damage := range map[string]func(file string) error{
		"missing":        os.Remove,
		"empty":          func(file string) error { return os.Truncate(file, 0) },
		"half":           func(file string) error { return os.Truncate(file, 200) },
		"large":          func(file string) error { return os.Truncate(file, maxOutline+1) },
		"of another":     edited("\"number\": 2", "\"number\": 3"),
		"of a slot":      edited("\"slot\": \"pcs\"", "\"slot\": \"other\""),
		"a later schema": edited("\"schema\": 1", "\"schema\": 2"),
		"odd serial":     edited("\"serial\": \"", "\"serial\": \"\\u001b[31m"),
		"odd digest":     edited("\"sha256\": \"", "\"sha256\": \"0"),
		"a pipe":         func(file string) error { return replaceBy(file, func() error { return unix.Mkfifo(file, 0o600) }) },
		"a directory":    func(file string) error { return replaceBy(file, func() error { return os.Mkdir(file, 0o700) }) },
		"a link": func(file string) error {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			elsewhere := filepath.Join(outside, "generation.json")
			if err := os.WriteFile(elsewhere, data, 0o600); err != nil {
				return err
			}
			return replaceBy(file, func() error { return os.Symlink(elsewhere, file) })
		},
		"a linked directory": func(file string) error {
			dir := filepath.Dir(file)
			elsewhere := filepath.Join(outside, "2")
			if err := os.Rename(dir, elsewhere); err != nil {
				return err
			}
			return os.Symlink(elsewhere, dir)
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := mustLock(t, t.TempDir())
			id := newIdentity(t)
			for n := range uint64(3) {
				mustCommit(t, d, n+1, id, 9)
			}
			if err := damage(d.abs(generationPath(testSlot, 2), generationFile)); err != nil {
				t.Fatal(err)
			}
			if got := outlinesOf(d, math.MaxUint64, 9); !slices.Equal(got, []uint64{3, 1}) {
				t.Errorf("read %v", got)
			}
		})
	}
}

// TestOutlineOfManyNames: a file that does not fit the first buffer is read whole.
func TestOutlineOfManyNames(t *testing.T) {
	d := mustLock(t, t.TempDir())
	mustCommit(t, d, 1, newIdentity(t), 9)
	names := "\"names\": [" + strings.Repeat("\"a.nhs.uk\",", 3000)
	if err := edit(d.abs(generationPath(testSlot, 1), generationFile), "\"names\": [", names); err != nil {
		t.Fatal(err)
	}
	if got := outlinesOf(d, 2, 9); !slices.Equal(got, []uint64{1}) {
		t.Errorf("read %v", got)
	}
}

// edited replaces the first place of a text in a file.
func edited(old, replacement string) func(string) error {
	return func(file string) error { return edit(file, old, replacement) }
}

func replaceBy(file string, with func() error) error {
	if err := os.Remove(file); err != nil {
		return err
	}
	return with()
}
