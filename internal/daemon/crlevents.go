package daemon

import (
	"log/slog"
	"slices"
	"time"

	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// sayFetch is the log line of a list that was asked for. A list is asked for again and
// again: what is as before is told to who looks for it.
func (d *Daemon) sayFetch(e rotate.Event) (slog.Level, string, []slog.Attr) {
	return sayFetch(e, e.Err != nil && d.standsIn(e), e.Err != nil && d.refusesFor(e))
}

// sayFetch is told whether a list that was not had has another in its place, and
// whether peers are refused without.
func sayFetch(e rotate.Event, stands, refuses bool) (slog.Level, string, []slog.Attr) {
	attrs := []slog.Attr{slog.String("address", e.Address), slog.String("result", e.Result)}
	level, text := slog.LevelDebug, "CRL is as it was"
	switch {
	case e.Err != nil:
		text = "CRL was not had; what is in force stays"
		if !stands {
			text = "CRL was not had, and none is in force in its place"
		}
		switch {
		case e.Repeated:
		case !stands && refuses:
			level, text = slog.LevelError, text+"; peers that need it are refused"
		default:
			level = slog.LevelWarn
		}
	case e.CRL != nil:
		level, text = slog.LevelInfo, "new CRL in force"
		attrs = append(attrs, slog.String("issuer", clipName(e.CRL.IssuerCertificate().Subject.CommonName)), slog.Int("entries", e.CRL.Len()),
			slog.Time("this_update", e.CRL.ThisUpdate()), slog.Time("next_update", e.CRL.NextUpdate()))
	}
	return level, text, attrs
}

// environment returns the one of an event, if it has trust in force.
func (d *Daemon) environment(name string) (*rotate.Environment, *trust.State) {
	for _, e := range d.keeper.Environments() {
		if e.Name() == name {
			return e, e.Trust()
		}
	}
	return nil, nil
}

// standsIn reports whether a list is in force for the address of an event.
func (d *Daemon) standsIn(e rotate.Event) bool {
	_, state := d.environment(e.Environment)
	return state != nil && state.CoversAddress(e.Address)
}

// refusesFor reports whether peers of a tunnel are refused without a list of the
// address of an event.
func (d *Daemon) refusesFor(e rotate.Event) bool {
	env, state := d.environment(e.Environment)
	if state == nil {
		return false
	}
	now := time.Now()
	need := needOf(d.keeper, env, tunnelsOf(d.liveTunnels()), d.refusedForLists(now))
	if need.mode != trust.Require {
		return false
	}
	// The peer for whom a list is asked for the first time is refused only after this.
	ofPeer := slices.ContainsFunc(env.CRLs(), func(l rotate.CRLStatus) bool { return l.Address == e.Address && l.Origin == rotate.CRLOfPeer })
	return ofPeer || need.names(state, e.Address)
}
