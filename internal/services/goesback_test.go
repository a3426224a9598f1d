package services

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// goesBack has one rotation fail, which leaves the service held; mended and told to
// deliver now, it is in sync.
func (h *host) goesBack(p program, address, step, reason string, broken, mend func()) {
	h.t.Helper()
	h.fails(p, address, "held", step, reason, broken)
	mend()
	if exit, code := h.deliver(p.service); exit != 0 {
		h.t.Errorf("spinecert deliver %s --now: exit status %d, %s", p.service, exit, code)
	}
	h.settled(p.service, address)
}

// fails has one rotation fail while something is broken: the old certificate is served all
// the time, the files are back, and the slot goes on with its new generation.
func (h *host) fails(p program, address, state, step, reason string, broken func()) {
	h.t.Helper()
	old, before, slot := h.own, h.set(target), h.slot()
	broken()
	h.rotate()
	s := h.state(p.service, state, step, reason)
	h.t.Logf("%s at %s, %s: %s\nhint: %s", s.State, s.Step, s.Reason, s.LastError, s.Hint)
	h.serves(address, ownName, old)
	h.until("the files are back", func() bool { return cmp.Equal(before, h.set(target)) }) // one that is tried again comes and goes
	if now := h.slot(); now.Generation != slot.Generation+1 || now.Leaf != fingerprint(h.own) {
		h.t.Errorf("the slot has %+v after %+v", now, slot)
	}
	if s.Desired.Generation != slot.Generation+1 || s.Delivered.Generation != slot.Generation || s.Proved.Generation != slot.Generation || s.Served.Leaf != fingerprint(old) {
		h.t.Errorf("the slot went from generation %d to %d and the service back, and it says %+v", slot.Generation, slot.Generation+1, s)
	}
	if s.LastError == "" || s.Hint == "" {
		h.t.Errorf("the service does not say what is wrong, or what to do: %+v", s)
	}
}

// set returns the SHA-256 of the files that are delivered, by name.
func (h *host) set(directory string) map[string]string {
	h.t.Helper()
	return sums(h.t, filepath.Join(h.path(directory), "current"))
}

func sums(t *testing.T, directory string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(directory, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = sum(data)
	}
	return out
}

// sum is the SHA-256 of a file, lower-case hex.
func sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
