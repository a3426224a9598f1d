package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
)

// daemonLook is a look at what the daemon has: the slots that were named, or everything.
func (o *checkOptions) daemonLook(limits checkLimits) look {
	return look{
		do: func(ctx context.Context) []checkItem {
			client := o.daemon.client()
			s, err := client.Status(ctx)
			if err != nil {
				return []checkItem{o.silent(err)}
			}
			d := &daemonCheck{Status: s, limits: limits, now: o.now}
			if len(o.slots) > 0 {
				return d.named(unique(o.slots))
			}
			environments, err := client.Trust(ctx)
			items := d.everything(environments)
			if err != nil {
				i := fault(checkDaemon, o.daemon.socket, pluginUnknown, fmt.Errorf("the daemon does not say which CAs it has: %w", err))
				i.unseen = []string{checkCA}
				items = append(items, i)
			}
			return items
		},
		late: o.unanswered(pluginCritical, fmt.Errorf("the daemon on %q did not answer in %s", o.daemon.socket, o.limit)),
	}
}

// silent is a daemon that does not answer. Who may not ask it has learnt nothing.
func (o *checkOptions) silent(err error) checkItem {
	status := pluginCritical
	if errors.Is(err, fs.ErrPermission) {
		status = pluginUnknown
	}
	i := o.unanswered(status, o.daemon.explain(err))
	if len(o.slots) == 0 && noDaemon(err) {
		i.Hint += "; on a host without a daemon name what to check: --file, --endpoint"
	}
	return i
}

// unanswered is an item for a daemon that said nothing at all.
func (o *checkOptions) unanswered(status pluginStatus, err error) checkItem {
	i := fault(checkDaemon, o.daemon.socket, status, err)
	i.unseen = []string{checkSlot, checkCA, checkCondition}
	return i
}

// daemonCheck judges how the daemon stands.
type daemonCheck struct {
	admin.Status
	limits checkLimits
	now    time.Time
}

// everything are the items of a whole daemon.
func (d *daemonCheck) everything(environments []admin.TrustEnvironment) []checkItem {
	var items []checkItem
	if d.Config.Error != "" {
		items = append(items, checkItem{Kind: checkConfiguration, Name: d.Config.File, Status: pluginWarning,
			Message: "the configuration on disk is not in force: " + strings.ReplaceAll(d.Config.Error, "\n", "; "), Hint: "correct it, then spinecert reload"})
	}
	for i := range d.Slots {
		items = append(items, d.slot(&d.Slots[i]))
	}
	for _, e := range environments {
		for i := range e.CAs {
			items = append(items, d.ca(&e, &e.CAs[i]))
		}
	}
	return append(items, d.conditions(func(*admin.Condition) bool { return true })...)
}

// named are the items of some slots, and of what depends on them or they on.
func (d *daemonCheck) named(slots []string) []checkItem {
	var items []checkItem
	for _, name := range slots {
		at := slices.IndexFunc(d.Slots, func(s admin.Slot) bool { return s.Name == name })
		if at < 0 {
			i := fault(checkSlot, name, pluginUnknown, fmt.Errorf("there is no slot %q", name))
			i.Hint = "see spinecert status for the slots there are"
			items = append(items, i)
			continue
		}
		items = append(items, d.slot(&d.Slots[at]))
	}
	return append(items, d.conditions(func(c *admin.Condition) bool {
		return c.Kind == condition.Host || slices.ContainsFunc(slots, func(slot string) bool { return d.concerns(c, slot) })
	})...)
}

// concerns reports whether a condition bears on a slot: its own, which are those of its
// services and tunnels too, or one of its environment.
func (d *daemonCheck) concerns(c *admin.Condition, slot string) bool {
	if c.Kind == condition.Environment {
		return slices.ContainsFunc(d.Slots, func(s admin.Slot) bool { return s.Name == slot && s.Environment == c.Subject })
	}
	return c.Slot == slot
}

// slot judges what a slot serves. The end is the first of certificate and chain.
func (d *daemonCheck) slot(s *admin.Slot) checkItem {
	affects := affected(s.Affects)
	if s.NotAfter.IsZero() {
		i := checkItem{Kind: checkSlot, Name: s.Name, Status: pluginWarning, Hint: s.Hint, Affects: affects, Code: s.LastReason,
			Message: fmt.Sprintf("%s has nothing to serve: %s", s.Name, cmp.Or(s.LastError, s.State))}
		if d.used(s.Name) {
			i.Status = pluginCritical
		}
		i.Message += affectsText(affects)
		return i
	}
	i := d.limits.item(checkSlot, s.Name, []span{{to: s.NotAfter.Time}}, d.now)
	due := i.Status != pluginOK
	if s.Held {
		i.Status, i.Code = worse(i.Status, pluginWarning), "held"
		i.Message += fmt.Sprintf("; it was rolled back to generation %d, and takes no new certificate", s.Of)
	}
	i.Affects, i.Message = affects, i.Message+affectsText(affects)
	switch {
	case s.Held:
		i.Hint = fmt.Sprintf("once its source is good again: spinecert rotate %s --release", s.Name)
	case due:
		i.Hint = cmp.Or(s.Hint, "ask for the next certificate now, unless a request waits already: spinecert csr list")
	}
	return i
}

