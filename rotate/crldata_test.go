package rotate

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// inForce waits for the list with these bytes.
func (b *bench) inForce(der []byte) *trust.CRL {
	b.t.Helper()
	var found *trust.CRL
	sum := sha256.Sum256(der)
	b.until("the list is in force", func() bool {
		state := b.environment().Trust()
		if state == nil {
			return false
		}
		i := slices.IndexFunc(state.CRLs(), func(c *trust.CRL) bool { return c.Digest() == sum })
		if i >= 0 {
			found = state.CRLs()[i]
		}
		return i >= 0
	})
	return found
}

// wantData wants the bytes of a list, or, for nil, that they are not to be had.
func (b *bench) wantData(what string, c *trust.CRL, want []byte) {
	b.t.Helper()
	got, err := b.environment().CRLData(c)
	if want != nil {
		if err != nil || !bytes.Equal(got, want) {
			b.t.Errorf("%s: %d bytes, %v, want %d", what, len(got), err, len(want))
		}
		return
	}
	var r *Refusal
	if !errors.As(err, &r) || !r.Pending || got != nil || r.Hint() == "" || !strings.Contains(err.Error(), `"`+c.Origin()+`"`) || strings.Count(err.Error(), c.Origin()) != 1 {
		b.t.Errorf("%s: %d bytes, %v, hint %q", what, len(got), err, pki.Hint(err))
	}
}

func TestDataOfListsInFiles(t *testing.T) {
	b := newBench(t)
	b.pair(b.leaf())
	root, sub := b.root.CRL(t), b.sub.CRL(t)
	other := b.root.SubCA(t, testpki.Name("Other"))
	b.write("trust.pem", append(b.sub.BundlePEM(), other.CertPEM()...), 0o644)
	third := other.CRL(t)
	b.do(os.Mkdir(b.path("crls"), 0o755))
	b.write("one.crl", root, 0o644)
	b.do(os.Symlink("one.crl", b.path("link.crl")))
	b.write("crls/both.pem", slices.Concat(testpki.EncodeCRL(third), []byte("a note\n"), testpki.EncodeCRL(sub)), 0o644)
	b.env.CRLs, b.env.Revocation = []string{b.path("link.crl"), b.path("crls")}, trust.Require
	b.start()
	lists := map[string][]byte{"DER, by a link": root, "first of PEM": third, "second of PEM": sub}
	for what, der := range lists {
		b.wantData(what, b.inForce(der), der)
	}
	c := b.inForce(sub)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { b.wantData("at once", c, sub) })
	}
	all.Wait()
	for what, plant := range b.plants(c, sub, third) {
		path := b.path("crls/both.pem")
		b.do(errors.Join(os.RemoveAll(path), plant(path)))
		b.wantData(what, c, sub) // what is there is not the list in force, and that stays
	}
	b.do(errors.Join(os.RemoveAll(b.path("crls/both.pem")), os.WriteFile(b.path("crls/both.pem"), sub, 0o644)))
	b.wantData("as DER", c, sub)
	b.env.CRLs = []string{b.path("link.crl")} // it is named no longer, and not read
	b.env.Revocation = trust.Off
	b.apply()
	b.until("it is out of force", func() bool { return len(b.environment().Trust().CRLs()) == 1 })
	b.until("the status says so", func() bool { return len(b.environment().Status().Config.CRLs) == 1 })
	b.wantData("named no longer", c, nil)
	if small := *b.environment().small.Load(); len(small) != 1 || !bytes.Equal(small[sha256.Sum256(root)], root) {
		t.Errorf("%d lists are kept that are not in force", len(small)-1)
	}
}

// plants are what may take the place of the file of a list.
func (b *bench) plants(c *trust.CRL, sub, third []byte) map[string]func(path string) error {
	older := b.sub.CRL(b.t, testpki.ThisUpdate(c.ThisUpdate().Add(-time.Hour)))
	return map[string]func(path string) error{
		"an older list": func(p string) error { return os.WriteFile(p, older, 0o644) },
		"the other one": func(p string) error { return os.WriteFile(p, testpki.EncodeCRL(third), 0o644) },
		"half of it":    func(p string) error { return os.WriteFile(p, testpki.EncodeCRL(sub)[:200], 0o644) },
		"one byte":      func(p string) error { return os.WriteFile(p, []byte{0x30}, 0o644) },
		"nothing":       func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"no file":       func(string) error { return nil },
		"a pipe":        func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"a directory":   func(p string) error { return os.Mkdir(p, 0o755) },
		"a circle":      func(p string) error { return os.Symlink("both.pem", p) },
		"no end":        func(p string) error { return os.Symlink("/dev/zero", p) },
	}
}

