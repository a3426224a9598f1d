package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// deliverLimit bounds how long somebody may wait for a delivery: it takes as long as
// the service's own limits allow, twice where it goes back, and longer behind others.
const deliverLimit = 10 * time.Minute

func newServices(d *Daemon) *deliver.Manager {
	return deliver.New(deliver.Options{Records: d.store.Directory, Slot: d.keeper.Slot, CRL: d.crlData, Events: d.onDeliver})
}

// crlData returns the DER of a list that is in force.
func (d *Daemon) crlData(environment string, c *trust.CRL) ([]byte, error) {
	for _, e := range d.keeper.Environments() {
		if e.Name() == environment {
			return e.CRLData(c)
		}
	}
	return nil, fmt.Errorf("there is no environment %q", environment)
}

// deliver is what the admin API asks for: the outcome of a delivery, or what one would do.
func (d *Daemon) deliver(ctx context.Context, c admin.Caller, r admin.DeliverRequest) (admin.DeliverResult, error) {
	limit := deliverLimit
	if asked := time.Duration(r.TimeoutMS) * time.Millisecond; r.TimeoutMS > 0 && r.TimeoutMS < limit.Milliseconds() {
		limit = asked
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if r.DryRun {
		return d.planDelivery(ctx, r.Service)
	}
	before, err := d.services.StatusOf(r.Service)
	if err != nil {
		return admin.DeliverResult{}, unknownService(r.Service)
	}
	after, err := d.services.Deliver(ctx, r.Service, deliver.Order{Now: r.Now, Actor: actorOf(c)})
	line := auditLine{Time: time.Now(), Event: "deliver", Service: r.Service, Slot: before.Config.Slot, Actor: actorOf(c),
		From: before.Proved.Generation, To: after.Proved.Generation, Digest: after.Proved.Digest}
	if r.Now {
		line.Reason = "now"
	}
	if err != nil {
		line.Reason = strings.TrimPrefix(line.Reason+" failed: "+oneLine(err), " ")
	}
	d.keepAudit(line)
	if _, ok := d.currentConfig().Service(r.Service); ok && errors.Is(err, deliver.ErrUnknown) {
		err = &admin.Error{Code: admin.CodeFailed, Reason: failure.Interrupted, Message: fmt.Sprintf("the delivery to service %s was cut short: the daemon stops", r.Service),
			Hint: "what starts next goes on with it"}
	}
	result := admin.DeliverResult{Service: serviceFacts(&after), Delivered: err == nil && after.Proved != before.Proved}
	return result, deliveryAnswer(r.Service, &after, err)
}

// deliveryAnswer is deliveryError, and adds to what a service did not take that it is not
// tried again by itself.
func deliveryAnswer(name string, st *deliver.Status, err error) error {
	answer := deliveryError(name, err)
	var e *admin.Error
	if st.State != deliver.Held || !errors.As(err, new(*failure.Error)) || !errors.As(answer, &e) {
		return answer
	}
	held := *e
	held.Message = fmt.Sprintf("service %s is held, and stays on generation %d, as generation %d did not work: %s", name, st.Proved.Generation, st.Desired.Generation, e.Message)
	held.Hint = thenDeliver(e.Hint, name)
	return &held
}

// thenDeliver is what to do about a service that is not tried again by itself, or later.
func thenDeliver(hint, name string) string {
	if strings.Contains(hint, "spinecert deliver") {
		return hint
	}
	return strings.TrimPrefix(hint+"; once it is mended: spinecert deliver "+name+" --now", "; ")
}

func (d *Daemon) planDelivery(ctx context.Context, name string) (admin.DeliverResult, error) {
	p, err := d.services.Plan(ctx, name)
	if err != nil {
		return admin.DeliverResult{}, deliveryError(name, err)
	}
	result := admin.DeliverResult{Service: serviceFacts(&p.Status), Plan: &admin.DeliverPlan{Files: []admin.PlannedFile{}, Steps: append([]string{}, p.Steps...)}}
	for _, f := range p.Files {
		result.Plan.Files = append(result.Plan.Files, admin.PlannedFile(f))
	}
	return result, deliveryError(name, p.Error)
}

func unknownService(name string) error {
	return &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no service %q", name), Hint: "spinecert services lists those there are"}
}

// deliveryError is the answer to an order that was not carried out. What the service
// did not take was examined and judged; what could not be done is a failure.
func deliveryError(name string, err error) error {
	var (
		why  *failure.Error
		said *admin.Error
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &said):
		return said
	case errors.Is(err, deliver.ErrUnknown): // or a reload has removed it meanwhile
		return unknownService(name)
	case errors.As(err, &why):
		e := &admin.Error{Code: admin.CodeFailed, Reason: why.Reason, Message: oneLine(why), Hint: why.Hint()}
		if judged(why.Reason) {
			e.Code = admin.CodeRefused
		}
		return e
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &admin.Error{Code: admin.CodeFailed, Reason: "timeout", Message: fmt.Sprintf("service %s is not done yet", name),
			Hint: fmt.Sprintf("what was begun goes on; spinecert services %s says how it stands", name)}
	}
	return &admin.Error{Code: admin.CodeFailed, Message: oneLine(err), Hint: pki.Hint(err)}
}

// judged reports whether a reason is a verdict: of the service on what it was given, or
// of us on what it serves, or on what there is to deliver. All others keep a delivery from
// being done, or from being seen to be done.
func judged(reason string) bool {
	switch reason {
	case failure.ValidateFailed, failure.ReloadFailed, failure.UnitInactive,
		failure.Unreachable, failure.HandshakeFailed, failure.WrongCertificate, failure.WrongChain, failure.RefusedUs, failure.ProbeFailed,
		failure.Drift, failure.NoMaterial, failure.Waiting:
		return true
	}
	return false
}

// serviceFacts are what the admin API says of a service.
func serviceFacts(st *deliver.Status) admin.Service {
	c := &st.Config
	out := admin.Service{
		Name: c.Name, Slot: c.Slot, State: string(st.State), Since: admin.Time{Time: st.Since}, Generation: st.Desired.Generation,
		Desired: versionFacts(st.Desired), Delivered: versionFacts(st.Delivered), Served: versionFacts(st.Served), Proved: versionFacts(st.Proved),
		Waits: st.Waits, Step: st.Step, Reason: st.Reason, LastError: st.Error, Hint: st.Hint,
		Retry: admin.Time{Time: st.Retry}, Looked: admin.Time{Time: st.Looked}, After: append([]string{}, c.After...),
		Directory: c.Directory, Probe: []string{}, Reload: c.Reload.Kind,
	}
	for _, p := range c.Probes {
		out.Probe = append(out.Probe, p.Address)
	}
	if len(c.ProbeExec.Exec) > 0 {
		out.Probe = append(out.Probe, c.ProbeExec.Exec[0])
	}
	if st.State == deliver.Held || st.State == deliver.Failed {
		out.Hint = thenDeliver(out.Hint, c.Name)
	}
	return out
}

func versionFacts(v deliver.Version) admin.ServiceVersion {
	return admin.ServiceVersion{Digest: v.Digest, Generation: v.Generation, Leaf: v.Leaf, Since: admin.Time{Time: v.Since}, NotAfter: admin.Time{Time: v.Ends}}
}
