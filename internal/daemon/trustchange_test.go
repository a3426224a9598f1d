package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// addTrust adds a new hierarchy to environment t and returns the fingerprints.
func (h *host) addTrust() []string {
	h.t.Helper()
	root := testpki.NewRoot(h.t, testpki.Name("New Root"))
	sub := root.SubCA(h.t, testpki.Name("New Sub"))
	sums := []string{pki.Fingerprint(root.Cert), pki.Fingerprint(sub.Cert)}
	r, err := h.client.TrustAdd(context.Background(), admin.TrustAddRequest{Environment: "t", Files: []admin.File{{Name: "new.pem", Data: sub.BundlePEM()}}, SHA256: sums})
	if err != nil || !r.Done {
		h.t.Fatalf("add: %+v, %v", r, err)
	}
	return sums
}

// added counts the files of the CAs that were added.
func (h *host) added() int {
	h.t.Helper()
	files, err := filepath.Glob(h.path("state/trust.d/t/*.pem"))
	if err != nil {
		h.t.Fatal(err)
	}
	return len(files)
}

// TestTrustDropRefused: a drop that is refused after all has removed nothing, in
// memory or on disk, and the next one goes on from there.
func TestTrustDropRefused(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.write("t.crl", h.sub.CRL(t), 0o644)
	h.configure(`revocation: prefer, crl: {files: [t.crl]}`, providerSlot, inbound(backend(t)))
	h.start()
	ctx := context.Background()
	drop := admin.TrustAcceptRequest{Environment: "t", Drop: h.addTrust()}
	_, err := h.client.TrustAccept(ctx, drop)
	if e, ok := errors.AsType[*admin.Error](err); !ok || e.Code != admin.CodeUsage || e.Hint == "" {
		t.Errorf("without the digest of what was looked at: %v", err)
	}
	d, err := h.client.TrustDiff(ctx, admin.TrustDiffRequest{Environment: "t", Drop: drop.Drop})
	if err != nil {
		t.Fatal(err)
	}
	drop.Digest = d.Digest
	h.write("t.crl", []byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"), 0o644)
	_, err = h.client.TrustAccept(ctx, drop)
	wantRefused(t, "a list that cannot be read", err, "t.crl")
	if n, cas := h.added(), len(h.trust().CAs); n != 2 || cas != 4 {
		t.Errorf("%d files, %d CAs after it was refused; want 2 and 4", n, cas)
	}
	if lines := h.auditLines("trust_dropped"); len(lines) != 0 {
		t.Errorf("audited: %+v", lines)
	}
	h.write("t.crl", h.sub.CRL(t), 0o644)
	h.until("the list is read", func() bool { return h.trust().Refused == "" })
	if n := len(h.trust().CAs); n != 4 {
		t.Errorf("%d CAs with the list in place, want 4", n)
	}
	if e, err := h.client.TrustAccept(ctx, drop); err != nil || len(e.CAs) != 2 || h.added() != 0 {
		t.Errorf("drop: %+v, %v; %d files", e, err, h.added())
	}
	h.until("both are in the audit file", func() bool { return len(h.auditLines("trust_dropped")) == 2 })
}

// TestTrustDropTwice: of two that ask for the same at once one finds it done.
func TestTrustDropTwice(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.start()
	ctx := context.Background()
	drop := admin.TrustAcceptRequest{Environment: "t", Drop: h.addTrust()}
	d, err := h.client.TrustDiff(ctx, admin.TrustDiffRequest{Environment: "t", Drop: drop.Drop})
	if err != nil {
		t.Fatal(err)
	}
	drop.Digest = d.Digest
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = h.client.TrustAccept(ctx, drop) })
	}
	all.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
			continue
		}
		wantRefused(t, "the others", err, "has the SHA-256")
	}
	if n := len(h.trust().CAs); done != 1 || n != 2 || h.added() != 0 {
		t.Errorf("%d were done, %d CAs, %d files", done, n, h.added())
	}
	h.until("both are in the audit file, once", func() bool { return len(h.auditLines("trust_dropped")) == 2 })
}

// testDaemon is a daemon in this process, with its run loop and nothing else. fault
// decides which changes of the disk fail.
func testDaemon(t *testing.T, fault func(op, name string) error) *Daemon {
	t.Helper()
	base := t.TempDir()
	testpki.WriteFile(t, filepath.Join(base, "trust.pem"), testpki.NewRoot(t).SubCA(t).BundlePEM(), 0o644)
	c, err := config.Parse([]byte("default_environment: t\nenvironments: {t: {profile: private, trust: [trust.pem]}}\n"+
		"slots: {pcs: {fqdn: pcs.thirdparty.nhs.uk, managed: {}}}\nadmin: {socket: {path: admin.sock}}\nstate: {directory: state}\n"), filepath.Join(base, "spinecert.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := state.Lock(c.State.Directory, state.Options{Disk: durable.Disk{Fault: fault}})
	if err != nil {
		t.Fatal(err)
	}
	d := newDaemon(Options{Log: io.Discard}, c, dir, make(chan os.Signal, 1))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.keeper.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; _ = dir.Close() })
	d.stage(ctx, c)
	return d
}

