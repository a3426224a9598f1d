package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// status gathers how everything stands.
func (d *Daemon) status(context.Context) admin.Status {
	now := time.Now()
	// What cannot be read of the requests is told by the log and by state verify.
	requests, _ := d.manager.RequestStatus(now)
	services := d.services.Status()
	s := admin.Status{
		Version: d.version, PID: d.pid, Started: d.started.UTC().Truncate(time.Second), Ready: d.usable(), Page: d.pageAddress(), Config: d.configStatus(),
		Environments: []admin.Environment{}, Slots: []admin.Slot{}, Tunnels: []admin.Tunnel{},
		Services: []admin.Service{}, Requests: requests, Conditions: d.conditions(now, requests, services),
	}
	for _, e := range d.keeper.Environments() {
		s.Environments = append(s.Environments, environmentStatus(e, now))
	}
	c, slots := d.currentConfig(), d.keeper.Slots()
	s.Slots = slices.Grow(s.Slots, len(slots))
	for _, slot := range slots {
		s.Slots = append(s.Slots, slotStatus(slot, c))
	}
	adviseEmpty(s.Slots, requests)
	for _, t := range d.liveTunnels() {
		s.Tunnels = append(s.Tunnels, d.tunnelStatus(t))
	}
	for i := range services {
		s.Services = append(s.Services, serviceFacts(&services[i]))
	}
	return s
}

// pageAddress is where the status page is, as the kernel chose the port.
func (d *Daemon) pageAddress() string {
	switch {
	case d.web == nil:
		return ""
	case d.currentConfig().Admin.HTTPSlot != "":
		return "https://" + d.web.Addr().String() + "/"
	}
	return "http://" + d.web.Addr().String() + "/"
}

// adviseEmpty says of slots that have nothing and were asked for what is next.
func adviseEmpty(slots []admin.Slot, requests []admin.Request) {
	newest := make(map[string]string, len(requests)) // ID by slot
	for _, r := range requests {
		newest[r.Slot] = r.ID
	}
	for i := range slots {
		s := &slots[i]
		if id, ok := newest[s.Name]; ok && s.Managed && s.State == string(rotate.SlotEmpty) {
			s.Hint = fmt.Sprintf("request %s waits for its certificate: send it if that was not done (spinecert csr show --mail %s), and import what comes back", id, id)
		}
	}
}

func (d *Daemon) currentConfig() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config
}

func (d *Daemon) configStatus() admin.ConfigStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := admin.ConfigStatus{File: d.file, Loaded: d.loaded.UTC().Truncate(time.Second)}
	if d.lastErr != nil {
		s.Error = d.lastErr.Error()
	}
	return s
}

// usable reports whether every slot that a tunnel uses serves an identity.
func (d *Daemon) usable() bool {
	if !d.staged.Load() {
		return false
	}
	for _, t := range d.liveTunnels() {
		if s := d.keeper.Slot(t.config.Slot); s == nil || s.Snapshot() == nil {
			return false
		}
	}
	return true
}

func environmentStatus(e *rotate.Environment, now time.Time) admin.Environment {
	st := e.Status()
	out := admin.Environment{Name: e.Name(), Revocation: string(st.Config.Revocation), PendingSince: admin.Time{Time: st.Since}}
	if st.Refusal != nil {
		out.LastError, out.Hint = st.Refusal.Error(), advice(st.Refusal)
	}
	state := e.Trust()
	out.CRLs = crlStatus(e, state)
	if state == nil {
		return out
	}
	b := state.Bundle()
	out.Ready, out.Sequence, out.Bundle = true, state.Sequence(), fmt.Sprintf("%x", b.Digest())
	out.Roots, out.SubCAs, out.Expired = len(b.Roots()), len(b.SubCAs()), len(b.Expired(now))
	return out
}

