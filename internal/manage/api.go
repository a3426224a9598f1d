package manage

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// What the admin API says of this package, the same from the daemon and from the
// command line where no daemon runs. The errors are those of admin.

// AnswerCSR is NewRequest in the words of the admin API. by says who asks.
func (m *Manager) AnswerCSR(ctx context.Context, r admin.CSRRequest, by string, actor any) (admin.CSRResult, error) {
	made, err := m.NewRequest(ctx, Order{Slot: r.Slot, Key: pki.KeyKind(r.Key), SANs: r.SANs, By: by, Actor: actor})
	if err != nil {
		return admin.CSRResult{}, APIError(err)
	}
	return m.csrResult(made, time.Now()), nil
}

// AnswerRequest is Request in the words of the admin API.
func (m *Manager) AnswerRequest(id string, now time.Time) (admin.CSRResult, error) {
	made, err := m.Request(id)
	if err != nil {
		return admin.CSRResult{}, APIError(err)
	}
	return m.csrResult(made, now), nil
}

// AnswerCancel is Cancel in the words of the admin API.
func (m *Manager) AnswerCancel(ctx context.Context, r admin.CancelRequest, actor any) (admin.CancelResult, error) {
	gone, err := m.Cancel(ctx, r.ID, actor)
	if err != nil {
		return admin.CancelResult{}, APIError(err)
	}
	return admin.CancelResult{Request: m.requestStatus(gone, time.Now())}, nil
}

// AnswerImport is Import in the words of the admin API. With an answer that has to
// wait there are both a result and an error.
func (m *Manager) AnswerImport(ctx context.Context, r admin.ImportRequest, actor any) (admin.ImportResult, error) {
	o := ImportOrder{Password: r.Password, Request: r.Request, Allow: r.Allow, DryRun: r.DryRun, Actor: actor}
	for _, f := range r.Files {
		o.Files = append(o.Files, File(f))
	}
	done, err := m.Import(ctx, o)
	if done.Identity == nil {
		return admin.ImportResult{}, APIError(err)
	}
	out := importResult(&done)
	out.DryRun = r.DryRun
	return out, APIError(err)
}

// RequestStatus returns the requests that wait, as status shows them.
func (m *Manager) RequestStatus(now time.Time) ([]admin.Request, error) {
	all, err := m.Requests()
	out := make([]admin.Request, 0, len(all))
	for _, r := range all {
		out = append(out, m.requestStatus(r, now))
	}
	return out, err
}

func (m *Manager) requestStatus(r state.Request, now time.Time) admin.Request {
	out := admin.Request{ID: r.ID, Slot: r.Slot, Environment: r.Environment, FQDN: r.FQDN, SANs: append([]string{}, r.SANs...), Key: string(r.Key),
		Created: r.Created.UTC(), Age: int64(max(0, now.Sub(r.Created)) / time.Second), By: r.By, Reason: r.Reason,
		State: admin.RequestOpen, Answered: admin.Time{Time: r.Answered}}
	if r.Answered.IsZero() {
		return out
	}
	out.State = admin.RequestAnswered
	if m.c.Keeper == nil {
		return out
	}
	if m.held(r) {
		out.LastReason, out.LastError = "held", "the slot was rolled back after this answer came"
		out.Hint = "spinecert rotate " + r.Slot + " --release ends the hold; then it is taken"
		return out
	}
	refusal := m.stops(r, now)
	if refusal == nil {
		return out
	}
	out.LastError, out.LastReason, out.Hint = Clip(refusal.Error()), refusal.Reason, Clip(refusal.Hint())
	if out.LastReason == string(trust.UnknownIssuer) {
		out.Hint = Clip(m.compare(r.Environment, fmt.Sprintf("add it: spinecert trust add FILE --environment %s. Else import the answer that the authority sent, which takes its place", r.Environment)))
	}
	return out
}

// stops says what keeps the answer to a request from being in force, or nil. The
// slot knows it of the one that is offered; of several it is found out.
func (m *Manager) stops(r state.Request, now time.Time) *rotate.Refusal {
	s := m.c.Keeper.Slot(r.Slot)
	if s == nil {
		return nil
	}
	refusal := s.Status().Refusal
	if slices.ContainsFunc(m.requestsOf(r.Slot), func(other state.Request) bool { return other.ID != r.ID && !other.Answered.IsZero() }) {
		if id, err := m.kept(r); err == nil {
			refusal = nil
			errors.As(m.preview(r.Slot, id, m.allowed(r.ID, id), now), &refusal)
		}
	}
	return refusal
}

func (m *Manager) csrResult(made Made, now time.Time) admin.CSRResult {
	out := admin.CSRResult{Request: m.requestStatus(made.Request, now), CSR: string(made.Request.CSR),
		Letter: admin.Letter(made.Letter), Inbox: m.c.Directory.InboxPath()}
	if key, err := publicKey(made.Request); err == nil {
		out.KeySHA256 = pki.KeyFingerprint(key)
	}
	return out
}

func importResult(d *Imported) admin.ImportResult {
	leaf := d.Identity.Leaf()
	names, _ := d.Identity.Names()
	out := admin.ImportResult{
		Slot: d.Slot, Environment: d.Environment, Request: d.Request, State: string(d.Outcome), From: d.From, Generation: d.To,
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Serial: leaf.SerialNumber.Text(16), Names: append([]string{}, names...),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), SHA256: pki.Fingerprint(leaf), KeySHA256: pki.KeyFingerprint(leaf.PublicKey),
		FoundIn: d.Where, Chain: []admin.ImportCA{}, Root: d.Root, Again: d.Again, Notes: append([]string{}, d.Notes...), Open: []string{},
	}
	for _, ca := range d.Identity.Chain() {
		out.Chain = append(out.Chain, importCA(ca, d.Added))
	}
	for _, r := range d.Open {
		out.Open = append(out.Open, r.ID)
	}
	return out
}

func importCA(ca *x509.Certificate, added map[string]bool) admin.ImportCA {
	out := admin.ImportCA{Subject: ca.Subject.String(), NotAfter: ca.NotAfter.UTC(), SHA256: pki.Fingerprint(ca), From: "answer"}
	if added[out.SHA256] {
		out.From = "trust"
	}
	return out
}

// APIError is an error in the words of the admin API, for this package and for
// rotate; nil stays nil.
func APIError(err error) error {
	var e *Error
	var r *rotate.Refusal
	out := &admin.Error{Code: admin.CodeFailed}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		out.Code, out.Reason, out.Rule = codeOf(e.Kind), e.Reason, e.Rule
	case errors.As(err, &r):
		out.Code, out.Reason, out.Rule = admin.CodeRefused, r.Reason, r.Rule
	}
	out.Message, out.Hint = err.Error(), pki.Hint(err)
	return out
}

func codeOf(k Kind) string {
	switch k {
	case Unknown:
		return admin.CodeUnknown
	case Usage:
		return admin.CodeUsage
	case Refused, Waiting:
		return admin.CodeRefused
	}
	return admin.CodeFailed
}
