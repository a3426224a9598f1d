package rotate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// rollback puts an older generation in force again. The store has it under its new
// number before anything serves it, so that a hold outlives a crash.
func (l *slotLook) rollback(m *material, now time.Time) (publish, *Refusal) {
	l.bringBack()
	refuse := func(advice, format string, args ...any) (publish, *Refusal) {
		return nil, &Refusal{Reason: reasonNoHistory, Err: fmt.Errorf(format, args...), Advice: advice}
	}
	if l.store == nil || l.config.Keep == 0 {
		return refuse("set state.keep_generations to more than 0; generations are kept from then on", "slot %q keeps no generations", l.config.Name)
	}
	if l.current == nil {
		return refuse("put a certificate in force first", "slot %q serves nothing, so there is nothing to go back from", l.config.Name)
	}
	// What is left may be wanted again, and may not be on the disk.
	if refusal := l.resync(); refusal != nil {
		return nil, refusal
	}
	history, err := l.history()
	if err != nil {
		return nil, &Refusal{Reason: reasonUnreadable, Err: err, Advice: pki.Hint(err)}
	}
	r, err := l.target(history)
	if err != nil {
		return refuse("name one of them with --to; older ones were dropped (state.keep_generations), and a backup may have them", "%w; kept are %s", err, l.kept(history))
	}
	id, err := l.loaded(r.Number)
	if err != nil {
		return refuse("choose another one with --to", "generation %d of slot %q cannot be loaded: %w", r.Number, l.config.Name, err)
	}
	cand := &candidate{file: fmt.Sprintf("generation %d of slot %s", r.Number, l.config.Name), identity: id}
	// Neither an expired nor a revoked certificate, whatever is allowed.
	if cand, refusal := examineIdentity(&l.config, cand, l.state, nil, now); refusal != nil {
		refusal.Rule, refusal.Advice = "", "choose another one with --to; what is served goes on"
		if refusal.Reason == string(trust.UnknownIssuer) || refusal.Reason == string(trust.WrongEnvironment) {
			refusal.Advice = "its CA is not trusted (any more): if it should be, spinecert trust add FILE, then again; what is served goes on"
		}
		return nil, refusal
	} else if refusal := guard(&l.config, l.current, cand, append(slices.Clone(l.rules), RuleOlder, RuleRolledBack, RuleKeyReuse), now); refusal != nil {
		refusal.Advice = "choose another one with --to, or make the change by putting its files in place"
		return nil, refusal
	}
	cand.origin, cand.of, cand.held = FromRollback, r.Number, true
	if r.Origin == FromRollback {
		cand.of = r.Of
	}
	cand.left, cand.leftLeaf, cand.source = l.current.digest, leafDigest(l.current.Identity), l.last
	if m != nil {
		cand.source = m.digest
	}
	if l.current.Held {
		cand.left, cand.leftLeaf = l.current.left, l.current.leftLeaf
	}
	return l.commit(cand, now)
}

// target finds the generation that an order to roll back means.
func (l *slotLook) target(history []Record) (Record, error) {
	cur := l.current
	if to := l.order.to; to != 0 {
		i := slices.IndexFunc(history, func(r Record) bool { return r.Number == to })
		switch {
		case i < 0:
			return Record{}, fmt.Errorf("slot %q has no generation %d", l.config.Name, to)
		case history[i].Digest == cur.digest:
			return Record{}, fmt.Errorf("generation %d is what slot %q serves", to, l.config.Name)
		case history[i].Environment != l.env.name:
			return Record{}, fmt.Errorf("generation %d of slot %q is of environment %q", to, l.config.Name, history[i].Environment)
		}
		return history[i], nil
	}
	before := cur.Number
	if cur.Origin == FromRollback {
		before = cur.Of // a second step goes further back
	}
	for _, r := range history {
		if r.Number < before && r.Digest != cur.digest && r.Environment == l.env.name {
			return r, nil
		}
	}
	return Record{}, errors.New("there is no older generation to go back to")
}

// kept names the generations there are, for a message.
func (l *slotLook) kept(history []Record) string {
	var out []string
	for _, r := range history {
		text := fmt.Sprintf("%d (until %s)", r.Number, r.NotAfter.UTC().Format(time.DateOnly))
		switch {
		case r.Number == l.current.Number:
			text = fmt.Sprintf("%d (serves)", r.Number)
		case r.Digest == l.current.digest:
			text = fmt.Sprintf("%d (the same as serves)", r.Number)
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