// large makes a file of a list that is not kept in memory.
func large(der []byte, size int) []byte {
	return slices.Concat(testpki.EncodeCRL(der), bytes.Repeat([]byte("\n"), size))
}

// TestDataOfLargeFiles: nothing but the file has it.
func TestDataOfLargeFiles(t *testing.T) {
	b := newBench(t)
	b.pair(b.leaf())
	der := b.sub.CRL(t)
	b.write("one.crl", large(der, maxSmallFile), 0o644)
	b.env.CRLs = []string{b.path("one.crl")}
	b.start()
	c := b.inForce(der)
	b.wantData("there", c, der)
	for what, plant := range b.plants(c, der, b.root.CRL(t)) {
		b.do(errors.Join(os.RemoveAll(b.path("one.crl")), plant(b.path("one.crl"))))
		b.wantData(what, c, nil)
	}
}

func TestDataIsBounded(t *testing.T) {
	b := newBench(t)
	b.pair(b.leaf())
	der := b.sub.CRL(t)
	b.write("one.crl", large(der, maxSmallFile), 0o644)
	b.env.CRLs, b.env.MaxCRL = []string{b.path("one.crl")}, 2*maxSmallFile
	b.start()
	c := b.inForce(der)
	b.wantData("small enough", c, der)
	b.write("one.crl", large(der, 2*maxSmallFile), 0o644)
	b.wantData("larger", c, nil)
}

// TestDataSurvivesTheFile: a list that stays in force although its file holds another one
// is to be had, through every look at the trust that comes after.
func TestDataSurvivesTheFile(t *testing.T) {
	b := newBench(t)
	b.pair(b.leaf())
	root, sub := b.root.CRL(t), b.sub.CRL(t)
	b.write("root.crl", root, 0o644)
	b.write("sub.crl", sub, 0o644)
	b.env.CRLs = []string{b.path("root.crl"), b.path("sub.crl")}
	b.start()
	c := b.inForce(sub)
	b.write("sub.crl", b.sub.CRL(t, testpki.ThisUpdate(c.ThisUpdate().Add(-time.Hour))), 0o644)
	for range 2 {
		next := b.root.CRL(t, testpki.ThisUpdate(b.inForce(root).ThisUpdate().Add(time.Minute)))
		b.write("root.crl", next, 0o644)
		b.wantData("the newer one", b.inForce(next), next)
		b.wantData("the kept one", b.inForce(sub), sub)
		if n := len(*b.environment().small.Load()); n != 2 {
			t.Errorf("%d lists are kept in memory, want those in force", n)
		}
		root = next
	}
}

// TestSmallLists: the first come first, and those that were read before are kept.
func TestSmallLists(t *testing.T) {
	root := testpki.NewRoot(t, testpki.Name("Root"))
	var lists []*trust.CRL
	all, size := smallLists{}, 0
	for i := range 3 {
		der := root.CRL(t, testpki.ThisUpdate(time.Now().Add(-time.Duration(i)*time.Hour)))
		c, err := trust.ReadCRL(der, "x.crl", []*x509.Certificate{root.Cert})
		if err != nil {
			t.Fatal(err)
		}
		lists, all[c.Digest()], size = append(lists, c), der, len(der)
	}
	has := func(s smallLists) (out []int) {
		for i, c := range lists {
			if sha256.Sum256(s[c.Digest()]) == c.Digest() {
				out = append(out, i)
			}
		}
		return out
	}
	for what, c := range map[string]struct {
		got  smallLists
		want []int
	}{
		"all":               {smallLists{}.followedBy(all, lists, 4*size), []int{0, 1, 2}},
		"nothing was kept":  {smallLists(nil).followedBy(all, lists, 4*size), []int{0, 1, 2}},
		"kept from before":  {all.followedBy(nil, lists, 4*size), []int{0, 1, 2}},
		"out of force":      {all.followedBy(all, lists[1:2], 4*size), []int{1}},
		"room for two":      {smallLists{}.followedBy(all, lists, 2*size+size/2), []int{0, 1}},
		"twice is no more":  {all.followedBy(all, append(slices.Clone(lists[2:]), lists...), 2*size+size/2), []int{0, 2}},
		"never read, large": {smallLists{}.followedBy(nil, lists, 4*size), nil},
	} {
		if got := has(c.got); !slices.Equal(got, c.want) || len(c.got) != len(c.want) {
			t.Errorf("%s: %v of %d, want %v", what, got, len(c.got), c.want)
		}
	}
}

