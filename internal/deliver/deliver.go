package deliver

import (
	"errors"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// Options are those of New.
type Options struct {
	Records Records
	Slot    func(name string) *rotate.Slot
	// CRL returns the DER of a list that is in force in an environment.
	CRL    func(environment string, c *trust.CRL) ([]byte, error)
	Events func(Event)  // told by many goroutines; it must not block
	Disk   durable.Disk // writes the sets

	Poll time.Duration // how often the files are looked at; 0 is 30 s
	Look time.Duration // how often a service is looked at, and its files are read; 0 is 10 min
}

// ErrUnknown says that there is no service of that name.
var ErrUnknown = errors.New("there is no such service")

// Records keeps what is known of a service beyond the life of the process.
type Records interface {
	// ReadService returns the record of a service, nil if there is none.
	ReadService(name string) ([]byte, error)
	// WriteService replaces it. When it returns nil, that outlives a crash.
	WriteService(name string, record []byte) error
}

// State says how a service stands.
type State string

// The states.
const (
	InSync     State = "in_sync"    // it was seen to serve what its slot has
	Delivering State = "delivering" // something is being done, or waited for: see Waits
	Failed     State = "failed"     // it is not as it should be; tried again by itself
	Held       State = "held"       // what its slot has did not work; it is back on what was proved, until the slot changes or somebody says so
)

// Version is a set of files: what it was made of.
type Version struct {
	Digest     string // SHA-256 of all it was made of, lower-case hex; "" for none
	Generation uint64 // of the slot
	Leaf       string // SHA-256 of the leaf, lower-case hex
	Since      time.Time
	Ends       time.Time // when the first of its certificates is over; zero if that is not known
}

// Status is how one service stands. It is immutable.
type Status struct {
	Config    config.Service
	State     State
	Since     time.Time // of the state
	Desired   Version   // what its slot has
	Delivered Version   // what is in its directory
	Proved    Version   // what it was last seen to serve, of what was delivered
	Served    Version   // what it was seen to serve: Digest is "", and Generation 0 if it is none that is known
	Looked    time.Time // when it was last looked at
	Waits     string    // Delivering: for what, "" if something is being done
	Window    bool      // Delivering: it waits for a window, its own or that of a service it comes after
	Step      string    // where it failed: deliver, validate, reload, prove, roll back
	Reason    string    // see package failure
	Error     string
	Hint      string
	KeptBad   bool      // what failed is in place, as on_failure is keep
	Retry     time.Time // when it is tried again by itself; zero: not before something changes
}

// EventKind says what happened.
type EventKind string

// The events.
const (
	EventDelivered  EventKind = "service_delivered"   // proved
	EventFailed     EventKind = "service_failed"      // told once per cause
	EventRolledBack EventKind = "service_rolled_back" // what was proved before is proved again
	EventStuck      EventKind = "service_rollback_failed"
	EventDrift      EventKind = "service_drift"          // files are not what was delivered; they are delivered again
	EventRecovered  EventKind = "service_recovered"      // it was failed, and is in sync by itself
	EventRecord     EventKind = "service_record_damaged" // what was recorded cannot be read
	EventResumed    EventKind = "service_resumed"        // after a start, a delivery that had begun goes on
)

// Event is one change.
type Event struct {
	Kind     EventKind
	Time     time.Time
	Service  string
	Slot     string
	From, To Version
	Took     time.Duration // EventDelivered, EventRolledBack
	Step     string
	Reason   string
	Err      error
	Actor    any // of Deliver
}

// Order is what somebody asks for.
type Order struct {
	Now   bool // also what is held, and outside the window
	Actor any
}

// Plan is what a delivery would do.
type Plan struct {
	Status Status
	Files  []PlannedFile
	Steps  []string // in order, sentences
	Error  error    // what keeps it from being done
}

// PlannedFile is one file of a delivery.
type PlannedFile struct {
	Path, Format string
	Mode         string // octal
	Owner, Group string
	Bytes        int
	Change       string // new, same or changed
}
