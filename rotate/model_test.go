package rotate

import (
	"context"
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spinecert/spinecert/internal/testpki"
)

// model knows what lies on disk: which leaf each file belongs to, and which pairs
// were ever complete.
type model struct {
	b        *bench
	leaves   []*testpki.Leaf
	key, crt int          // index of the leaf in the live set; -1: missing, torn or a stranger's
	complete map[int]bool // pairs that lay there whole at some moment
	newest   int          // the newest of them
	n        int          // names of directories
}

// settle notes whether the files are a whole pair now. Of whole pairs, an older
// one than the one before is refused by the guard.
func (m *model) settle() {
	if m.key == m.crt && m.key >= 0 {
		m.complete[m.key] = true
		m.newest = max(m.newest, m.key)
	}
}

func (m *model) file(r *rapid.T) (name string, of *int, data []byte, leaf int) {
	leaf = rapid.IntRange(0, len(m.leaves)-1).Draw(r, "leaf")
	if rapid.Bool().Draw(r, "key") {
		return "live/pcs.key", &m.key, m.leaves[leaf].KeyPEM(), leaf
	}
	return "live/pcs.crt", &m.crt, m.leaves[leaf].FullChainPEM(), leaf
}

func (m *model) actions() map[string]func(*rapid.T) {
	whole := func(r *rapid.T) { // both, of the next newest: what a renewal does
		leaf := min(m.newest+1, len(m.leaves)-1)
		m.b.put("live/pcs.key", m.leaves[leaf].KeyPEM(), 0o600)
		if m.key = leaf; m.key == m.crt {
			m.settle()
		}
		m.b.put("live/pcs.crt", m.leaves[leaf].FullChainPEM(), 0o644)
		m.crt = leaf
		m.settle()
	}
	return map[string]func(*rapid.T){
		"renew": whole,
		"rename over": func(r *rapid.T) {
			name, of, data, leaf := m.file(r)
			m.b.put(name, data, 0o600)
			*of = leaf
			m.settle()
		},
		"write in place": func(r *rapid.T) {
			name, of, data, leaf := m.file(r)
			if info, err := os.Lstat(m.b.path(name)); err == nil && info.Mode()&os.ModeSymlink != 0 {
				return // it would be written through the link, into the other set
			}
			m.b.write(name, data, 0o600)
			*of = leaf
			m.settle()
		},
		"tear": func(r *rapid.T) {
			name, of, data, leaf := m.file(r)
			// Not behind the leaf: that alone is whole, the bundle has the rest.
			most := min(len(m.leaves[leaf].CertPEM()), len(m.leaves[leaf].KeyPEM())) - 30
			m.b.put(name, data[:rapid.IntRange(0, most).Draw(r, "cut")], 0o600)
			*of = -1
		},
		"delete": func(r *rapid.T) {
			name, of, _, _ := m.file(r)
			_ = os.Remove(m.b.path(name))
			*of = -1
		},
		"link": func(r *rapid.T) {
			name, of, data, leaf := m.file(r)
			m.n++
			target := filepath.Join("sets", string(rune('a'+m.n%26)), strings.TrimPrefix(name, "live/"))
			_ = os.Remove(m.b.path(target))
			m.b.write(target, data, 0o600)
			_ = os.Remove(m.b.path("link"))
			m.b.do(os.Symlink(m.b.path(target), m.b.path("link")))
			m.b.do(os.Rename(m.b.path("link"), m.b.path(name)))
			*of = leaf
			m.settle()
		},
		"swap the directory": func(r *rapid.T) {
			leaf := rapid.IntRange(0, len(m.leaves)-1).Draw(r, "leaf")
			m.b.write("next/pcs.key", m.leaves[leaf].KeyPEM(), 0o600)
			m.b.write("next/pcs.crt", m.leaves[leaf].FullChainPEM(), 0o644)
			m.b.do(os.Rename(m.b.path("live"), m.b.path("gone")))
			m.b.do(os.Rename(m.b.path("next"), m.b.path("live")))
			m.b.do(os.RemoveAll(m.b.path("gone")))
			m.key, m.crt = leaf, leaf
			m.settle()
		},
		"wait": func(*rapid.T) { time.Sleep(3 * time.Millisecond) },
		"":     func(r *rapid.T) { m.check(r) },
	}
}

// check: whatever lies there, the slot serves a pair that was once complete.
func (m *model) check(r *rapid.T) {
	snap := m.b.pcs().Snapshot()
	if snap == nil {
		return
	}
	for i, l := range m.leaves {
		if snap.Generation.Identity.Leaf().Equal(l.Cert) {
			id := snap.Generation.Identity
			if !id.Signer().Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(l.Cert.PublicKey) {
				r.Fatalf("the slot serves certificate %d with another key", i)
			}
			if !m.complete[i] {
				r.Fatalf("the slot serves pair %d, which was never whole", i)
			}
			return
		}
	}
	r.Fatal("the slot serves what was never there")
}

func TestModel(t *testing.T) {
	root := testpki.NewRoot(t)
	sub := root.SubCA(t)
	var leaves []*testpki.Leaf
	for i := range 6 { // each starts a minute after the one before it
		from := time.Now().Add(time.Duration(i-30) * time.Minute)
		leaves = append(leaves, sub.Issue(t, testpki.Name("pcs.nhs.uk"), testpki.Validity(from, from.Add(time.Hour))))
	}
	rapid.Check(t, func(r *rapid.T) {
		b := newBench(t)
		b.root, b.sub = root, sub
		b.write("trust.pem", sub.BundlePEM(), 0o644)
		b.slot.Files = Files{Certificate: b.path("live/pcs.crt"), Key: b.path("live/pcs.key")}
		b.do(os.Mkdir(b.path("live"), 0o755))
		k := New(Options{})
		b.keeper = k
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		b.apply()
		m := &model{b: b, leaves: leaves, key: -1, crt: -1, complete: map[int]bool{}, newest: -1}
		r.Repeat(m.actions())

		// Whatever happened before: what is whole now, and not older than anything, is served.
		m.actions()["renew"](r)
		b.serves(leaves[m.newest])
		b.state(SlotReady)
	})
}
