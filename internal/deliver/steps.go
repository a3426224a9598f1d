package deliver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/command"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/haproxy"
	"github.com/spinecert/spinecert/internal/deliver/prove"
	"github.com/spinecert/spinecert/internal/deliver/systemd"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// validate has the service, or a program, say whether it would take what is in place.
func (s *service) validate(t *turn) error {
	v := t.c.Validate
	if v.Unit == "" && len(v.Exec) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.ctx, v.Timeout)
	defer cancel()
	if v.Unit == "" {
		return s.command(ctx, t, v.Exec, "validate", failure.ValidateFailed)
	}
	return s.manager.bus.Check(ctx, v.Unit)
}

// command runs a program of the operator's: outside the daemon's sandbox, where it is in one.
func (s *service) command(ctx context.Context, t *turn, argv []string, step, otherwise string) error {
	if systemd.Supervised() {
		return s.manager.bus.Hook(ctx, s.name, step)
	}
	return command.Run(ctx, argv, Environment(t.c.Service, step), otherwise)
}

// Environment is what a command of a service is told: its name, its slot, its
// directory and the step ("validate", "reload" or "probe").
func Environment(c config.Service, step string) []string {
	return []string{"SPINECERT_SERVICE=" + c.Name, "SPINECERT_SLOT=" + c.Slot, "SPINECERT_DIRECTORY=" + c.Directory, "SPINECERT_STEP=" + step}
}

// reload has the service read a set that is in place.
func (s *service) reload(t *turn, m *made) error {
	r := t.c.Reload
	ctx, cancel := context.WithTimeout(t.ctx, r.Timeout)
	defer cancel()
	if r.Kind != config.ReloadHAProxy {
		return s.reloadBy(ctx, t, r.Kind)
	}
	if r.Otherwise() != "" && s.uncertain(t, m) {
		return s.reloadBy(ctx, t, r.Otherwise())
	}
	files, err := s.forHAProxy(t, m)
	if err != nil || len(files) == 0 {
		t.untold = err == nil
		return err
	}
	err = haproxy.Update(ctx, r.Socket, files)
	if r.Otherwise() != "" && (errors.Is(err, haproxy.ErrReload) || errors.Is(err, haproxy.ErrTooLarge)) {
		return s.reloadBy(ctx, t, r.Otherwise())
	}
	return err
}

// reloadBy has the service read everything.
func (s *service) reloadBy(ctx context.Context, t *turn, kind string) error {
	r := t.c.Reload
	switch kind {
	case config.ReloadUnit:
		if err := s.manager.bus.Job(ctx, r.Unit, r.Action); err != nil {
			return err
		}
		return s.stillActive(ctx, r)
	case config.ReloadSignal:
		if err := command.Signal(r.PIDFile, r.Signal); err != nil {
			return err
		}
		select {
		case <-time.After(afterSignal):
		case <-ctx.Done():
		}
	case config.ReloadExec:
		return s.command(ctx, t, r.Exec, "reload", failure.ReloadFailed)
	default:
		t.untold = true
	}
	return nil
}

// afterSignal is before the first look at a service that was signalled: it has not read
// anything yet, and a look would only take time from it. A command may have waited.
const afterSignal = 30 * time.Millisecond

// uncertain reports whether it is not known what a service has loaded. One that was
// started after its first set was in place has that.
func (s *service) uncertain(t *turn, m *made) bool {
	return t.fresh || t.order != nil || s.retry.failures > 0 || s.record.Proved == nil && m.Up
}

// stillActive: a unit may end over what it was told to read.
func (s *service) stillActive(ctx context.Context, r config.Reload) error {
	active, err := s.manager.bus.Active(ctx, r.Unit)
	if err == nil && !active && r.Action != "try-restart" {
		err = failure.New(failure.UnitInactive, "journalctl -u "+r.Unit+" -n 20", "%s %s: it does not run any more", r.Action, r.Unit)
	}
	return err
}

// reloadOld has the service read what was proved before. One that ended over the new
// set is started.
func (s *service) reloadOld(t *turn, old *made) error {
	err := s.reload(t, old)
	if err == nil || t.c.Reload.Unit == "" || failure.ReasonOf(err, "") != failure.UnitInactive {
		return err
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.c.Reload.Timeout)
	defer cancel()
	return s.manager.bus.Job(ctx, t.c.Reload.Unit, "start")
}

// forHAProxy is what HAProxy has loaded of a set. A kind of which it has everything
// already is left out: CAs and CRLs that went through the socket once keep certificates
// from going through it, see haproxy.ErrReload.
func (s *service) forHAProxy(t *turn, m *made) ([]haproxy.File, error) {
	other := s.record.Proved
	if other == m {
		other = s.record.Attempt
	}
	changed := map[haproxy.Kind]bool{haproxy.Cert: s.uncertain(t, m)}
	for _, e := range m.Files {
		if other == nil && !m.Up {
			break
		}
		if !other.has(e) {
			changed[haproxyKind(m.Formats[e.Name])] = true
		}
	}
	var files []haproxy.File
	for _, e := range m.Files {
		kind := haproxyKind(m.Formats[e.Name])
		if !changed[kind] {
			continue
		}
		data, err := t.target.Read(m.Set, e)
		if err != nil {
			return nil, err
		}
		files = append(files, haproxy.File{Path: stable(t.c.Service, e.Name), Kind: kind, Data: data})
	}
	return files, nil
}

func haproxyKind(format string) haproxy.Kind {
	switch format {
	case "trust-pem":
		return haproxy.CA
	case "crl-pem":
		return haproxy.CRL
	}
	return haproxy.Cert
}

