package rotate

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

func TestBrokenFilesKeepTheLastGood(t *testing.T) {
	half := func(b []byte) []byte { return b[:len(b)/2] }
	tests := map[string]struct {
		file  string
		data  func(l *testpki.Leaf) []byte
		state SlotState
	}{
		"empty key":               {"pcs.key", func(*testpki.Leaf) []byte { return nil }, SlotPending},
		"empty certificate":       {"pcs.crt", func(*testpki.Leaf) []byte { return nil }, SlotPending},
		"key cut in its middle":   {"pcs.key", func(l *testpki.Leaf) []byte { return half(l.KeyPEM()) }, SlotPending},
		"leaf cut in its middle":  {"pcs.crt", func(l *testpki.Leaf) []byte { return half(l.CertPEM()) }, SlotPending},
		"chain cut in its middle": {"pcs.crt", func(l *testpki.Leaf) []byte { return append(l.CertPEM(), half(l.ChainPEM())...) }, SlotPending},
		"cut in the END line":     {"pcs.crt", func(l *testpki.Leaf) []byte { c := l.FullChainPEM(); return c[:len(c)-8] }, SlotPending},
		"another key":             {"pcs.key", func(*testpki.Leaf) []byte { return testpki.EncodeKey(testpki.NewKey(t, "ecdsa-p256")) }, SlotPending},
		"zeroes":                  {"pcs.key", func(*testpki.Leaf) []byte { return make([]byte, 4096) }, SlotPending},
		"encrypted key": {"pcs.key", func(*testpki.Leaf) []byte {
			return []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
		}, SlotRefused},
		"over the limit": {"pcs.crt", func(*testpki.Leaf) []byte { return make([]byte, maxSourceFile+1) }, SlotRefused},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := b.leaf(), b.leaf()
			b.pair(first)
			b.start()
			b.serves(first)
			b.write(tc.file, tc.data(second), 0o600) // in place: a torn write
			b.state(tc.state)
			if err := b.pcs().Status().Refusal; !strings.Contains(err.Error(), tc.file) {
				t.Errorf("the refusal does not name %s: %v", tc.file, err)
			}
			b.still(first)
			b.pair(second)
			b.serves(second)
			b.state(SlotReady)
		})
	}
}

func TestRestoredFilesAreTold(t *testing.T) {
	b := newBench(t)
	only := b.leaf()
	b.pair(only)
	b.start()
	for range 2 {
		cleared := b.count(EventCleared)
		b.write("pcs.key", nil, 0o600)
		b.state(SlotPending)
		b.put("pcs.key", only.KeyPEM(), 0o600)
		b.state(SlotReady)
		b.until("it is told that the files are good again", func() bool { return b.count(EventCleared) == cleared+1 })
	}
	if got := b.count(EventRotated); got != 1 {
		t.Errorf("rotated %d times, want once: the same identity came back", got)
	}
}

func TestNotARegularFile(t *testing.T) {
	put := map[string]func(b *bench) error{
		"directory": func(b *bench) error { return os.Mkdir(b.path("pcs.key"), 0o700) },
		"fifo":      func(b *bench) error { return syscall.Mkfifo(b.path("pcs.key"), 0o600) },
		"device":    func(b *bench) error { return os.Symlink("/dev/zero", b.path("pcs.key")) },
		"link loop": func(b *bench) error { return os.Symlink("pcs.key", b.path("pcs.key")) },
	}
	for name, make := range put {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := b.leaf(), b.leaf()
			b.pair(first)
			b.start()
			b.do(os.Remove(b.path("pcs.key")))
			b.do(make(b))
			b.refused(reasonUnreadable)
			b.still(first)
			b.do(os.Remove(b.path("pcs.key")))
			b.pair(second)
			b.serves(second)
		})
	}
}

// Root may read everything, so this test runs in a process of its own as nobody.
func TestPermissionsTakenAndGivenBack(t *testing.T) {
	if os.Geteuid() == 0 {
		if child(t, nil) {
			return
		}
		nobody := 65534
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			t.Skipf("cannot become nobody: %v", err)
		}
	}
	for name, tc := range map[string]struct {
		path string
		mode os.FileMode
	}{
		"of the key":       {"live/pcs.key", 0o600},
		"of the directory": {"live", 0o755},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := b.leaf(), b.leaf()
			b.slot.Files = Files{Certificate: b.path("live/pcs.crt"), Key: b.path("live/pcs.key")}
			b.write("live/pcs.key", first.KeyPEM(), 0o600)
			b.write("live/pcs.crt", first.FullChainPEM(), 0o644)
			b.start()
			b.serves(first)
			b.do(os.Chmod(b.path(tc.path), 0))
			r := b.refused(reasonUnreadable)
			if !errors.Is(r, os.ErrPermission) || r.Hint() == "" {
				t.Errorf("refusal %v, hint %q", r, r.Hint())
			}
			b.still(first)
			b.do(os.Chmod(b.path(tc.path), tc.mode))
			b.state(SlotReady)
			b.put("live/pcs.key", second.KeyPEM(), 0o600)
			b.put("live/pcs.crt", second.FullChainPEM(), 0o644)
			b.serves(second)
			b.do(os.Chmod(b.path("live"), 0o755))
		})
	}
}

