package daemon

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// TestWitness: numbers go on above those that the audit file knows, whatever is on
// disk, and an older copy is told.
func TestWitness(t *testing.T) {
	t.Parallel()
	leaf := testpki.NewRoot(t).Issue(t, testpki.DNS(providerName))
	id, err := pki.NewIdentity([]*x509.Certificate{leaf.Cert}, leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	const dir = "state/slots/pcs/generations"
	for name, c := range map[string]struct {
		to      uint64
		via     string
		spoil   func(generations string) error
		highest uint64
		broken  bool
		found   string
	}{
		"nothing new":              {to: 2, via: "socket", highest: 2},
		"an older copy":            {to: 5, via: "socket", highest: 5, found: "has generation 2 of the slot, and the audit file says that 5"},
		"an older copy, not whole": {to: 5, via: "socket", highest: 5, broken: true, found: "has generations up to 2 of the slot", spoil: func(g string) error { return os.Remove(g + "/2/key.pem") }},
		"not whole, not older":     {to: 2, via: "socket", highest: 2, broken: true, spoil: func(g string) error { return os.Remove(g + "/2/key.pem") }},
		"no generation left": {to: 5, via: "socket", highest: 5, found: "has no generation of the slot", spoil: func(g string) error {
			return errors.Join(os.RemoveAll(g), os.Remove(filepath.Join(filepath.Dir(g), "current")))
		}},
		"nobody knows what is left": {to: 5, via: "socket", highest: 5, broken: true, spoil: func(g string) error { return errors.Join(os.RemoveAll(g), os.WriteFile(g, nil, 0o600)) }},
		"a crash before the write":  {to: 3, via: viaFiles, highest: 3},
		"more than a crash":         {to: 4, via: viaFiles, highest: 4, found: "generation 2"},
		"a crash, and not whole":    {to: 3, via: viaFiles, highest: 3, broken: true, spoil: func(g string) error { return os.Remove(g + "/2/key.pem") }},
		"a number that is none":     {to: state.MaxNumber + 1, via: "socket", highest: 2},
		"the greatest of all":       {to: 1<<64 - 1, via: "socket", highest: 2},
	} {
		base := t.TempDir()
		d, err := state.Lock(filepath.Join(base, "state"), state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		record := rotate.Record{Environment: "live", Origin: rotate.FromImport, Digest: sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, uint64(len(leaf.Cert.Raw))), leaf.Cert.Raw...)), Since: time.Now(), NotAfter: leaf.Cert.NotAfter}
		for record.Number = 1; record.Number <= 2; record.Number++ {
			if err := d.Commit("pcs", record, id, 5); err != nil {
				t.Fatal(err)
			}
		}
		line, err := json.Marshal(auditLine{Time: time.Now(), Event: string(rotate.EventRotated), Slot: "pcs", To: c.to, Digest: "ab", Actor: actor{Via: c.via}})
		if err == nil {
			err = os.WriteFile(filepath.Join(base, "state", state.AuditName), append(line, '\n'), 0o600)
		}
		if err == nil && c.spoil != nil {
			err = c.spoil(filepath.Join(base, dir))
		}
		if err != nil {
			t.Fatal(err)
		}
		w := newWitness(d)
		r, err := w.Current("pcs")
		if r.Highest != c.highest || (err != nil) != c.broken {
			t.Errorf("%s: highest %d, want %d; %v", name, r.Highest, c.highest, err)
		}
		if o, ok := w.foundOlder("pcs"); ok != (c.found != "") || !strings.Contains(o.text, c.found) {
			t.Errorf("%s: found %q, want %q", name, o.text, c.found)
		}
	}
}

// TestAuditIntoAPipe: who reads a pipe, or does not, must not decide whether lines
// are kept: they wait, and it is told.
func TestAuditIntoAPipe(t *testing.T) {
	t.Parallel()
	for _, read := range []bool{false, true} {
		dir := t.TempDir()
		a := newAudit(dir, 1<<20)
		if err := syscall.Mkfifo(a.path, 0o600); err != nil {
			t.Fatal(err)
		}
		if read {
			f, err := os.OpenFile(a.path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		ended := make(chan error, 1)
		go func() { ended <- errors.Join(a.add(auditLine{Event: "x"}), a.flush()) }()
		select {
		case err := <-ended:
			if err == nil || a.failing() == nil || len(a.unwritten) != 1 {
				t.Errorf("read %t: %v; failing %v, %d wait", read, err, a.failing(), len(a.unwritten))
			}
		case <-time.After(patience):
			t.Fatalf("read %t: waits for the other end of the pipe", read)
		}
		if err := errors.Join(os.Remove(a.path), a.flush()); err != nil || a.failing() != nil || len(a.unwritten) != 0 {
			t.Errorf("read %t: with a file: %v", read, err)
		}
	}
}

// TestLockReplacedUnderTheDaemon: it serves on, takes nothing more, and says why.
func TestLockReplacedUnderTheDaemon(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.start()
	lock := h.path("state/.lock")
	if err := errors.Join(os.Remove(lock), os.WriteFile(lock, []byte("1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	h.serves("ssp-in", h.identity("pcs", providerName))
	h.until("it says so", func() bool {
		for _, c := range h.status().Conditions {
			if c.Code == "state_unwritable" && c.Subject == "pcs" && strings.Contains(c.Message, "removed or replaced") && strings.Contains(c.Hint, "restart") {
				return true
			}
		}
		return false
	})
	if names, err := filepath.Glob(h.path("state/slots/pcs/generations/2")); err != nil || len(names) != 0 {
		t.Error(fmt.Sprint("written all the same: ", names, err))
	}
}
