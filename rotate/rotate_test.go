package rotate

import (
	"os"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestPairWrittenOneAfterTheOther(t *testing.T) {
	for _, order := range []string{"key first", "certificate first"} {
		t.Run(order, func(t *testing.T) {
			b := newBench(t)
			first, second := b.sub.Issue(t, testpki.Name("pcs.nhs.uk")), b.sub.Issue(t, testpki.Name("pcs.nhs.uk"))
			b.pair(first)
			b.start()
			b.serves(first)
			parts := []func(){
				func() { b.put("pcs.key", second.KeyPEM(), 0o600) },
				func() { b.put("pcs.crt", second.FullChainPEM(), 0o644) },
			}
			if order == "certificate first" {
				parts[0], parts[1] = parts[1], parts[0]
			}
			parts[0]()
			b.state(SlotPending)
			b.still(first)
			parts[1]()
			b.serves(second)
			b.state(SlotReady)
			if got := b.pcs().Snapshot().Generation.Number; got != 2 {
				t.Errorf("generation %d, want 2", got)
			}
		})
	}
}

func TestSlotFollowsHoweverFilesChange(t *testing.T) {
	link := func(b *bench, target, name string) {
		if err := os.Symlink(target, b.path(name+".tmp")); err != nil {
			b.t.Fatal(err)
		}
		if err := os.Rename(b.path(name+".tmp"), b.path(name)); err != nil {
			b.t.Fatal(err)
		}
	}
	set := func(b *bench, dir string, l *testpki.Leaf) {
		if err := os.Mkdir(b.path(dir), 0o755); err != nil {
			b.t.Fatal(err)
		}
		b.write(dir+"/tls.crt", l.FullChainPEM(), 0o644)
		b.write(dir+"/tls.key", l.KeyPEM(), 0o600)
	}
	tests := map[string]struct {
		files  Files
		before func(b *bench, l *testpki.Leaf)
		change func(b *bench, l *testpki.Leaf)
	}{
		"rename over": {
			before: func(b *bench, l *testpki.Leaf) { b.pair(l) },
			change: func(b *bench, l *testpki.Leaf) { b.pair(l) },
		},
		"written in place": {
			before: func(b *bench, l *testpki.Leaf) { b.pair(l) },
			change: func(b *bench, l *testpki.Leaf) {
				b.write("pcs.crt", l.FullChainPEM(), 0o644)
				b.write("pcs.key", l.KeyPEM(), 0o600)
			},
		},
		"symlinks swapped": {
			before: func(b *bench, l *testpki.Leaf) {
				set(b, "one", l)
				link(b, "one/tls.crt", "pcs.crt")
				link(b, "one/tls.key", "pcs.key")
			},
			change: func(b *bench, l *testpki.Leaf) {
				set(b, "two", l)
				link(b, "two/tls.crt", "pcs.crt")
				link(b, "two/tls.key", "pcs.key")
			},
		},
		"directory symlink swapped": {
			files:  Files{Certificate: "live/tls.crt", Key: "live/tls.key"},
			before: func(b *bench, l *testpki.Leaf) { set(b, "one", l); link(b, "one", "live") },
			change: func(b *bench, l *testpki.Leaf) { set(b, "two", l); link(b, "two", "live") },
		},
		"kubernetes ..data": {
			files: Files{Certificate: "tls.crt", Key: "tls.key"},
			before: func(b *bench, l *testpki.Leaf) {
				set(b, "..one", l)
				link(b, "..one", "..data")
				link(b, "..data/tls.crt", "tls.crt")
				link(b, "..data/tls.key", "tls.key")
			},
			change: func(b *bench, l *testpki.Leaf) { set(b, "..two", l); link(b, "..two", "..data") },
		},
		"deleted and recreated": {
			before: func(b *bench, l *testpki.Leaf) { b.pair(l) },
			change: func(b *bench, l *testpki.Leaf) {
				for _, f := range []string{"pcs.crt", "pcs.key"} {
					if err := os.Remove(b.path(f)); err != nil {
						b.t.Fatal(err)
					}
				}
				b.state(SlotPending)
				b.pair(l)
			},
		},
		"directory replaced by rename": {
			files:  Files{Certificate: "live/tls.crt", Key: "live/tls.key"},
			before: func(b *bench, l *testpki.Leaf) { set(b, "live", l) },
			change: func(b *bench, l *testpki.Leaf) {
				set(b, "next", l)
				if err := os.Rename(b.path("live"), b.path("old")); err != nil {
					b.t.Fatal(err)
				}
				if err := os.Rename(b.path("next"), b.path("live")); err != nil {
					b.t.Fatal(err)
				}
			},
		},
		"directory that appears later": {
			files:  Files{Certificate: "deep/er/tls.crt", Key: "deep/er/tls.key"},
			before: func(*bench, *testpki.Leaf) {},
			change: func(b *bench, l *testpki.Leaf) {
				if err := os.Mkdir(b.path("deep"), 0o755); err != nil {
					b.t.Fatal(err)
				}
				set(b, "deep/er", l)
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := b.sub.Issue(t, testpki.Name("pcs.nhs.uk")), b.sub.Issue(t, testpki.Name("pcs.nhs.uk"))
			tc.before(b, first)
			if tc.files.Certificate != "" {
				b.slot.Files = Files{Certificate: b.path(tc.files.Certificate), Key: b.path(tc.files.Key)}
			}
			b.start()
			if b.pcs().Snapshot() != nil {
				b.serves(first)
			}
			tc.change(b, second)
			b.serves(second)
			b.state(SlotReady)
		})
	}
}
