package sandbox

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"sync"
	"time"
)

// staleAfter is how long after a rotation was first seen a handshake may still
// show the leaf before it: one that had begun by then.
const staleAfter = time.Second

// ledger knows every leaf that was written to disk and for what, counts what
// handshakes show, and keeps the books of the traffic. Safe for concurrent use.
type ledger struct {
	mu        sync.Mutex
	leaves    map[string]entry // by fingerprint
	confirmed map[string]confirmation
	books     books
	causes    map[string]int64
}

// entry says what a leaf was made for.
type entry struct {
	slot   string
	number int    // of the good ones of this slot, from 1
	broken defect // "" for a good one
}

type confirmation struct {
	number int
	at     time.Time
}

// books are the counters of a run.
type books struct {
	Requests     int64
	Failed       int64
	Connections  int64 // TLS connections of the stand-in, both legs, of the probes, and of services
	Resumed      int64 // those of them that resumed a session
	BrokenServed int64 // handshakes that showed a leaf that should have been refused
}

// Cause is a kind of failure and how often it happened.
type Cause struct {
	Cause string `json:"cause"`
	Count int64  `json:"count"`
}

func newLedger() *ledger {
	return &ledger{leaves: map[string]entry{}, confirmed: map[string]confirmation{}, causes: map[string]int64{}}
}

// expect enters a leaf before it is written.
func (l *ledger) expect(leaf *x509.Certificate, e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaves[fingerprint(leaf)] = e
}

// confirm notes that a handshake has shown this generation of the slot of a tunnel or
// service; who is the slot itself where tunnels serve it.
func (l *ledger) confirm(who string, number int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed[who] = confirmation{number: number, at: at}
}

// saw counts a handshake of a slot's tunnel that began at begun and showed leaf.
func (l *ledger) saw(slot string, leaf *x509.Certificate, resumed bool, begun time.Time) {
	l.sawAt(slot, slot, leaf, resumed, begun)
}

// sawAt counts a handshake of a service that has the certificates of a slot.
func (l *ledger) sawAt(who, slot string, leaf *x509.Certificate, resumed bool, begun time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books.Connections++
	if resumed {
		l.books.Resumed++
	}
	e, known := l.leaves[fingerprint(leaf)]
	switch last := l.confirmed[who]; {
	case !known || e.slot != slot:
		l.fail(fmt.Sprintf("%s: a handshake showed a leaf that was never written for it", who))
	case e.broken != "":
		l.books.BrokenServed++
		l.note(fmt.Sprintf("%s: a handshake showed a broken identity: %s", who, e.broken))
	case e.number < last.number && begun.Sub(last.at) > staleAfter:
		l.fail(fmt.Sprintf("%s: a new handshake showed an old leaf (resumed: %t)", who, resumed))
	}
}

// request counts a request and, if err is not nil, its failure.
func (l *ledger) request(kind string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books.Requests++
	if err != nil {
		l.fail(kind + ": " + err.Error())
	}
}

// remark notes a cause that counts as no failure of its own: the other end of one.
func (l *ledger) remark(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(text)
}

func (l *ledger) fail(text string) {
	l.books.Failed++
	l.note(text)
}

// maxCauses bounds the memory of a run in which everything fails.
const maxCauses = 50

func (l *ledger) note(text string) {
	if _, ok := l.causes[text]; !ok && len(l.causes) >= maxCauses {
		text = "other causes"
	}
	l.causes[text]++
}

// totals returns the counters and the causes, most frequent first.
func (l *ledger) totals() (books, []Cause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.books, sortedCauses(l.causes)
}

// fingerprint is the lower-case hex SHA-256 of a certificate.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