func TestKeyThatOthersMayRead(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"readable by others": 0o604, "writable by the group": 0o660, "in a readable file": 0o644} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := b.leaf(), b.leaf()
			b.pair(first)
			b.start()
			b.put("pcs.key", second.KeyPEM(), mode)
			b.put("pcs.crt", second.FullChainPEM(), 0o644)
			r := b.refused(reasonKeyReadable)
			if !strings.Contains(r.Hint(), "chmod") || !strings.Contains(r.Error(), "pcs.key") {
				t.Errorf("refusal %q, hint %q", r, r.Hint())
			}
			b.still(first)
			b.do(os.Chmod(b.path("pcs.key"), 0o640))
			b.serves(second)
		})
	}
	t.Run("allowed", func(t *testing.T) {
		b := newBench(t)
		only := b.leaf()
		b.put("pcs.key", only.KeyPEM(), 0o644)
		b.put("pcs.crt", only.FullChainPEM(), 0o644)
		b.start()
		b.refused(reasonKeyReadable)
		if b.pcs().Snapshot() != nil {
			t.Fatal("a key that others may read is served")
		}
		b.slot.AllowReadableKey = true
		b.apply()
		b.serves(only)
	})
}

func TestPKCS12Rotates(t *testing.T) {
	b := newBench(t)
	first, second := b.leaf(), b.leaf()
	encode := func(l *testpki.Leaf, password string) []byte {
		der, err := pkcs12.Modern2023.Encode(l.Key, l.Cert, l.Chain, password)
		b.do(err)
		return der
	}
	b.slot.Files = Files{PKCS12: b.path("pcs.p12"), PasswordFile: b.path("password")}
	b.write("password", []byte("one\n"), 0o600)
	b.write("pcs.p12", encode(first, "one"), 0o600)
	b.start()
	b.serves(first)

	b.put("pcs.p12", encode(second, "two"), 0o600)
	r := b.refused(reasonMaterial)
	if strings.Contains(r.Error()+r.Hint(), "one\n") || !strings.Contains(r.Error(), "pcs.p12") {
		t.Errorf("refusal %q", r)
	}
	b.still(first)
	b.put("password", []byte("two\r\n"), 0o600)
	b.serves(second)
	if got := len(b.pcs().Snapshot().Generation.Identity.Chain()); got != 1 {
		t.Errorf("%d certificates in the chain, want 1", got)
	}

	b.do(os.Chmod(b.path("password"), 0o644))
	b.refused(reasonKeyReadable)
	b.still(second)
}

func TestChainIsCompletedFromTheBundle(t *testing.T) {
	b := newBench(t)
	lower := b.sub.SubCA(t, testpki.Name("Lower"))
	b.write("trust.pem", lower.BundlePEM(), 0o644)
	leaf := lower.Issue(t, testpki.Name("pcs.nhs.uk"))
	for name, crt := range map[string][]byte{
		"leaf alone":        leaf.CertPEM(),
		"half of the chain": append(leaf.CertPEM(), lower.CertPEM()...),
		"separate file":     leaf.CertPEM(),
	} {
		t.Run(name, func(t *testing.T) {
			c := &bench{t: t, dir: t.TempDir(), root: b.root, sub: lower, env: b.env, slot: b.slot}
			c.slot.Files = Files{Certificate: c.path("pcs.crt"), Key: c.path("pcs.key")}
			if name == "separate file" {
				c.slot.Files.Chain = c.path("chain.pem")
				c.write("chain.pem", leaf.ChainPEM(), 0o644)
			}
			c.write("pcs.crt", crt, 0o644)
			c.write("pcs.key", leaf.KeyPEM(), 0o600)
			c.start()
			c.serves(leaf)
			chain := c.pcs().Snapshot().Generation.Identity.Chain()
			if len(chain) != 2 || !chain[0].Equal(lower.Cert) || !chain[1].Equal(b.sub.Cert) {
				t.Errorf("chain of %d certificates, want both subCAs", len(chain))
			}
		})
	}
}

func TestFQDN(t *testing.T) {
	b := newBench(t)
	b.slot.FQDN = "PCS.nhs.uk."
	first, other := b.leaf(), b.sub.Issue(t, testpki.Name("other.nhs.uk"))
	b.pair(first)
	b.start()
	b.serves(first)
	b.pair(other)
	if r := b.refused(reasonFQDN); !strings.Contains(r.Error(), "other.nhs.uk") || pki.Hint(r) == "" {
		t.Errorf("refusal %q, hint %q", r, pki.Hint(r))
	}
	b.still(first)
	second := b.leaf()
	b.pair(second)
	b.serves(second)

	// A name that the configuration starts to demand later is looked for in what is served.
	b.slot.FQDN = "other.nhs.uk"
	b.apply()
	b.refused(reasonFQDN)
	b.still(second)
}
