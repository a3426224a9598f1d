package daemon

import (
	"errors"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/tunnel"
)

// How much is written of the refusals of one tunnel. All are counted in any case.
const (
	logLines    = 20
	logWindow   = 10 * time.Second
	auditLines  = 100
	auditWindow = time.Minute
)

// The audit file is turned over when it is full, and says more than who was refused:
// nobody may push the rest of it out by being refused, in whichever tunnel.
const (
	auditAllLines  = 500
	auditAllWindow = time.Hour
)

// told bounds what is written of one kind of event of a tunnel.
type told struct{ log, audit *budget }

func newTold() told {
	return told{newBudget(logLines, logWindow), newBudget(auditLines, auditWindow)}
}

// tally is what status shows of a tunnel beside its configuration, and the budgets of
// its lines. It outlives reloads. Make it with newTally.
type tally struct {
	refusals, cuts told
	forwards       *budget // what could not be forwarded

	mu           sync.Mutex
	accepted     uint64
	refused      uint64
	audited      uint64
	lastAccepted time.Time
	lastRefused  time.Time
	lastReason   string
	listen       map[string]error // by address: why it does not open
}

func newTally() *tally {
	return &tally{refusals: newTold(), cuts: newTold(), forwards: newBudget(logLines, logWindow)}
}

// count counts a handshake.
func (t *tally) count(h tunnel.Handshake, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch h.Result {
	case tunnel.Accepted:
		t.accepted++
		t.lastAccepted = now
	case tunnel.Audited:
		t.audited++
		t.lastAccepted = now
	default:
		t.refused++
		t.lastRefused, t.lastReason = now, h.Reason
	}
}

// trouble keeps which listeners do not open.
func (t *tally) trouble(e tunnel.Trouble) {
	if e.Kind != tunnel.TroubleListen {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listen == nil {
		t.listen = map[string]error{}
	}
	if e.Err == nil {
		delete(t.listen, e.Address)
	} else {
		t.listen[e.Address] = e.Err
	}
}

// tallied is what a tally says at one moment.
type tallied struct {
	accepted, refused, audited uint64
	lastAccepted, lastRefused  time.Time
	lastReason                 string
	listen                     error
}

func (t *tally) status() tallied {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, err := range t.listen {
		errs = append(errs, err)
	}
	return tallied{t.accepted, t.refused, t.audited, t.lastAccepted, t.lastRefused, t.lastReason, errors.Join(errs...)}
}
