package crash

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
)

// manyRequests is when no more are made.
const manyRequests = 6

func (c *child) anyManaged() string { return managedSlots[c.rand.IntN(len(managedSlots))].name }

func (c *child) newRequest() {
	all, _ := c.manager.Requests()
	if len(all) >= manyRequests {
		c.cancel()
		return
	}
	c.request(c.anyManaged())
}

// request makes one: whole, or not at all.
func (c *child) request(slot string) (state.Request, bool) {
	before, faults := requestsOnDisk(c.state(), slot), c.disk.faults()
	c.book.note("try request %s", slot)
	made, err := c.manager.NewRequest(c.ctx, manage.Order{Slot: slot, By: "uid 0"})
	if err == nil {
		c.book.note("made %s %s", slot, made.Request.ID)
		return made.Request, true
	}
	c.excused("request", faults, err)
	if after := requestsOnDisk(c.state(), slot); c.disk.faults()-faults == 1 && !slices.Equal(before, after) {
		c.bad("slot %s has requests %q, had %q, although it was an error: %v", slot, after, before, err)
	}
	c.book.note("no request: %q", err)
	return made.Request, false
}

// open returns a request that waits, and makes one if there is none.
func (c *child) open() (state.Request, bool) {
	all, _ := c.manager.Requests()
	if len(all) == 0 {
		return c.request(c.anyManaged())
	}
	return all[c.rand.IntN(len(all))], true
}

func (c *child) cancel() {
	all, _ := c.manager.Requests()
	if len(all) == 0 {
		return
	}
	r, faults := all[c.rand.IntN(len(all))], c.disk.faults()
	c.book.note("try cancel %s %s", r.Slot, r.ID)
	c.watched(r.Slot, func() error {
		_, err := c.manager.Cancel(c.ctx, r.ID, nil)
		if err != nil {
			c.excused("cancel", faults, err)
			c.book.note("no cancel: %q", err)
			return err
		}
		c.book.note("cancelled %s %s", r.Slot, r.ID)
		return nil
	})
}

func keyOf(r state.Request) any {
	block, _ := pem.Decode(r.CSR)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil
	}
	return csr.PublicKey
}

// answer issues a certificate for a request, and imports it.
func (c *child) answer(kind string) {
	r, ok := c.open()
	if !ok {
		return
	}
	before := c.now(r.Slot)
	if g := c.serving(r.Slot); g != nil && idOf(g.Identity.Leaf().PublicKey) == r.ID {
		kind = "again" // it could not be ended
	} else if g == nil && kind == "soon" {
		kind = "right" // a slot that serves nothing takes it at once, and nothing older after it
	}
	by, from := c.cas.of(r.Environment), time.Now()
	var chain []*x509.Certificate
	switch kind {
	case "early":
		from = from.Add(time.Hour)
	case "soon": // in force by itself, with luck in a later process
		from = from.Add(time.Second)
	case "unknown": // until its root is added
		by = c.cas.extra
		chain = append(chain, by.cert)
	}
	leaf, err := by.issue(keyOf(r), r.FQDN, from, from.Add(365*24*time.Hour))
	if err != nil {
		c.bad("issue: %v", err)
		return
	}
	o := manage.ImportOrder{Files: []manage.File{{Name: "answer.txt", Data: testpki.EncodeCerts(append(chain, leaf)...)}}}
	if !r.Answered.IsZero() { // in the place of another
		o.Allow = []string{rotate.RuleOlder}
	}
	c.book.note("try import %s %s %s %s %d", r.Slot, r.ID, kind, nameOf(leaf), leaf.NotBefore.Unix())
	c.watched(r.Slot, func() error { return c.take(kind, before, r, leaf, o) })
}

