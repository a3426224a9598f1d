package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/anchor"
	"github.com/spinecert/spinecert/internal/handover"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// A change of trust is begun by one at a time, and a reload is one, too. It is
// finished although who asked goes away: what is on disk is in force, or is undone.

// trustAdd adds CAs that were confirmed by their fingerprints.
func (d *Daemon) trustAdd(ctx context.Context, c admin.Caller, r admin.TrustAddRequest) (admin.TrustAddResult, error) {
	if len(r.SHA256) > 0 { // who only asks need not wait
		d.reloads.Lock()
		defer d.reloads.Unlock()
	}
	v, _, err := d.view(r.Environment)
	if err != nil {
		return admin.TrustAddResult{}, err
	}
	add, out, err := v.Judge(r)
	if err != nil || len(add) == 0 || len(r.SHA256) == 0 {
		return out, err
	}
	if err := d.keepTrust(r.Environment, add); err != nil {
		return out, err
	}
	for _, ca := range add {
		d.trustAudit("trust_added", c, r.Environment, ca)
	}
	out.Done = true
	return out, d.applyTrust(ctx, r.Environment, d.plan(d.currentConfig()), nil)
}

// keepTrust writes all of these CAs, or none.
func (d *Daemon) keepTrust(environment string, add []*x509.Certificate) error {
	before, err := d.store.TrustFiles(environment)
	if err != nil {
		return failedWith(err)
	}
	var written []string // fingerprints
	for _, ca := range add {
		path, err := d.store.AddTrust(environment, ca)
		if err != nil {
			for _, sum := range written {
				err = errors.Join(err, d.store.DropTrust(environment, sum))
			}
			return failedWith(err)
		}
		if !slices.Contains(before, path) {
			written = append(written, pki.Fingerprint(ca))
		}
	}
	return nil
}

// trustAccept takes the trust files as they are although a CA is gone, without those
// that were added with trust add and are to go. What is gone from the trust in force
// is removed from the disk then, and nothing before.
func (d *Daemon) trustAccept(ctx context.Context, c admin.Caller, r admin.TrustAcceptRequest) (admin.TrustEnvironment, error) {
	d.reloads.Lock()
	defer d.reloads.Unlock()
	v, e, err := d.view(r.Environment)
	if err != nil {
		return admin.TrustEnvironment{}, err
	}
	all := e.Status().Proposed
	if all == nil {
		all = v.Bundle
	}
	next, err := d.acceptable(v, all, r)
	if err != nil {
		return admin.TrustEnvironment{}, err
	}
	err = d.applyTrust(ctx, r.Environment, d.planWithout(r), &rotate.Order{Actor: actorOf(c), Bundle: next.Digest()})
	for _, ca := range rotate.LostCAs(v.Bundle, e.Trust().Bundle(), time.Time{}) { // also where the answer came too late
		if !slices.Contains(r.Drop, pki.Fingerprint(ca)) {
			d.trustAudit("trust_dropped", c, r.Environment, ca)
		}
	}
	if err == nil {
		err = d.dropTrust(c, r, rotate.LostCAs(all, next, time.Time{}))
	}
	d.tell(handover.Note{Kind: handover.NoteTrust, Environment: r.Environment, Digest: fmt.Sprintf("%x", e.Trust().Bundle().Digest())})
	if err != nil {
		if len(r.Drop) > 0 { // what is still on disk is in force again
			err = errors.Join(err, d.applyPlan(ctx, d.plan(d.currentConfig())))
		}
		return admin.TrustEnvironment{}, err
	}
	return d.trustOf(r.Environment)
}

// acceptable is the bundle that would be in force: what is left of all, if it is what
// was looked at, and nothing depends on what goes.
func (d *Daemon) acceptable(v anchor.View, all *trust.Bundle, r admin.TrustAcceptRequest) (*trust.Bundle, error) {
	if r.Digest == "" {
		return nil, &admin.Error{Code: admin.CodeUsage, Message: "bundle_sha256 is missing: it says which trust was looked at",
			Hint: "take it from trust diff, asked with the same drop: spinecert trust accept does"}
	}
	next, err := d.without(v, all, r.Drop)
	if err != nil {
		return nil, err
	}
	if fmt.Sprintf("%x", next.Digest()) != r.Digest {
		return nil, &admin.Error{Code: admin.CodeRefused, Message: "the trust files have changed since they were looked at; nothing was accepted",
			Hint: "look again: spinecert trust diff --environment " + r.Environment}
	}
	if blocks := v.Blocks(next); len(blocks) > 0 {
		return nil, &admin.Error{Code: admin.CodeRefused, Message: strings.Join(blocks, "\n"),
			Hint: "change the configuration, run spinecert reload, which says that the trust files wait, and accept them then"}
	}
	return next, nil
}

// planWithout is the plan without the files of the CAs that are to go.
func (d *Daemon) planWithout(r admin.TrustAcceptRequest) rotate.Plan {
	plan, added := d.plan(d.currentConfig()), d.store.TrustPath(r.Environment)
	for i := range plan.Environments {
		if e := &plan.Environments[i]; e.Name == r.Environment {
			e.Trust = slices.DeleteFunc(e.Trust, func(path string) bool {
				return filepath.Dir(path) == added && slices.Contains(r.Drop, strings.TrimSuffix(filepath.Base(path), ".pem"))
			})
		}
	}
	return plan
}

// dropTrust removes the files of CAs that are no longer in force, and tells of each
// once it is gone from there as well.
func (d *Daemon) dropTrust(c admin.Caller, r admin.TrustAcceptRequest, gone []*x509.Certificate) error {
	for _, ca := range gone {
		if err := d.store.DropTrust(r.Environment, pki.Fingerprint(ca)); err != nil {
			return failedWith(err)
		}
		d.trustAudit("trust_dropped", c, r.Environment, ca)
	}
	return nil
}

// applyTrust has the environment take the trust of the plan.
func (d *Daemon) applyTrust(ctx context.Context, environment string, plan rotate.Plan, accept *rotate.Order) error {
	bounded, cancel := finishing(ctx)
	defer cancel()
	if err := d.keeper.Apply(bounded, plan); err != nil {
		return err
	}
	var err error
	if accept != nil {
		err = d.keeper.Accept(bounded, environment, *accept)
	} else if _, e, viewErr := d.view(environment); viewErr == nil && e.Status().Refusal != nil {
		err = e.Status().Refusal
	}
	var r *rotate.Refusal
	if errors.As(err, &r) {
		return &admin.Error{Code: admin.CodeRefused, Message: r.Error(), Hint: advice(r)}
	}
	return err
}

// applyPlan has everything read anew.
func (d *Daemon) applyPlan(ctx context.Context, plan rotate.Plan) error {
	bounded, cancel := finishing(ctx)
	defer cancel()
	return d.keeper.Apply(bounded, plan)
}

// finishing goes on when who asked is gone, and not for ever.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), stageTimeout)
}

// failedWith is the answer where something could not be done.
func failedWith(err error) error {
	return &admin.Error{Code: admin.CodeFailed, Message: err.Error(), Hint: pki.Hint(err)}
}
