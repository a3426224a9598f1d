package daemon

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

const revocationHint = "set revocation: require; CRLs are fetched from crl.hosts, read from crl.files, or carried here with spinecert trust crl"

// tunnelConditions are what is wrong with a tunnel.
func (d *Daemon) tunnelConditions(t *liveTunnel, add adder) {
	c := condition.Condition{Kind: condition.Tunnel, Subject: t.name, Severity: condition.Warning}
	if st := d.tunnelStatus(t); st.State == "failed" {
		c.Code, c.Severity, c.Message, c.Hint = condition.TunnelDown, condition.Critical, "a listener does not open: "+st.LastError, "free the address, or correct listen in the configuration"
		add(c, "")
	}
	c.Severity = condition.Warning
	if t.config.Audit {
		c.Code, c.Message = condition.PolicyAudit, "peers that would be refused are let in, and counted"
		c.Hint = "spinecert status --refusals shows whom it would hit; then set policy: enforce"
		add(c, "")
	}
	if t.config.Revocation == string(trust.Off) && d.environmentMode(t) != trust.Off {
		c.Code, c.Message = condition.RevocationOff, "the tunnel accepts peers without looking at any CRL, although its environment has them"
		c.Hint = "take revocation out of the tunnel, or set it to require"
		add(c, "")
	}
}

// environmentMode is the revocation mode of the environment that a tunnel is in.
func (d *Daemon) environmentMode(t *liveTunnel) trust.Mode {
	s := d.keeper.Slot(t.config.Slot)
	if s == nil {
		return ""
	}
	if snap := s.Snapshot(); snap != nil {
		return snap.Trust.Revocation()
	}
	return ""
}

// modeOf is the strictest revocation mode with which somebody is judged in an environment.
func (d *Daemon) modeOf(e *rotate.Environment, live []*liveTunnel) trust.Mode {
	strictest := e.Status().Config.Revocation
	for _, t := range live {
		s := d.keeper.Slot(t.config.Slot)
		if s == nil || s.Status().Config.Environment != e.Name() {
			continue
		}
		switch m := trust.Mode(t.config.Revocation); {
		case m == trust.Require, m == trust.Prefer && strictest == trust.Off:
			strictest = m
		}
	}
	return strictest
}

// environmentConditions are what is wrong with the trust of an environment, beside the
// dates of its CAs. mode is the strictest with which somebody is judged in it, and need
// which lists that takes. It returns the IDs of what is wrong and only counted.
func environmentConditions(e *rotate.Environment, mode trust.Mode, need *crlNeed, now time.Time, add adder) []string {
	st := e.Status()
	refusalCondition(e.Name(), st, add)
	state := e.Trust()
	if state == nil {
		return nil
	}
	c := condition.Condition{Kind: condition.Environment, Subject: e.Name(), Severity: condition.Warning}
	if state.Revocation() == trust.Off {
		c.Code, c.Message, c.Hint = condition.RevocationOff, "peers are accepted without looking at any CRL", revocationHint
		add(c, "")
	}
	b := state.Bundle()
	for _, ca := range b.SubCAs() {
		if weak := weakness(ca, strengthOf(st.Config)); weak != "" && now.Before(ca.NotAfter) {
			c.Code, c.Message = condition.WeakAlgorithm, fmt.Sprintf("CA %q of %q %s; what it issued is refused", clipName(ca.Subject.CommonName), b.File(ca), weak)
			c.Hint = "take it out of the trust files once nobody needs it, or ask its owner for its successor"
			add(c, pki.Fingerprint(ca)[:8])
		}
	}
	if severity, text := mixture(b.Certificates()); text != "" {
		c.Code, c.Severity, c.Message = condition.EnvironmentMixture, severity, "the trust files hold CAs of several NHS environments: "+text
		c.Hint = "keep one environment in each set of trust files: with these, a peer of one passes as a peer of the other"
		add(c, "")
	}
	if mode == trust.Off {
		return nil
	}
	return crlConditions(e, state, mode, need, now, add)
}

// refusalCondition is what of the trust files, or of crl.files, was not taken.
func refusalCondition(environment string, st *rotate.EnvironmentStatus, add adder) {
	if st.Refusal == nil {
		return
	}
	c := condition.Condition{Code: condition.RotationRefused, Kind: condition.Environment, Subject: environment, Severity: condition.Warning, Since: st.Since,
		Message: "trust files not taken: " + st.Refusal.Error(), Hint: advice(st.Refusal)}
	detail := ""
	switch {
	case st.Refusal.Rule == rotate.RuleTrustShrink:
		c.Code, c.Message = condition.TrustChanged, st.Refusal.Error()
	case st.Refusal.CRLs:
		detail = "crls"
		if st.Config.Revocation == trust.Require {
			c.Severity = condition.Critical
		}
		c.Message = "not all of crl.files was taken; the other lists, and those that were in force, count: " + st.Refusal.Error()
		c.Hint = cmp.Or(c.Hint, "mend the file, or take it away; it is looked at again by itself")
	}
	add(c, detail)
}

// mixture says which NHS environments the CAs are of, if it is more than one. INT and
// DEP share the root of path to live, and in G2 the subCA, which is shipped with the
// trust of both (SPINE.md, 3).
func mixture(cas []*x509.Certificate) (severity condition.Severity, text string) {
	names := map[string]string{} // of an example, by environment
	for _, c := range cas {
		k, ok := trust.Known(c)
		switch {
		case !ok:
		case k.Environment == "int" && k.Generation == "G2":
			names["ptl"] = k.Name
		default:
			names[k.Environment] = k.Name
		}
	}
	var environments, said []string
	for environment, name := range names {
		if environment == "ptl" && (names["int"] != "" || names["dep"] != "") {
			continue
		}
		environments, said = append(environments, environment), append(said, fmt.Sprintf("%s (%s)", strings.ToUpper(environment), name))
	}
	if len(environments) < 2 {
		return "", ""
	}
	slices.Sort(said)
	if slices.Contains(environments, "live") {
		return condition.Critical, strings.Join(said, ", ")
	}
	return condition.Warning, strings.Join(said, ", ")
}
