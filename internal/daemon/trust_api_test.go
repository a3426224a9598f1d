package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// wantRefused wants a refusal with a hint that says all of these.
func wantRefused(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	var e *admin.Error
	if !errors.As(err, &e) || e.Code != admin.CodeRefused || e.Hint == "" {
		t.Fatalf("%s: %v; want a refusal with a hint", what, err)
	}
	for _, part := range parts {
		if !strings.Contains(e.Message, part) {
			t.Errorf("%s: %q does not say %q", what, e.Message, part)
		}
	}
}

func (h *host) trust() admin.TrustEnvironment {
	h.t.Helper()
	all, err := h.client.Trust(context.Background())
	if err != nil || len(all) != 1 {
		h.t.Fatalf("trust: %v, %v", all, err)
	}
	return all[0]
}

func (h *host) hasCondition(code string) bool {
	h.t.Helper()
	return slices.ContainsFunc(h.status().Conditions, func(c admin.Condition) bool { return string(c.Code) == code && c.Subject == "t" })
}

// TestTrustIsAddedAndDropped: CAs come with their fingerprints, stay over a restart,
// and go by word, and only those that were added.
func TestTrustIsAddedAndDropped(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.start()
	ctx := context.Background()
	root := testpki.NewRoot(t, testpki.Name("New Root"))
	sub := root.SubCA(t, testpki.Name("New Sub"))
	file := admin.File{Name: "new.pem", Data: sub.BundlePEM()}
	sums := []string{pki.Fingerprint(root.Cert), pki.Fingerprint(sub.Cert)}
	request := admin.TrustAddRequest{Environment: "t", Files: []admin.File{file}}

	if r, err := h.client.TrustAdd(ctx, request); err != nil || r.Done || len(r.Added) != 2 || len(h.trust().CAs) != 2 {
		t.Fatalf("without a fingerprint: %+v, %v", r, err)
	}
	request.SHA256 = sums[:1]
	_, err := h.client.TrustAdd(ctx, request)
	wantRefused(t, "one of two fingerprints", err, "was not confirmed")
	request.SHA256 = sums
	if r, err := h.client.TrustAdd(ctx, request); err != nil || !r.Done {
		t.Fatalf("add: %+v, %v", r, err)
	}
	if n := len(h.trust().CAs); n != 4 {
		t.Errorf("%d CAs, want 4", n)
	}
	h.until("both are in the audit file", func() bool { return len(h.auditLines("trust_added")) == 2 })
	h.stop(sigTerm)
	h.start()
	if n := len(h.trust().CAs); n != 4 {
		t.Fatalf("%d CAs after a restart, want 4", n)
	}

	// Other files in place of the trust files leave what was added.
	other := admin.File{Name: "other.pem", Data: testpki.NewRoot(t, testpki.Name("Other Root")).CertPEM()}
	d, err := h.client.TrustDiff(ctx, admin.TrustDiffRequest{Environment: "t", Files: []admin.File{other}})
	if err != nil || len(d.Added) != 1 || len(d.Removed) != 2 || !strings.HasPrefix(strings.Join(d.Breaks, "\n"), "slot pcs:") {
		t.Errorf("diff: %+v, %v", d, err)
	}

	_, err = h.client.TrustAccept(ctx, admin.TrustAcceptRequest{Environment: "t", Drop: []string{pki.Fingerprint(h.root.Cert)}, Digest: d.Digest})
	wantRefused(t, "drop what the file holds", err, "is in the trust file")
	drop := admin.TrustAcceptRequest{Environment: "t", Drop: sums, Digest: strings.Repeat("0", 64)}
	_, err = h.client.TrustAccept(ctx, drop)
	wantRefused(t, "another digest", err, "have changed since")
	if n := len(h.trust().CAs); n != 4 {
		t.Fatalf("%d CAs after refusals, want 4", n)
	}
	if d, err = h.client.TrustDiff(ctx, admin.TrustDiffRequest{Environment: "t", Drop: sums}); err != nil || len(d.Removed) != 2 || len(d.Breaks) != 0 {
		t.Fatalf("diff of the drop: %+v, %v", d, err)
	}
	drop.Digest = d.Digest
	if e, err := h.client.TrustAccept(ctx, drop); err != nil || len(e.CAs) != 2 {
		t.Fatalf("drop: %+v, %v", e, err)
	}
	h.until("both are in the audit file", func() bool { return len(h.auditLines("trust_dropped")) == 2 })
	if h.hasCondition("trust_changed") {
		t.Errorf("conditions %+v", h.status().Conditions)
	}
	_, err = h.client.TrustDiff(ctx, admin.TrustDiffRequest{Environment: "nowhere"})
	if e, ok := errors.AsType[*admin.Error](err); !ok || e.Code != admin.CodeUnknown {
		t.Errorf("an environment that is not there: %v", err)
	}
}

// TestTrustFilesThatShrinkWait: a CA that is gone from the file stays in force until
// somebody says so, and cannot go while the configuration names its list.
func TestTrustFilesThatShrinkWait(t *testing.T) {
	t.Parallel()
	h, leaf := simpleHost(t)
	extra := testpki.NewRoot(t, testpki.Name("Extra Root"))
	h.write("trust.pem", append(h.sub.BundlePEM(), extra.CertPEM()...), 0o644)
	h.write("extra.crl", extra.CRL(t), 0o644)
	h.configure(`revocation: prefer, crl: {files: [extra.crl]}`, providerSlot, inbound(backend(t)))
	h.start()
	ctx := context.Background()
	h.write("trust.pem", h.sub.BundlePEM(), 0o644)
	h.until("the change waits", func() bool { return h.hasCondition("trust_changed") })
	h.serves("ssp-in", leaf)
	e := h.trust()
	if len(e.CAs) != 3 || e.Refused == "" || e.Proposed == nil || len(e.Proposed.Removed) != 1 || !e.Proposed.Shrinks {
		t.Fatalf("trust %+v", e)
	}
	accept := admin.TrustAcceptRequest{Environment: "t", Digest: e.Proposed.Digest}
	_, err := h.client.TrustAccept(ctx, accept)
	wantRefused(t, "its list is still named", err, "extra.crl", "CN=Extra Root")
	if h.trust().Proposed == nil || !h.hasCondition("trust_changed") {
		t.Error("a refused word made the files wait no more")
	}

	h.configure(`revocation: prefer`, providerSlot, inbound(backend(t)))
	_, err = h.client.Reload(ctx)
	wantRefused(t, "reload", err)
	if n := len(h.trust().CAs); n != 3 {
		t.Fatalf("%d CAs after the reload, want 3", n)
	}
	if e, err := h.client.TrustAccept(ctx, accept); err != nil || len(e.CAs) != 2 || e.Refused != "" || e.Proposed != nil {
		t.Fatalf("accept: %+v, %v", e, err)
	}
	h.until("it is in the audit file", func() bool { return len(h.auditLines("trust_dropped")) == 1 })
	if h.hasCondition("trust_changed") {
		t.Errorf("conditions %+v", h.status().Conditions)
	}
}
