package daemon

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/anchor"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// view is an environment as it stands. It is an error if there is none of that
// name, or if it has no trust.
func (d *Daemon) view(environment string) (anchor.View, *rotate.Environment, error) {
	for _, e := range d.keeper.Environments() {
		if e.Name() != environment {
			continue
		}
		state := e.Trust()
		if state == nil {
			return anchor.View{}, e, &admin.Error{Code: admin.CodeFailed, Message: fmt.Sprintf("environment %q has no trust in force", environment),
				Hint: "mend its trust files first; spinecert status says what is wrong with them"}
		}
		c := e.Status().Config
		v := anchor.View{Environment: environment, Bundle: state.Bundle(), AcceptableCAs: c.AcceptableCAs, Seen: d.seen.of(environment), Now: time.Now()}
		for _, crl := range state.CRLs() {
			if slices.Contains(c.CRLs, crl.Origin()) {
				v.CRLs = append(v.CRLs, crl)
			}
		}
		for _, s := range d.keeper.Slots() {
			if snap := s.Snapshot(); snap != nil && s.Status().Config.Environment == environment {
				v.Slots = append(v.Slots, anchor.Slot{Name: s.Name(), Identity: snap.Generation.Identity})
			}
		}
		return v, e, nil
	}
	return anchor.View{}, nil, &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no environment %q", environment), Hint: "spinecert trust list names them"}
}

// trustList says what is in force, and what is proposed.
func (d *Daemon) trustList(context.Context) ([]admin.TrustEnvironment, error) {
	out := []admin.TrustEnvironment{}
	for _, e := range d.keeper.Environments() {
		te, err := d.trustOf(e.Name())
		if err != nil {
			te = admin.TrustEnvironment{Name: e.Name(), CAs: []admin.TrustCA{}}
			if r := e.Status().Refusal; r != nil {
				te.Refused = r.Error()
			}
		}
		out = append(out, te)
	}
	return out, nil
}

func (d *Daemon) trustOf(environment string) (admin.TrustEnvironment, error) {
	v, e, err := d.view(environment)
	if err != nil {
		return admin.TrustEnvironment{}, err
	}
	te := admin.TrustEnvironment{Name: environment, Bundle: fmt.Sprintf("%x", v.Bundle.Digest()), CAs: v.CAs(v.Bundle)}
	st := e.Status()
	if st.Refusal != nil {
		te.Refused = st.Refusal.Error()
	}
	if st.Proposed != nil {
		diff, err := v.Diff(st.Proposed)
		if err != nil {
			return te, err
		}
		te.Proposed = &diff
	}
	return te, nil
}

// trustDiff says what other trust files would change. Whoever may read may ask, with
// files of any kind: one is made at a time, and none for who has gone away.
func (d *Daemon) trustDiff(ctx context.Context, r admin.TrustDiffRequest) (admin.TrustDiff, error) {
	select {
	case d.diffs <- struct{}{}:
		defer func() { <-d.diffs }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return admin.TrustDiff{}, err
	}
	v, e, err := d.view(r.Environment)
	if err != nil {
		return admin.TrustDiff{}, err
	}
	next := e.Status().Proposed
	if next == nil {
		next = v.Bundle // its files are what is in force
	}
	if len(r.Files) > 0 {
		if next, err = d.inPlace(r); err != nil {
			return admin.TrustDiff{}, err
		}
	}
	if next, err = d.without(v, next, r.Drop); err != nil {
		return admin.TrustDiff{}, err
	}
	return v.Diff(next)
}

// inPlace is the bundle that r.Files would make in the place of the trust files of
// the configuration: what was added with trust add stays.
func (d *Daemon) inPlace(r admin.TrustDiffRequest) (*trust.Bundle, error) {
	var sources []trust.Source
	for _, f := range r.Files {
		sources = append(sources, trust.Source{Name: f.Name, Data: f.Data})
	}
	added, err := d.store.TrustData(r.Environment)
	if err != nil {
		return nil, failedWith(err)
	}
	next, err := trust.ParseBundle(append(sources, added...)...)
	if err != nil {
		return nil, &admin.Error{Code: admin.CodeRefused, Message: err.Error(), Hint: pki.Hint(err)}
	}
	return next, nil
}

// without is what is left of next when CAs go that were added with trust add. One
// that a trust file of the configuration holds as well would stay.
func (d *Daemon) without(v anchor.View, next *trust.Bundle, drop []string) (*trust.Bundle, error) {
	if len(drop) == 0 {
		return next, nil
	}
	added, err := d.store.TrustFiles(v.Environment)
	if err != nil {
		return nil, failedWith(err)
	}
	for _, c := range next.Certificates() {
		if slices.Contains(drop, pki.Fingerprint(c)) && !slices.Contains(added, next.File(c)) {
			return nil, &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf("%q is in the trust file %q", c.Subject.String(), next.File(c)),
				Hint: "only what trust add has added can be dropped; take it out of the file, and then: spinecert trust accept " + v.Environment}
		}
	}
	return v.Without(next, drop)
}

func (d *Daemon) trustAudit(event string, c admin.Caller, environment string, ca *x509.Certificate) {
	d.record1(event, slog.LevelInfo, strings.ReplaceAll(event, "_", " "), slog.String("environment", environment), slog.String("ca", clipName(ca.Subject.String())),
		slog.String("sha256", pki.Fingerprint(ca)), slog.Int("uid", c.UID))
	d.keepAudit(auditLine{Time: time.Now(), Event: event, Reason: environment, Digest: pki.Fingerprint(ca), Actor: actorOf(c)})
}

func actorOf(c admin.Caller) actor { return actor{UID: c.UID, PID: c.PID, Via: "socket"} }