func slotStatus(slot *rotate.Slot, c *config.Config) admin.Slot {
	st := slot.Status()
	f := st.Config.Files
	out := admin.Slot{Name: slot.Name(), Environment: st.Config.Environment, State: string(st.State), FQDN: st.Config.FQDN,
		Names: []string{}, Source: strings.Join(nonEmpty(config.SourceLabel(f.Certificate), config.SourceLabel(f.Chain), config.SourceLabel(f.Key), config.SourceLabel(f.PKCS12)), " "), PendingSince: admin.Time{Time: st.PendingSince}}
	if out.Managed = st.Config.Managed; out.Managed {
		out.Source = "managed"
		if st.State == rotate.SlotEmpty {
			out.Hint = "ask for its certificate: spinecert csr new --slot " + slot.Name()
		}
	}
	if st.Unsaved != nil {
		out.Unsaved = st.Unsaved.Error()
	}
	if r := st.Refusal; r != nil {
		out.LastError, out.LastReason, out.Hint = oneLine(r), r.Reason, advice(r)
		if st.Offered && manage.WaitsFor(r) {
			out.State = string(rotate.SlotPending) // its answer is good, and waits
		}
	}
	if sc, ok := c.Slot(slot.Name()); ok {
		out.Affects = admin.Affects{ODS: append([]string{}, sc.Affects.ODS...), ASIDs: append([]string{}, sc.Affects.ASIDs...), Note: sc.Affects.Note}
	}
	if snap := slot.Snapshot(); snap != nil {
		g := snap.Generation
		leaf := g.Identity.Leaf()
		out.Names, _ = g.Identity.Names()
		if out.FQDN == "" && len(out.Names) > 0 {
			out.FQDN = out.Names[0]
		}
		out.Generation, out.NotAfter, out.Since = g.Number, admin.Time{Time: g.NotAfter}, admin.Time{Time: g.Since}
		out.Origin, out.Of, out.Held = string(g.Origin), g.Of, g.Held
		if g.Held && st.Refusal == nil {
			out.Hint = fmt.Sprintf("it was rolled back to generation %d; spinecert rotate %s --release ends that", g.Of, slot.Name())
		}
		out.Serial, out.SHA256 = leaf.SerialNumber.Text(16), pki.Fingerprint(leaf)
	}
	return out
}