// take imports an answer. before is what the slot served when it was issued.
func (c *child) take(kind, before string, r state.Request, leaf *x509.Certificate, o manage.ImportOrder) error {
	faults := c.disk.faults()
	done, err := c.manager.Import(c.ctx, o)
	excused := c.disk.faults() > faults
	var e *manage.Error
	switch {
	case err == nil:
		if kind == "early" {
			c.bad("it is in force before its time")
		}
		c.book.note("inforce %s %s", r.Slot, about(c.serving(r.Slot)))
		if kind == "right" && nameOf(done.Identity.Leaf()) != nameOf(leaf) {
			c.bad("import of %s says that %s is in force", nameOf(leaf), nameOf(done.Identity.Leaf()))
		}
	case errors.As(err, &e) && e.Kind == manage.Waiting:
		c.book.note("waits %s %s %s %d", r.Slot, r.ID, nameOf(leaf), leaf.NotBefore.Unix())
	default:
		c.book.note("no import: %q", err)
	}
	if err != nil && c.now(r.Slot) != before {
		kind = "late" // one that waited was faster, and is newer
	}
	if err != nil && kind == "right" && !excused || err != nil && e == nil && !excused {
		c.bad("import %s for slot %s: %v", kind, r.Slot, err)
	}
	return err
}

// wrong imports what must never be in force.
func (c *child) wrong() {
	r, ok := c.open()
	if !ok {
		return
	}
	by, key, name, from, to := c.cas.of(r.Environment), keyOf(r), r.FQDN, time.Now(), time.Now().Add(365*24*time.Hour)
	kinds := []string{"expired", "name", "environment", "key", "reuse"}
	kind := kinds[c.rand.IntN(len(kinds))]
	switch kind {
	case "expired":
		from, to = from.Add(-48*time.Hour), from.Add(-24*time.Hour)
	case "name":
		name = "other.thirdparty.nhs.uk"
	case "environment":
		by = c.cas.live
		if r.Environment == "live" {
			by = c.cas.int
		}
	case "key", "reuse":
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			c.bad("make key: %v", err)
			return
		}
		key = other.Public()
		if g := c.serving(r.Slot); kind == "reuse" && g != nil {
			key = g.Identity.Leaf().PublicKey
		}
	}
	leaf, err := by.issue(key, name, from, to)
	if err != nil {
		c.bad("issue: %v", err)
		return
	}
	c.book.note("try wrong %s %s %s %s", r.Slot, r.ID, kind, nameOf(leaf))
	c.watched(r.Slot, func() error {
		faults, waits := c.disk.faults(), c.waiting(r)
		_, err := c.manager.Import(c.ctx, manage.ImportOrder{Files: []manage.File{{Name: "answer.cer", Data: leaf.Raw}}})
		if now := c.waiting(r); now != "" && now != waits {
			c.bad("%s waits with request %s after an import of what is wrong (%s), in place of %q", now, r.ID, kind, waits)
		}
		var e *manage.Error
		if err == nil || !errors.As(err, &e) && c.disk.faults() == faults || e != nil && e.Kind != manage.Refused {
			c.bad("import of what is wrong (%s): %v", kind, err)
		}
		c.book.note("refused %s", r.Slot)
		return err
	})
}

// waiting is the certificate that waits with a request, or "".
func (c *child) waiting(r state.Request) string {
	certs, err := readCertificates(filepath.Join(c.state(), "slots", r.Slot, "requests", r.ID, "answer.pem"))
	if err != nil || len(certs) == 0 {
		return ""
	}
	return nameOf(certs[0])
}

// kept names the certificates that a slot has on disk, and in its files.
func (c *child) kept(slot string) string {
	paths, _ := filepath.Glob(filepath.Join(c.state(), "slots", slot, "generations", "[0-9]*", "cert.pem"))
	if slot == filesSlot {
		paths = append(paths, c.certificate())
	}
	var out []string
	for _, path := range paths {
		if certs, err := readCertificates(path); err == nil && len(certs) > 0 {
			out = append(out, nameOf(certs[0]))
		}
	}
	return strings.Join(out, " ")
}

func (c *child) anySlot() string {
	if c.rand.IntN(4) == 0 {
		return filesSlot
	}
	return c.anyManaged()
}

func (c *child) rollback() {
	slot := c.anySlot()
	c.book.note("try rollback %s %s %s", slot, c.filesContent(), c.kept(slot))
	c.watched(slot, func() error {
		return c.ordered("rollback", "rolledback", slot, func() error { return c.keeper.Rollback(c.ctx, slot, 0, rotate.Order{}) })
	})
}

