package sandbox

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// content of a pair: both halves carry the number, so a mixture shows.
func numbered(n int) pair {
	return pair{[]byte("certificate " + strconv.Itoa(n)), []byte("key " + strconv.Itoa(n))}
}

func (p *place) content(t *testing.T) pair {
	t.Helper()
	certificate, err := os.ReadFile(p.certificate())
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(p.key())
	if err != nil {
		t.Fatal(err)
	}
	return pair{certificate, key}
}

func TestStyles(t *testing.T) {
	// Every style after every other: each must cope with what the last one left.
	n := 0
	p, err := newPlace(filepath.Join(t.TempDir(), "slot"), numbered(n), 0)
	if err != nil {
		t.Fatal(err)
	}
	write := func(s style) {
		t.Helper()
		n++
		before := time.Now()
		completed, err := p.write(s, numbered(n))
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if completed.Before(before) || completed.After(time.Now()) {
			t.Errorf("%s: completed at %v, not between start and end", s, completed)
		}
		got := p.content(t)
		if want := numbered(n); !bytes.Equal(got.certificate, want.certificate) || !bytes.Equal(got.key, want.key) {
			t.Errorf("%s: content %s, %s; want number %d", s, got.certificate, got.key, n)
		}
		for _, path := range []string{p.certificate(), p.key()} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, mode %v", s, err, info.Mode())
			}
		}
	}
	for _, first := range styles() {
		for _, second := range styles() {
			write(first)
			write(second)
		}
	}
	// A long run leaves a handful of directories behind.
	files := 0
	if err := filepath.WalkDir(p.dir, func(string, os.DirEntry, error) error { files++; return nil }); err != nil {
		t.Fatal(err)
	}
	if files > 40 {
		t.Errorf("%d files and directories after %d rotations", files, n)
	}
}

func TestDataIsOneStep(t *testing.T) {
	p, err := newPlace(t.TempDir(), numbered(0), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.write(swapData, numbered(1)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		p.certificate(): "..data/tls.crt", p.key(): "..data/tls.key",
	} {
		if got, err := os.Readlink(path); err != nil || got != want {
			t.Errorf("%s points to %q (%v), want %q", path, got, err, want)
		}
	}
	// The conversion must not change what is read: it is no rotation.
	if _, err := p.write(renameBoth, numbered(2)); err != nil {
		t.Fatal(err)
	}
	if err := p.useData(); err != nil {
		t.Fatal(err)
	}
	if got := p.content(t); string(got.certificate) != "certificate 2" || string(got.key) != "key 2" {
		t.Errorf("content %s, %s after conversion", got.certificate, got.key)
	}
}

func TestPlan(t *testing.T) {
	for _, n := range []int{1, 2, 9, 10, 11, 20, 21, 100, 1000} {
		broken, proxies, slots := 0, 0, map[string]int{}
		on, kinds := map[string]int{}, map[defect]int{}
		for _, s := range plan(n) {
			slots[s.slot]++
			if s.broken != "" {
				broken++
				on[s.slot]++
				kinds[s.broken]++
			}
			if s.proxy {
				proxies++
			}
		}
		if broken != brokenOf(n) || broken*brokenPer < n {
			t.Errorf("%d rotations: %d broken, want %d", n, broken, brokenOf(n))
		}
		if n >= 100 && (len(kinds) != len(defects()) || on[providerSlot] != on[consumerSlot] || proxies != n/10 || slots[providerSlot] != slots[consumerSlot]) {
			t.Errorf("%d rotations: kinds %v, on %v, slots %v, stand-in %d", n, kinds, on, slots, proxies)
		}
	}
}
