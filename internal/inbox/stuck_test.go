package inbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
)

// A full disk: the file stays, it is told once, it is judged once, and what was
// begun is taken away again.
func TestCannotBeMoved(t *testing.T) {
	for _, op := range []string{"rename", "reason", "close"} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.answer = func(name string, _ []byte) Verdict {
					return Verdict{Accepted: name == "a.pem" && op == "rename", Reason: "because"}
				}
				b.drop(t, "a.pem", "one")
				b.drop(t, "b.pem", "two")
				full := true
				b.fault = func(at, _ string) error {
					if at == op && full {
						return syscall.ENOSPC
					}
					return nil
				}
				for range 4 {
					b.Look(t.Context())
				}
				b.want(t, "", "a.pem", "b.pem")
				b.want(t, "rejected")
				b.took(t, "a.pem", "b.pem")
				if e := b.told(t, "stuck a.pem"); len(e) == 1 && (!errors.Is(e[0].Err, syscall.ENOSPC) || e[0].Hint == "") {
					t.Errorf("told %+v", e)
				}
				// Another content in the same file is another file.
				b.drop(t, "b.pem", "three")
				b.Look(t.Context())
				b.took(t, "b.pem")
				full = false
				b.Look(t.Context())
				b.took(t)
				b.want(t, "")
				if op == "rename" {
					b.told(t, "accepted a.pem", "rejected b.pem")
				} else {
					b.told(t, "rejected a.pem", "rejected b.pem")
				}
				full = true
				b.drop(t, "c.pem", "four")
				b.Look(t.Context())
				b.told(t, "stuck c.pem") // it had ended in between
			})
		})
	}
}

// While more is stuck than is remembered, nothing more is judged.
func TestStuckIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.fault = func(op, _ string) error {
			if op == "rename" {
				return syscall.EDQUOT
			}
			return nil
		}
		const more = 50
		for i := range maxStuck + more {
			b.drop(t, fmt.Sprintf("%04d", i), "good")
		}
		if err := os.Symlink("nothing", filepath.Join(b.dir, "link")); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			for b.Look(t.Context()) {
			}
		}
		if n := len(b.taken); n != maxStuck {
			t.Errorf("%d files were judged, want %d", n, maxStuck)
		}
		b.fault = func(string, string) error { return nil }
		for range 2 {
			for b.Look(t.Context()) {
			}
		}
		b.want(t, "")
		if n := len(b.taken); n != maxStuck+more {
			t.Errorf("%d files were judged, want %d", n, maxStuck+more)
		}
	})
}

// Notes are bounded, and go with their files.
func TestMemory(t *testing.T) {
	m := memory{}
	for i := range maxNotes + 10 {
		if n := m.of(id{1, uint64(i)}, 1); n.unkept != (i >= maxNotes) {
			t.Fatalf("%d: unkept %v", i, n.unkept)
		}
	}
	m.of(id{1, 7}, 2)
	m.forget(2)
	if len(m) != maxNotes {
		t.Errorf("%d notes after one round", len(m))
	}
	if m.forget(3); len(m) != 1 {
		t.Errorf("%d notes after two rounds", len(m))
	}
}

// What others take away again is not remembered for ever.
func TestForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.answer = func(string, []byte) Verdict { return Verdict{Later: true, Reason: "not yet"} }
		b.drop(t, "a.pem", "good")
		b.Look(t.Context())
		if err := os.Remove(filepath.Join(b.dir, "a.pem")); err != nil || len(b.memory) != 1 {
			t.Fatal(err, len(b.memory))
		}
		for range 3 {
			b.Look(t.Context())
		}
		if len(b.memory) != 0 {
			t.Errorf("%d notes on files that are gone", len(b.memory))
		}
	})
}
