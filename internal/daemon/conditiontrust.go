package daemon

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

const revocationHint = "set revocation: require; CRLs are fetched from crl.hosts, read from crl.files, or carried here with spinecert trust crl"

// tunnelConditions are what is wrong with a tunnel.
func (d *Daemon) tunnelConditions(t *liveTunnel, add adder) {
	if st := d.tunnelStatus(t); st.State == "failed" {
		add("tunnel_down", t.name, "critical", d.started, "a listener does not open: "+st.LastError, "free the address, or correct listen in the configuration")
	}
	if t.config.Audit {
		add("policy_audit", t.name, "warning", d.started, "peers that would be refused are let in, and counted",
			"spinecert status --refusals shows whom it would hit; then set policy: enforce")
	}
	if t.config.Revocation == string(trust.Off) && d.environmentMode(t) != trust.Off {
		add("revocation_off", t.name, "warning", d.started, "the tunnel accepts peers without looking at any CRL, although its environment has them", "take revocation out of the tunnel, or set it to require")
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

// environmentConditions are what is wrong with the trust of an environment. mode is
// the strictest with which somebody is judged in it, and need which lists that takes.
func environmentConditions(e *rotate.Environment, mode trust.Mode, need *crlNeed, started, now time.Time, add adder) {
	st := e.Status()
	if st.Refusal != nil && st.Refusal.Rule == rotate.RuleTrustShrink {
		add("trust_changed", e.Name(), "warning", st.Since, st.Refusal.Error(), advice(st.Refusal))
	} else if st.Refusal != nil && st.Refusal.CRLs {
		severity := "warning"
		if st.Config.Revocation == trust.Require {
			severity = "critical"
		}
		add("rotation_refused", e.Name(), severity, st.Since, "not all of crl.files was taken; the other lists, and those that were in force, count: "+st.Refusal.Error(),
			cmp.Or(advice(st.Refusal), "mend the file, or take it away; it is looked at again by itself"))
	} else if st.Refusal != nil {
		add("rotation_refused", e.Name(), "warning", st.Since, "trust files not taken: "+st.Refusal.Error(), advice(st.Refusal))
	}
	state := e.Trust()
	if state == nil {
		return
	}
	if state.Revocation() == trust.Off {
		add("revocation_off", e.Name(), "warning", started, "peers are accepted without looking at any CRL", revocationHint)
	}
	b := state.Bundle()
	for _, c := range b.Certificates() {
		if left := c.NotAfter.Sub(now); left > 0 && left <= caExpiring {
			add("ca_expiring", e.Name(), "warning", c.NotAfter.Add(-caExpiring), fmt.Sprintf("CA %q of %q ends on %s", c.Subject.CommonName, b.File(c), c.NotAfter.UTC().Format(time.RFC3339)),
				"add its successor to the trust files before that")
		}
	}
	for _, c := range b.SubCAs() {
		if weak := weakness(c, strengthOf(st.Config)); weak != "" && now.Before(c.NotAfter) {
			add("weak_algorithm", e.Name(), "warning", started, fmt.Sprintf("CA %q of %q %s; what it issued is refused", clipName(c.Subject.CommonName), b.File(c), weak),
				"take it out of the trust files once nobody needs it, or ask its owner for its successor")
		}
	}
	if severity, text := mixture(b.Certificates()); text != "" {
		add("environment_mixture", e.Name(), severity, started, "the trust files hold CAs of several NHS environments: "+text, "keep one environment in each set of trust files: with these, a peer of one passes as a peer of the other")
	}
	if mode != trust.Off {
		crlConditions(e, state, mode, need, now, add)
	}
}

// mixture says which NHS environments the CAs are of, if it is more than one. INT and
// DEP share the root of path to live, and in G2 the subCA, which is shipped with the
// trust of both (SPINE.md, 3).
func mixture(cas []*x509.Certificate) (severity, text string) {
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
		return "critical", strings.Join(said, ", ")
	}
	return "warning", strings.Join(said, ", ")
}
