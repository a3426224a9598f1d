package rotate

import (
	"time"

	"github.com/spinecert/spinecert/trust"
)

// EventKind says what happened.
type EventKind string

// The events, each told once per distinct cause, not per retry.
const (
	EventRotated      EventKind = "rotated"            // a slot serves a new generation
	EventPending      EventKind = "candidate_pending"  // the source is there, but does not fit together yet
	EventIncoherent   EventKind = "source_incoherent"  // it, or an environment's trust, has not fitted for longer than Settle
	EventRefused      EventKind = "candidate_refused"  // the source is whole and was judged bad
	EventCleared      EventKind = "candidate_cleared"  // the source is again what the slot serves
	EventOwnChain     EventKind = "own_chain_refused"  // what the slot serves no longer passes its own trust
	EventTrustChanged EventKind = "trust_changed"      // an environment, and every slot of it, has a new trust state
	EventTrustPending EventKind = "trust_pending"      // a trust file is missing or incomplete; the last state stays
	EventTrustRefused EventKind = "trust_refused"      // the trust files were judged bad; the last state stays
	EventRestored     EventKind = "restored"           // after a start, a slot serves a generation that its Store kept
	EventUnsaved      EventKind = "generation_unsaved" // the Store does not take what a slot serves; it goes on serving, and on trying
	EventSaved        EventKind = "generation_saved"   // it took it after all
	EventDamaged      EventKind = "generation_damaged" // what the Store says is in force cannot be loaded; an older one may stand in
	EventWentBack     EventKind = "restored_older"     // the Store holds less than was written to it: an older copy was put in its place
	EventCRLFetch     EventKind = "crl_fetch"          // a list was asked for: each time, see Event.Result
	EventCRLKept      EventKind = "crl_unsaved"        // the CRLStore does not take a list; it is in force all the same
	EventWatchLost    EventKind = "watch_lost"         // a directory cannot be watched (told once per cause); the poll goes on
	EventOverflow     EventKind = "watch_overflow"     // the kernel dropped events; everything is looked at again
)

// Event is one change, told to Options.Events by the run loop. The receiver must
// not block and must not call the Keeper.
type Event struct {
	Kind        EventKind
	Time        time.Time
	Slot        string
	Environment string
	From, To    *Generation   // EventRotated, EventRestored; From is nil for the first one
	Latency     time.Duration // EventRotated: from the first sign of the change to its publication
	Trust       *trust.State  // EventTrustChanged
	Previous    *trust.State  // EventTrustChanged; nil for the first one
	CRLsOnly    bool          // EventTrustChanged: bundle and configuration are as they were
	Address     string        // EventCRLFetch, EventCRLKept
	CRL         *trust.CRL    // EventCRLFetch: what is in force since; nil if nothing changed
	Result      string        // EventCRLFetch: fetched, unchanged, failed (no answer) or refused (a bad one); also the metric label
	Repeated    bool          // EventCRLFetch: the outcome is that of the attempt before
	Reason      string        // the reason of Err in one word; also the metric label
	Err         error
	Actor       any // Order.Actor, where somebody asked for it
}
