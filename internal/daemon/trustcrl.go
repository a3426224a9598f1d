package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/handover"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// trustCarry takes a list that somebody carried here.
func (d *Daemon) trustCarry(ctx context.Context, c admin.Caller, r admin.CarryRequest) (admin.CarriedCRL, error) {
	out := admin.CarriedCRL{Environment: r.Environment, Name: r.Name, CRL: admin.CRL{Covers: []string{}}}
	if !slices.ContainsFunc(d.keeper.Environments(), func(e *rotate.Environment) bool { return e.Name() == r.Environment }) {
		return out, &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no environment %q", r.Environment), Hint: "spinecert trust list names them"}
	}
	if r.Name == "" {
		return out, &admin.Error{Code: admin.CodeUsage, Message: "the list has no name", Hint: "send the base name of its file"}
	}
	status, err := d.keeper.CarryCRL(ctx, r.Environment, r.Name, r.Data, actorOf(c))
	line := auditLine{Time: time.Now(), Event: "crl_carried", Reason: r.Environment + " " + r.Name, Actor: actorOf(c)}
	if err != nil {
		line.Reason += " refused: " + oneLine(err)
		d.keepAudit(line)
		return out, carryRefused(err)
	}
	out.CRL = describeCRL(status.CRL, admin.CRLOfCarrier)
	out.CRL.InForce, out.CRL.Fetched = true, admin.Time{Time: status.Fetched}
	line.Digest = out.CRL.SHA256
	d.keepAudit(line) // the log has it from the event
	d.tell(handover.Note{Kind: handover.NoteList, Environment: r.Environment, Address: status.Address, Name: r.Name})
	return out, nil
}

// carryRefused tells what was judged bad from what could not be done.
func carryRefused(err error) error {
	var refusal *rotate.Refusal
	var list *trust.CRLError
	switch {
	case errors.As(err, &refusal) && refusal.Rule == rotate.RuleCRLNumber:
		return &admin.Error{Code: admin.CodeRefused, Reason: refusal.Reason, Message: oneLine(refusal.Err),
			Hint: "the newer list stays in force; get the current one, as its issuer publishes it"}
	case errors.As(err, &refusal) && refusal.Reason != rotate.ReasonRemoved:
		return &admin.Error{Code: admin.CodeRefused, Reason: refusal.Reason, Message: oneLine(refusal), Hint: advice(refusal)}
	case errors.As(err, &list):
		return &admin.Error{Code: admin.CodeRefused, Reason: string(list.Reason), Message: oneLine(list), Hint: list.Hint()}
	}
	return &admin.Error{Code: admin.CodeFailed, Message: oneLine(err), Hint: pki.Hint(err)}
}

// crlStatus is what an environment has of lists: those in force, and those that are
// asked for. State may be nil.
func crlStatus(e *rotate.Environment, state *trust.State) []admin.CRL {
	out := []admin.CRL{}
	var inForce []*trust.CRL
	if state != nil {
		inForce = state.CRLs()
	}
	lists := e.CRLs()
	known, judging := map[string]bool{}, map[string]bool{} // by address: a list may be replaced right now
	for _, l := range lists {
		known[l.Address] = true
	}
	for _, crl := range inForce {
		judging[crl.Origin()] = true
		if !known[crl.Origin()] {
			c := describeCRL(crl, admin.CRLOfFile)
			c.InForce = true
			out = append(out, c)
		}
	}
	for _, l := range lists {
		c := describeCRL(l.CRL, string(l.Origin))
		if l.Origin != rotate.CRLOfCarrier {
			c.Address = l.Address
		}
		c.Origin, c.InForce = l.Address, l.CRL != nil && judging[l.Address]
		c.Fetched, c.Tried, c.Next, c.Failures = admin.Time{Time: l.Fetched}, admin.Time{Time: l.Tried}, admin.Time{Time: l.Next}, l.Failures
		if l.Err != nil {
			c.Error, c.Hint = oneLine(l.Err), adviceOf(l.Err)
		}
		out = append(out, c)
	}
	return out
}

// describeCRL says what a list is; nothing of none.
func describeCRL(crl *trust.CRL, source string) admin.CRL {
	out := admin.CRL{Source: source, Covers: []string{}}
	if crl == nil {
		return out
	}
	scope := crl.Scope()
	digest := crl.Digest()
	out.Origin, out.Issuer, out.Entries, out.SHA256 = crl.Origin(), crl.IssuerCertificate().Subject.CommonName, crl.Len(), fmt.Sprintf("%x", digest)
	out.ThisUpdate, out.NextUpdate = admin.Time{Time: crl.ThisUpdate()}, admin.Time{Time: crl.NextUpdate()}
	out.Covers = append(out.Covers, scope.Names...)
	if n := crl.Number(); n != nil {
		out.Number = n.String()
	}
	switch {
	case scope.OnlyUser:
		out.Only = "users"
	case scope.OnlyCA:
		out.Only = "cas"
	}
	return out
}