func (c *child) release() {
	slot := c.anySlot()
	g := c.serving(slot)
	if g == nil || !g.Held {
		return
	}
	c.book.note("try release %s %s", slot, c.kept(slot))
	c.watched(slot, func() error {
		return c.ordered("release", "released", slot, func() error { return c.keeper.Rotate(c.ctx, slot, rotate.Order{Release: true}) })
	})
}

// ordered gives an order to the Keeper: it is done, or was judged.
func (c *child) ordered(what, done, slot string, order func() error) error {
	faults := c.disk.faults()
	err := order()
	var refusal *rotate.Refusal
	switch {
	case err == nil:
		g := c.serving(slot)
		c.book.note("%s %s %s", done, slot, about(g))
		c.saved(slot, g)
	case !errors.As(err, &refusal) || refusal.Reason == "state_unwritable" && c.disk.faults() == faults:
		c.bad("%s of slot %s: %v", what, slot, err)
	default:
		c.book.note("no %s: %q", what, err)
	}
	return err
}

// newFiles writes the files of the slot that reads them, one after the other. It
// serves them whatever the disk of the state directory says.
func (c *child) newFiles() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.bad("make key: %v", err)
		return
	}
	by := c.cas.live
	leaf, err := by.issue(key.Public(), fqdnOf(filesSlot), time.Now(), time.Now().Add(365*24*time.Hour))
	if err != nil {
		c.bad("issue: %v", err)
		return
	}
	c.book.note("try files %s", nameOf(leaf))
	for path, data := range map[string][]byte{c.certificate(): testpki.EncodeCerts(leaf, by.cert), c.key(): testpki.EncodeKey(key)} {
		_ = c.disk.fault("write", filepath.Base(path)) // to be killed here; these files are not the state's
		if err := errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path)); err != nil {
			c.bad("write files: %v", err)
		}
	}
	if err := c.keeper.Rotate(c.ctx, filesSlot, rotate.Order{}); err != nil {
		c.bad("files %s are not served: %v", nameOf(leaf), err)
		return
	}
	g := c.serving(filesSlot)
	if nameOf(g.Identity.Leaf()) != nameOf(leaf) {
		c.bad("slot %s serves %s, its files hold %s", filesSlot, nameOf(g.Identity.Leaf()), nameOf(leaf))
	}
	c.book.note("rotated %s %s", filesSlot, about(g))
	c.saved(filesSlot, g)
}

// saved waits a moment until the store has what a slot serves.
func (c *child) saved(slot string, g *rotate.Generation) {
	if slot != filesSlot {
		return
	}
	for range 100 {
		r, err := c.store.Current(slot)
		if err == nil && r.Number == g.Number {
			// It may still be taken back. A change to the slot waits until that is over.
			_ = c.store.DropAnswer(slot, "0000000000000000")
			r, err = c.store.Current(slot)
		}
		if err == nil && r.Number == g.Number {
			c.book.note("saved %s %s", slot, about(g))
			return
		}
		if err := c.keeper.Slot(slot).Status().Unsaved; err != nil {
			if !injected(err) {
				c.bad("generation %d of slot %s is not saved: %v", g.Number, slot, err)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *child) extra() string {
	sum := sha256.Sum256(c.cas.extra.root.Raw)
	return hex.EncodeToString(sum[:])
}

func (c *child) addTrust() {
	faults := c.disk.faults()
	c.book.note("try trust %s", c.extra())
	_, err := c.store.AddTrust("live", c.cas.extra.root)
	c.excused("trust add", faults, err)
	if err == nil {
		c.book.note("trusted %s", c.extra())
	}
	c.excused("apply", faults, c.apply(c.ctx))
}

func (c *child) dropTrust() {
	faults := c.disk.faults()
	c.book.note("try distrust %s", c.extra())
	err := c.store.DropTrust("live", c.extra())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	c.excused("trust drop", faults, err)
	if err == nil {
		c.book.note("distrusted %s", c.extra())
	}
	c.excused("apply", faults, c.apply(c.ctx))
}
