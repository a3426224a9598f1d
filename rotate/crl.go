package rotate

import (
	"os"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// CRLFetch says how the CRLs of an environment are fetched. Without Hosts nothing is.
type CRLFetch struct {
	// Hosts are the only ones that are asked, see fetch.Config.
	Hosts   []string
	Proxy   string        // http://host:port; "" connects directly
	Refresh time.Duration // how often each list is asked for at least; 0 is an hour
	Timeout time.Duration // how long a handshake waits for a list; 0 is 5 s
}

// KeptCRL is what a CRLStore keeps beside the contents of a list.
type KeptCRL struct {
	// Address is where the list was fetched, or CarriedPrefix and a file name where
	// it was carried by hand.
	Address            string
	ETag, LastModified string    // of the answer, for the next request
	Fetched            time.Time // when the server last said that it is current
}

// CarriedPrefix begins the address of a list that was carried by hand.
const CarriedPrefix = "carried/"

// CRLStore keeps fetched and carried CRLs beyond the life of the process. What it
// returns is judged anew: it is a cache, and never believed. Methods may be called
// by several goroutines, for different addresses.
type CRLStore interface {
	// ListCRLs returns what is kept of an environment. What is damaged is left out,
	// and the error says so beside the rest.
	ListCRLs(environment string) ([]KeptCRL, error)
	// OpenCRL returns the contents of a list, DER. The caller closes the file.
	OpenCRL(environment, address string) (*os.File, error)
	// SpoolCRL returns an empty file, readable and writable, for a download. It has
	// no name that anybody relies on, and is gone when it is closed.
	SpoolCRL() (*os.File, error)
	// KeepCRL keeps k, with the whole contents of spool, or, where spool is nil, with
	// those it has. It replaces at once or not at all.
	KeepCRL(environment string, k KeptCRL, spool *os.File) error
	// DropCRL forgets a list. One that is not kept is no error.
	DropCRL(environment, address string) error
}

// CRLOrigin says why a list is known.
type CRLOrigin string

// The origins, the first that applies.
const (
	CRLOfOwn     CRLOrigin = "own"     // one of our certificates names it
	CRLOfBundle  CRLOrigin = "bundle"  // a CA of the bundle names it
	CRLOfPeer    CRLOrigin = "peer"    // a peer that passed everything else names it
	CRLOfCarrier CRLOrigin = "carried" // somebody carried it here
)

// CRLStatus is how one fetched or carried list stands. It is immutable.
type CRLStatus struct {
	Address  string
	Origin   CRLOrigin
	CRL      *trust.CRL // in force; nil while there is none
	Fetched  time.Time  // when the server last said that it is current; zero: never
	Tried    time.Time  // when it was last asked
	Next     time.Time  // when it is asked again; zero for a carried list
	Failures int        // since it last answered well
	Err      error      // of the last attempt; nil if it went well
}