func (d *Daemon) casOf(t *testing.T) int {
	t.Helper()
	e, err := d.trustOf("t")
	if err != nil {
		t.Fatal(err)
	}
	return len(e.CAs)
}

// audited counts the lines of one event that nobody wrote yet, and forgets all.
func (d *Daemon) audited(event string) int {
	n := 0
	for {
		select {
		case l := <-d.lines:
			if l.Event == event {
				n++
			}
		default:
			return n
		}
	}
}

// TestTrustChangesAreFinished although who asked is gone: nothing stays on disk that
// is not in force.
func TestTrustChangesAreFinished(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for range 10 { // who is gone may be noticed, or not
		d := testDaemon(t, nil)
		sub := testpki.NewRoot(t).SubCA(t)
		sums := []string{pki.Fingerprint(sub.Root().Cert), pki.Fingerprint(sub.Cert)}
		out, err := d.trustAdd(gone, admin.Caller{}, admin.TrustAddRequest{Environment: "t", Files: []admin.File{{Name: "new.pem", Data: sub.BundlePEM()}}, SHA256: sums})
		if n := d.casOf(t); err != nil || !out.Done || n != 4 {
			t.Fatalf("add: %+v, %v; %d CAs in force", out, err, n)
		}
		diff, err := d.trustDiff(context.Background(), admin.TrustDiffRequest{Environment: "t", Drop: sums})
		if err != nil {
			t.Fatal(err)
		}
		if e, err := d.trustAccept(gone, admin.Caller{}, admin.TrustAcceptRequest{Environment: "t", Drop: sums, Digest: diff.Digest}); err != nil || len(e.CAs) != 2 {
			t.Fatalf("drop: %+v, %v", e, err)
		}
	}
}

// TestTrustOnAFullDisk: what cannot be written or removed is in force as it is on
// disk, and is told as it is.
func TestTrustOnAFullDisk(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	calls := map[string]int{} // that are still done
	full := func(op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		left, limited := calls[op]
		if !limited || !strings.HasSuffix(name, ".pem") {
			return nil
		}
		if calls[op] = left - 1; left > 0 {
			return nil
		}
		return syscall.ENOSPC
	}
	limit := func(op string, n int) {
		mu.Lock()
		defer mu.Unlock()
		delete(calls, op)
		if n >= 0 {
			calls[op] = n
		}
	}
	d := testDaemon(t, full)
	sub := testpki.NewRoot(t).SubCA(t)
	sums := []string{pki.Fingerprint(sub.Root().Cert), pki.Fingerprint(sub.Cert)}
	add := admin.TrustAddRequest{Environment: "t", Files: []admin.File{{Name: "new.pem", Data: sub.BundlePEM()}}, SHA256: sums}
	files := func() int {
		t.Helper()
		all, err := d.store.TrustFiles("t")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	ctx := context.Background()
	limit("rename", 1)
	if out, err := d.trustAdd(ctx, admin.Caller{}, add); err == nil || out.Done || files() != 0 || d.casOf(t) != 2 {
		t.Errorf("add: %+v, %v; %d files, %d CAs", out, err, files(), d.casOf(t))
	}
	if n := d.audited("trust_added"); n != 0 {
		t.Errorf("%d lines of what is not there", n)
	}
	limit("rename", -1)
	if out, err := d.trustAdd(ctx, admin.Caller{}, add); err != nil || !out.Done {
		t.Fatalf("add: %+v, %v", out, err)
	}
	diff, err := d.trustDiff(ctx, admin.TrustDiffRequest{Environment: "t", Drop: sums})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ removed, files, cas int }{{0, 2, 4}, {1, 1, 3}} {
		limit("remove", test.removed)
		_, err = d.trustAccept(ctx, admin.Caller{}, admin.TrustAcceptRequest{Environment: "t", Drop: sums, Digest: diff.Digest})
		if !strings.Contains(pki.Hint(err)+err.Error(), "no space left") || files() != test.files || d.casOf(t) != test.cas {
			t.Errorf("drop with %d removed: %v; %d files, %d CAs", test.removed, err, files(), d.casOf(t))
		}
		if n := d.audited("trust_dropped"); n != test.removed {
			t.Errorf("drop with %d removed: %d lines", test.removed, n)
		}
	}
}