// used reports whether a tunnel or a service stands still without the slot. One that
// waits for its first certificate keeps nobody waiting.
func (d *daemonCheck) used(slot string) bool {
	return slices.ContainsFunc(d.Tunnels, func(t admin.Tunnel) bool { return t.Slot == slot }) ||
		slices.ContainsFunc(d.Services, func(s admin.Service) bool { return s.Slot == slot })
}

// ca judges a CA of an environment. Many keep one that is over in the trust files, beside its successor: that is a concern only where something stood under it.
// What did is known since the start of the daemon alone, so that one that nothing succeeds is a concern too.
func (d *daemonCheck) ca(e *admin.TrustEnvironment, ca *admin.TrustCA) checkItem {
	i := d.limits.item(checkCA, e.Name+"/"+commonName(ca.Subject), []span{{to: ca.NotAfter}}, d.now)
	i.Message = "CA " + i.Message
	var under []string
	if n := len(ca.Slots); n > 0 {
		under = append(under, count(n, "slot"))
	}
	if n := len(ca.Peers); n > 0 {
		under = append(under, count(n, "peer"))
	}
	switch {
	case len(under) > 0:
		i.Message += ", above " + strings.Join(under, " and ")
	case *i.SecondsLeft >= 0:
	case d.inUse(e.Name) && !d.succeeded(e, ca):
		i.Status, i.SecondsLeft = pluginWarning, nil
		i.Message += ", and the trust files have no successor of its name"
		i.Hint = "peers under it are refused: add its successor to the trust files (spinecert trust list, spinecert trust fetch), or take it out if it has no peers"
		return i
	default:
		i.Status, i.SecondsLeft = pluginOK, nil
	}
	if i.Status != pluginOK {
		i.Hint = "add its successor to the trust files: spinecert trust list, spinecert trust fetch"
	}
	return i
}

// inUse reports whether an environment has slots, and so perhaps tunnels.
func (d *daemonCheck) inUse(environment string) bool {
	return slices.ContainsFunc(d.Slots, func(s admin.Slot) bool { return s.Environment == environment })
}

// succeeded reports whether another CA of the same name has not ended.
func (d *daemonCheck) succeeded(e *admin.TrustEnvironment, ca *admin.TrustCA) bool {
	return slices.ContainsFunc(e.CAs, func(other admin.TrustCA) bool {
		return other.Subject == ca.Subject && secondsLeft(other.NotAfter, d.now) >= 0
	})
}

// commonName shortens a subject to its CN, which can have no comma in it without a backslash before.
func commonName(subject string) string {
	_, name, found := strings.Cut(","+subject, ",CN=")
	if !found {
		return subject
	}
	name, _, _ = strings.Cut(name, ",")
	return strings.TrimSuffix(name, `\`)
}

// conditions are those of the subjects that concern whoever asks. What is a matter of
// dates is judged above, by the thresholds of the flags.
func (d *daemonCheck) conditions(of func(*admin.Condition) bool) []checkItem {
	var items []checkItem
	for i := range d.Conditions {
		c := &d.Conditions[i]
		if slices.Contains([]condition.Code{condition.Expiring, condition.Expired, condition.CAExpiring}, c.Code) || !of(c) {
			continue
		}
		status := pluginWarning
		if c.Severity == condition.Critical {
			status = pluginCritical
		}
		hit := affected(c.Affects)
		items = append(items, checkItem{Kind: checkCondition, Name: c.Subject, Code: string(c.Code), Status: status, Hint: nextAction(c), Affects: hit,
			Message: fmt.Sprintf("%s: %s: %s", c.Subject, c.Code, strings.ReplaceAll(c.Message, "\n", "; ")) + affectsText(hit)})
	}
	return items
}

// nextAction is the hint of a condition, with the command to give unless it has that already.
func nextAction(c *admin.Condition) string {
	switch {
	case c.Hint == "":
		return c.Command
	case c.Command == "" || strings.Contains(c.Hint, c.Command):
		return c.Hint
	}
	return c.Hint + "; then: " + c.Command
}

// affected names who is hit, as shortly as it was written down.
func affected(a admin.Affects) []string {
	switch {
	case len(a.ODS) > 0:
		return a.ODS
	case len(a.ASIDs) > 0:
		return a.ASIDs
	case a.Note != "":
		return []string{a.Note}
	}
	return nil
}

// affectsText is the end of a sentence.
func affectsText(who []string) string {
	const most = 5
	switch {
	case len(who) == 0:
		return ""
	case len(who) > most:
		return fmt.Sprintf(", affects %s and %d more", strings.Join(who[:most], " "), len(who)-most)
	}
	return ", affects " + strings.Join(who, " ")
}