func nonEmpty(in ...string) []string {
	var out []string
	for _, s := range in {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// The policies of a tunnel.
const (
	policyEnforce = "enforce"
	policyAudit   = "audit"
)

func (d *Daemon) tunnelStatus(t *liveTunnel) admin.Tunnel {
	told := t.tally.status()
	out := admin.Tunnel{Name: t.name, Direction: t.config.Direction, Slot: t.config.Slot, State: "open", Listen: []string{},
		Forward: t.config.Forward.Address, Peers: append([]string{}, t.config.Peers...), Connections: int64(t.tunnel.Stats().Connections), Accepted: told.accepted, Refused: told.refused,
		Policy: policyEnforce, Revocation: t.config.Revocation, Audited: told.audited, LastAccepted: admin.Time{Time: told.lastAccepted},
		LastRefused: admin.Time{Time: told.lastRefused}, LastRefusedReason: told.lastReason}
	if t.config.Audit {
		out.Policy = policyAudit
	}
	if t.config.AnyPeer {
		out.Peers = []string{"*"}
	}
	out.Listen = append(out.Listen, t.tunnel.Shown()...)
	s := d.keeper.Slot(t.config.Slot)
	switch {
	case s == nil || s.Snapshot() == nil:
		out.State = "closed"
	case told.listen != nil:
		out.State, out.LastError = "failed", told.listen.Error()
	}
	return out
}

// oneLine is an error in one line: of several causes each is one of its own.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// describe says for --check what would be ready.
func describe(k *rotate.Keeper) (string, bool) {
	var b strings.Builder
	ready := true
	line := func(kind, name string, ok bool, r *rotate.Refusal) {
		word := "ready"
		if !ok {
			word, ready = "not ready", false
		}
		fmt.Fprintf(&b, "%s %s: %s", kind, name, word)
		if r != nil {
			b.WriteString(": " + oneLine(r))
			if h := advice(r); h != "" {
				fmt.Fprintf(&b, " (%s)", h)
			}
		}
		b.WriteByte('\n')
	}
	for _, e := range k.Environments() {
		st := e.Status()
		line("environment", e.Name(), st.Trust != nil && st.Refusal == nil, st.Refusal)
	}
	for _, s := range k.Slots() {
		st := s.Status()
		r := st.Refusal
		if r == nil && st.Generation == nil && st.Config.Managed {
			r = &rotate.Refusal{Err: errors.New("it has no certificate yet"), Advice: "spinecert csr new --slot " + s.Name()}
		}
		line("slot", s.Name(), st.Generation != nil && r == nil, r)
	}
	return b.String(), ready
}

// backend is what the admin API does.
func (d *Daemon) backend() admin.Backend {
	return admin.Backend{
		Status: d.status, Timeline: d.statusWithTimeline,
		Writers: func() []int {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.writers
		},
		Reload: func(ctx context.Context, c admin.Caller) (admin.ReloadResult, error) {
			return d.reload(context.WithoutCancel(ctx), actor{UID: c.UID, PID: c.PID, Via: "socket"})
		},
		Upgrade:    d.upgrade,
		Rotate:     exclusive(d, d.rotateNow),
		NewRequest: exclusive(d, d.newRequest), Cancel: exclusive(d, d.cancelRequest), Request: d.showRequest, Import: exclusive(d, d.importAnswer), Rollback: exclusive(d, d.rollback),
		Alerts:    d.alertBackend(),
		Trust:     &admin.TrustBackend{List: d.trustList, Diff: d.trustDiff, Add: exclusive(d, d.trustAdd), Accept: exclusive(d, d.trustAccept), Carry: exclusive(d, d.trustCarry)},
		Doctor:    d.examine,
		Deliver:   d.deliver,
		Refusals:  d.refusals,
		Forbidden: d.forbidden,
	}
}

// forbidden records who tried what. Its lines are bounded, so that nobody can
// push the rest of the audit file out with them.
func (d *Daemon) forbidden(c admin.Caller, action string) {
	now := time.Now()
	if !d.denied.allow(now) {
		return
	}
	d.record1("forbidden", slog.LevelWarn, "a user who is not one of admin.writers tried to change something",
		slog.String("action", action), slog.Int("uid", c.UID), slog.Int("pid", c.PID))
	line := auditLine{Time: now, Event: "forbidden", Reason: action, Actor: actor{UID: c.UID, PID: c.PID, Via: "socket"}}
	d.keepAudit(line)
}

func (d *Daemon) rotateNow(ctx context.Context, c admin.Caller, r admin.RotateRequest) (admin.RotateResult, error) {
	for _, rule := range r.Allow {
		if err := rotate.CheckRule(rule); err != nil {
			return admin.RotateResult{}, &admin.Error{Code: admin.CodeUsage, Message: err.Error()}
		}
	}
	reason := strings.Join(r.Allow, ",")
	if r.Release {
		reason = strings.TrimPrefix(reason+",release", ",")
	}
	return d.ordered(c, r.Slot, "rotate", reason, func() error {
		return d.keeper.Rotate(ctx, r.Slot, rotate.Order{Allow: r.Allow, Release: r.Release, Actor: actorOf(c)})
	})
}

// ordered carries out what somebody asks of a slot, and keeps who it was.
func (d *Daemon) ordered(c admin.Caller, name, event, reason string, do func() error) (admin.RotateResult, error) {
	slot := d.keeper.Slot(name)
	if slot == nil {
		return admin.RotateResult{}, &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no slot %q", name), Hint: "see spinecert status for the slots there are"}
	}
	before := slot.Snapshot()
	err := do()
	after := slot.Snapshot()
	result := admin.RotateResult{Slot: slotStatus(slot, d.currentConfig())}
	line := auditLine{Time: time.Now(), Event: event, Slot: name, Actor: actorOf(c), Reason: reason}
	if before != nil {
		line.From = before.Generation.Number
	}
	if after != nil {
		line.To, line.Digest = after.Generation.Number, after.Generation.Digest()
		result.Rotated = before == nil || before.Generation.Number != after.Generation.Number
	}
	if err != nil {
		line.Reason = strings.TrimPrefix(line.Reason+" refused: "+err.Error(), " ")
	}
	d.keepAudit(line)
	var refusal *rotate.Refusal
	switch {
	case errors.As(err, &refusal):
		return result, &admin.Error{Code: admin.CodeRefused, Message: refusal.Error(), Hint: advice(refusal), Reason: refusal.Reason, Rule: refusal.Rule}
	case err != nil:
		return result, &admin.Error{Code: admin.CodeFailed, Message: err.Error(), Hint: pki.Hint(err)}
	}
	return result, nil
}
