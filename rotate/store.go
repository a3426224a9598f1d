package rotate

import (
	"crypto/sha256"
	"time"

	"github.com/spinecert/spinecert/pki"
)

// Store keeps the generations of slots beyond the life of the process. All
// methods may be called by many goroutines, for one slot by one at a time; they
// may touch a disk, and so may take long.
type Store interface {
	// Current returns the generation that is in force on disk, or the zero Record
	// if nothing is kept. An error says that something is there and not whole.
	// Highest is set in any case.
	Current(slot string) (Record, error)
	// History returns every whole generation, newest first.
	History(slot string) ([]Record, error)
	// Load returns the identity of one generation.
	Load(slot string, number uint64) (*pki.Identity, error)
	// Commit makes r the generation in force. When it returns nil, that outlives a
	// crash. Then it may drop older generations until keep are left, but never r or
	// the one r was made of. On an error what was in force is still in force.
	Commit(slot string, r Record, id *pki.Identity, keep int) error
}

// Origin says where a generation came from.
type Origin string

// The origins.
const (
	FromFiles    Origin = "files"    // read from the files of the slot
	FromImport   Origin = "import"   // offered to a managed slot
	FromRollback Origin = "rollback" // an older generation, put in force again
)

// Record describes one generation in a Store.
type Record struct {
	Number      uint64
	Environment string
	Origin      Origin
	Of          uint64            // FromRollback: the generation that was put in force again
	Held        bool              // FromRollback: until released, or until the source changes
	Digest      [sha256.Size]byte // of leaf, chain and, through the leaf, key
	Source      [sha256.Size]byte // of the files; with Held those not to be taken
	Left        [sha256.Size]byte // Held: the content that was rolled back from
	LeftLeaf    [sha256.Size]byte // Held: SHA-256 of its leaf alone
	Since       time.Time         // when it was published
	NotAfter    time.Time         // the earliest end of leaf and chain
	Highest     uint64            // from Current: the greatest number the slot ever had
}
