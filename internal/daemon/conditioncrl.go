package daemon

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// maxStale bounds how many lists of an environment are conditions of their own: a
// server that is down has them all stale at once.
const maxStale = 10

// staleList is a list that has ended, is about to, or was never had.
type staleList struct {
	key      string // tells it from others: its address, or its issuer and whom it covers
	severity condition.Severity
	since    time.Time // zero: since it was first seen
	ends     time.Time // when peers are refused for it; zero where they are, or never will be
	text     string
	hint     string
}

// crlConditions tell which lists of an environment are past their renewal, cannot be
// renewed and end soon, or were never had. It returns the IDs of those that are only counted.
func crlConditions(e *rotate.Environment, state *trust.State, mode trust.Mode, need *crlNeed, now time.Time, add adder) (counted []string) {
	stale := staleLists(e, state, mode, need, now)
	for i, s := range stale {
		c := condition.Condition{Code: condition.CRLStale, Kind: condition.Environment, Subject: e.Name(), Severity: s.severity, Since: s.since,
			Ends: condition.Moment{Time: s.ends}, Message: s.text, Hint: s.hint}
		if i == maxStale {
			c.Message = fmt.Sprintf("%d more CRLs are in the same state; the next: %s", len(stale)-i, s.text)
			add(c, "more")
		}
		if i >= maxStale {
			counted = append(counted, condition.ID(c.Code, c.Kind, c.Subject, short(s.key)))
			continue
		}
		add(c, short(s.key))
	}
	return counted
}

// short makes a word of a few characters of an address or a name.
func short(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:4])
}

// staleLists returns the worst first.
func staleLists(e *rotate.Environment, state *trust.State, mode trust.Mode, need *crlNeed, now time.Time) []staleList {
	asked := map[string]*rotate.CRLStatus{}
	lists := e.CRLs()
	for i := range lists {
		asked[lists[i].Address] = &lists[i]
	}
	var out []staleList
	grace := e.Status().Config.Grace
	for _, crl := range state.CRLs() {
		if superseded(crl, state, e.Status().Config.Profile == trust.Private, now) {
			continue
		}
		if s, ok := staleCRL(crl, asked[crl.Origin()], mode, grace, now); ok {
			out = append(out, s)
		}
	}
	for i := range lists {
		if s, ok := missingCRL(&lists[i], mode, need.names(state, lists[i].Address)); ok && !state.CoversAddress(lists[i].Address) {
			out = append(out, s)
		}
	}
	for _, l := range need.lacking(state, asked, len(e.Status().Config.Fetch.Hosts) > 0, now) {
		out = append(out, l.condition(need))
	}
	order.Stable(out, func(a, b staleList) int {
		return cmp.Or(strings.Compare(string(a.severity), string(b.severity)), a.since.Compare(b.since)) // critical comes before warning
	})
	return out
}

// superseded reports whether another list in force is current and covers what crl does: one
// that was carried here, say, beside a file that has ended. complete: a list without a name covers
// all that its issuer issued, and not only what the address it came from stands for.
func superseded(crl *trust.CRL, state *trust.State, complete bool, now time.Time) bool {
	scope := crl.Scope()
	return slices.ContainsFunc(state.CRLs(), func(other *trust.CRL) bool {
		if other == crl || !other.NextUpdate().After(now) || !bytes.Equal(other.Issuer(), crl.Issuer()) {
			return false
		}
		o := other.Scope()
		if o.OnlyUser != scope.OnlyUser || o.OnlyCA != scope.OnlyCA || len(o.RawNames) != len(scope.RawNames) {
			return false
		}
		if len(scope.RawNames) == 0 { // each stands for the address it came from
			return complete || other.Origin() == crl.Origin() || crl.CameFor(other.Origin()) || other.CameFor(crl.Origin())
		}
		return !slices.ContainsFunc(scope.RawNames, func(name []byte) bool {
			return !slices.ContainsFunc(o.RawNames, func(have []byte) bool { return bytes.Equal(name, have) })
		})
	})
}

// staleCRL judges a list in force; asked is nil for one that is not fetched.
func staleCRL(crl *trust.CRL, asked *rotate.CRLStatus, mode trust.Mode, grace time.Duration, now time.Time) (staleList, bool) {
	next := crl.NextUpdate()
	end := next.Add(grace)
	name := fmt.Sprintf("CRL of %q from %s", clipName(crl.IssuerCertificate().Subject.CommonName), clipName(config.SourceLabel(crl.Origin())))
	s := staleList{key: crl.Origin(), severity: condition.Warning, since: next, hint: staleHint(asked)}
	if mode == trust.Require && now.Before(end) {
		s.ends = end
	}
	switch {
	case now.After(next):
		// A quarter of the grace is left to do something about it.
		if mode == trust.Require && end.Sub(now) <= grace/4 {
			s.severity = condition.Critical
		}
		s.text = fmt.Sprintf("%s was due for renewal on %s; %s%s", name, day(next), after(end, mode, now), tries(asked))
	case asked != nil && asked.Failures > 0 && next.Sub(now) <= next.Sub(crl.ThisUpdate())/4:
		s.since = time.Time{}
		s.text = fmt.Sprintf("%s ends on %s and could not be had again; %s%s", name, day(next), after(end, mode, now), tries(asked))
	default:
		return s, false
	}
	return s, true
}

// missingCRL judges a list that was asked for and never had. needed is for one that
// peers of a tunnel need, whoever names it.
func missingCRL(l *rotate.CRLStatus, mode trust.Mode, needed bool) (staleList, bool) {
	if l.CRL != nil || l.Failures == 0 {
		return staleList{}, false
	}
	s := staleList{key: l.Address, severity: condition.Warning, hint: staleHint(l)}
	what := "peers that need it are accepted without"
	switch {
	case mode == trust.Require && needed:
		s.severity, what = condition.Critical, "peers that need it are refused"
	case mode == trust.Require:
		what = "a peer that needs it would be refused; none was"
	}
	if l.Origin == rotate.CRLOfOwn && !needed {
		what = "whether our own certificate was revoked is not known"
	}
	s.text = fmt.Sprintf("CRL from %s was never had; %s%s", clipName(l.Address), what, tries(l))
	return s, true
}

// after says what happens to peers when the grace has ended.
func after(end time.Time, mode trust.Mode, now time.Time) string {
	what := "peers that need it are refused"
	if mode != trust.Require {
		what = "peers that need it are accepted unchecked"
	}
	if now.After(end) {
		return what + " since " + day(end)
	}
	return what + " from " + day(end) + " on (crl.grace)"
}

// tries says what became of asking for a list.
func tries(l *rotate.CRLStatus) string {
	if l == nil || l.Origin == rotate.CRLOfCarrier {
		return ""
	}
	text := ""
	if l.Err != nil {
		text = fmt.Sprintf("; %d attempts since, the last: %s", l.Failures, clipName(oneLine(l.Err)))
	}
	if !l.Next.IsZero() {
		text += "; it is asked for again at " + day(l.Next)
	}
	return text
}

func staleHint(l *rotate.CRLStatus) string {
	switch {
	case l == nil:
		return "replace the file with a current list"
	case l.Origin == rotate.CRLOfCarrier:
		return "carry a current one here: spinecert trust crl FILE"
	case l.Err != nil:
		if hint := adviceOf(l.Err); hint != "" {
			return hint
		}
	}
	return "spinecert doctor tries the way to each address; until it works, spinecert trust crl FILE takes a list that was carried here"
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