// answers begins to find out whether the service runs before anything is changed: what
// is down then is not the fault of a new set. What is returned waits for the answer, so
// that a set can be written meanwhile.
func (s *service) answers(t *turn) func() bool {
	if len(t.c.Probes) == 0 {
		up := true
		if t.c.Reload.Kind == config.ReloadUnit {
			active, err := s.manager.bus.Active(t.ctx, t.c.Reload.Unit)
			up = err != nil || active
		}
		return func() bool { return up }
	}
	known := s.record
	var seen prove.Seen
	up := true
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		ctx, cancel := context.WithTimeout(t.ctx, firstLook)
		defer cancel()
		var err error
		seen, err = prove.Look(ctx, t.c.Probes[0], t.d.generation.Identity)
		// One that is only slow does run.
		up = failure.ReasonOf(err, "") != failure.Unreachable || ctx.Err() != nil
	}()
	return func() bool {
		<-looked
		s.saw(seen, known)
		return up
	}
}

// firstLook bounds how long a service is waited for before anything is delivered.
const firstLook = 2 * time.Second

// prove sees that the service serves a set.
func (s *service) prove(t *turn, m *made) error {
	if len(t.c.ProbeExec.Exec) > 0 {
		return s.proveByCommand(t)
	}
	return s.each(t, m, func(ctx context.Context, p config.Probe, want prove.Want) (prove.Seen, error) {
		if t.down && t.untold { // nobody starts it meanwhile
			p.Within = min(p.Within, firstLook)
		}
		return prove.Prove(ctx, p, want)
	})
}

// proves reports whether the service serves a set already. Only one that does is looked
// at more than once.
func (s *service) proves(t *turn, m *made) bool {
	return len(t.c.Probes) > 0 && s.lookAtIt(t, m) == nil && s.prove(t, m) == nil
}

// want is what is to be seen of a set. What was served before is proved with the
// identity of before, as far as it is known. One that our own trust does not accept is
// not shown: a service is right to refuse it, and that must not keep the list which
// revokes it from being delivered.
func (s *service) want(t *turn, m *made) (prove.Want, error) {
	chain, err := m.chain()
	if err != nil {
		return prove.Want{}, err
	}
	id := t.d.generation.Identity
	if s.identity != nil && pki.Fingerprint(s.identity.Leaf()) == m.Leaf {
		id = s.identity
	}
	w := prove.Want{Chain: chain, Others: slices.Concat(id.Chain(), t.d.generation.Identity.Chain(), t.d.trust.Bundle().Certificates()), Identity: id}
	if !s.manager.accepts(t.d.trust, id) {
		w.Identity, w.MayRefuse = nil, true
	}
	return w, nil
}

// verdict is whether a trust state accepts an identity of ours.
type verdict struct {
	state    *trust.State
	id       *pki.Identity
	accepted bool
	until    time.Time
}

// accepts reports whether a trust state accepts an identity of ours. All services of a
// slot ask the same: the last answer is remembered for a minute.
func (m *Manager) accepts(state *trust.State, id *pki.Identity) bool {
	now := time.Now()
	if v := m.verdict.Load(); v != nil && v.state == state && v.id == id && now.Before(v.until) {
		return v.accepted
	}
	certs := id.Certificates()
	_, err := state.Verify(certs, trust.Request{Purpose: trust.AnyPurpose, Peers: trust.AnyName(), Revocation: trust.Off, Now: now})
	v := &verdict{state, id, err == nil && state.Revoked(certs) == nil, now.Add(time.Minute)}
	m.verdict.Store(v)
	return v.accepted
}

// each looks at every address at once, and returns the first failure in their order.
func (s *service) each(t *turn, m *made, look func(context.Context, config.Probe, prove.Want) (prove.Seen, error)) error {
	if len(t.c.Probes) == 0 {
		return nil
	}
	want, err := s.want(t, m)
	if err != nil {
		return err
	}
	errs, seen := make([]error, len(t.c.Probes)), make([]prove.Seen, len(t.c.Probes))
	var all sync.WaitGroup
	for i, p := range t.c.Probes {
		all.Go(func() { seen[i], errs[i] = look(t.ctx, p, want) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			if s.saw(seen[i], s.record); failure.ReasonOf(err, "") == failure.Unreachable {
				s.served = Version{}
			}
			return err
		}
	}
	s.saw(seen[0], s.record)
	return nil
}

// saw keeps what a service was seen to serve, by the name that it has in a record.
func (s *service) saw(seen prove.Seen, known record) {
	if len(seen.Chain) == 0 {
		return
	}
	s.looked = seen.At
	leaf := pki.Fingerprint(seen.Chain[0])
	v := Version{Leaf: leaf, Since: seen.At}
	for _, m := range []*made{known.Proved, known.Attempt} {
		if m != nil && m.Leaf == leaf && len(m.Chain) > 0 {
			v.Digest, v.Generation = m.Digest, m.Generation
		}
	}
	if s.served.Leaf == leaf && !s.served.Since.IsZero() {
		v.Since = s.served.Since
	}
	s.served = v
}

// The waits between runs of a probe command.
const (
	firstRun = 100 * time.Millisecond
	lastRun  = 2 * time.Second
)

// proveByCommand runs the command until it ends with 0, within its time.
func (s *service) proveByCommand(t *turn) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.c.Within)
	defer cancel()
	var last error
	for wait := firstRun; ; wait = min(2*wait, lastRun) {
		err := s.command(ctx, t, t.c.ProbeExec.Exec, "probe", failure.ProbeFailed)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(wait):
		}
	}
}