func TestDataOfFetchedAndCarriedLists(t *testing.T) {
	c := newCRLBench(t)
	e := c.begin()
	list := c.sub.CRL(t, testpki.IDP(c.url("/p1.crl")))
	c.publish("/p1.crl", testpki.EncodeCRL(list)) // PEM, as some servers do
	c.do(c.judge(e, c.peer("/p1.crl")))
	fetched := c.inForce(list)
	c.wantData("fetched", fetched, list)
	carried := c.sub.CRL(t, testpki.IDP(c.url("/carried.crl")))
	status, err := c.keeper.CarryCRL(c.context(), "test", "carried.crl", carried, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.wantData("carried", status.CRL, carried)
	c.restart()
	c.wantData("fetched, after a restart", c.inForce(list), list)
	c.wantData("carried, after a restart", c.inForce(carried), carried)

	address := c.url("/p1.crl")
	for what, damage := range map[string]func(l *memCRL){
		"cut short": func(l *memCRL) { l.der = l.der[:100] },
		"a bit":     func(l *memCRL) { l.der = slices.Clone(l.der); l.der[80] ^= 1 },
		"another":   func(l *memCRL) { l.der = carried },
		"more":      func(l *memCRL) { l.der = slices.Concat(list, []byte{0}) },
		"empty":     func(l *memCRL) { l.der = nil },
	} {
		c.kept.mu.Lock()
		was := c.kept.lists[address]
		l := was
		damage(&l)
		c.kept.lists[address] = l
		c.kept.mu.Unlock()
		c.wantData(what, fetched, nil)
		c.kept.mu.Lock()
		c.kept.lists[address] = was
		c.kept.mu.Unlock()
	}
	c.wantData("mended", fetched, list)
	c.do(c.kept.DropCRL("test", address))
	c.wantData("dropped", fetched, nil)
}

// slowStore takes its time: a list is in force long before it is on disk.
type slowStore struct {
	*memCRLs
	keep chan struct{} // closed: it is kept at once
	fail error
}

func (s *slowStore) KeepCRL(environment string, k KeptCRL, spool *os.File) error {
	<-s.keep
	if s.fail != nil {
		return s.fail
	}
	return s.memCRLs.KeepCRL(environment, k, spool)
}

// own waits for the list of our own certificate.
func (c *crlBench) own() (list *trust.CRL) {
	c.t.Helper()
	c.until("its list is in force", func() bool {
		l, _ := c.list("/own.crl")
		list = l.CRL
		return list != nil && slices.Contains(c.environment().Trust().CRLs(), list)
	})
	return list
}

func TestDataWaitsForTheDisk(t *testing.T) {
	for name, fail := range map[string]error{"that takes it": nil, "that is full": syscall.ENOSPC} {
		t.Run(name, func(t *testing.T) {
			c := newCRLBench(t)
			slow := &slowStore{memCRLs: c.kept, keep: make(chan struct{}), fail: fail}
			c.store2 = slow
			release := sync.OnceFunc(func() { close(slow.keep) })
			t.Cleanup(release)
			c.begin()
			list := c.own()
			began := make(chan struct{})
			answer := make(chan error, 1)
			go func() {
				close(began)
				_, err := c.environment().CRLData(list)
				answer <- err
			}()
			<-began
			select {
			case err := <-answer:
				t.Fatalf("it did not wait: %v", err)
			case <-time.After(5 * saveLook):
			}
			release()
			if err := <-answer; (err == nil) != (fail == nil) {
				t.Errorf("in the end: %v", err)
			}
		})
	}
}

func TestDataWithoutAStore(t *testing.T) {
	c := newCRLBench(t)
	c.begin()
	c.crls = nil
	c.restart()
	list := c.own()
	c.wantData("in memory alone", list, nil)
}
