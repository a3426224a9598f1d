package crash

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// book is what the ledger of a life promises, and what was seen of it before.
type book struct {
	offset   int64 // of the ledger, that was read
	slots    map[string]*account
	requests map[string]*asked
	waits    map[string]waiting // by ID of the request
	inForce  map[string]bool    // keys that were, by the ID of their request
	content  map[string]string  // by slot and number
	trust    map[string]string  // by SHA-256: "there", "gone", or "either"
	heldWith string             // what the files held at the rollback that holds their slot
	triedAt  string             // and at the last that was tried
	counts   map[string]int
	lines    []string // of the process that was read last
	eyes     eyes
}

// account is that of one slot.
type account struct {
	number uint64 // in force, as was promised or seen
	cert   string
	held   bool
	newest int64           // the latest notBefore that was in force
	may    map[string]bool // certificates that may be in force instead: offered since, or waiting
}

// asked is a request that must be there.
type asked struct {
	slot   string
	ending bool // somebody cancels it
	gone   bool // cancelled
}

type waiting struct {
	slot, cert string
	notBefore  int64
}

func newBook() *book {
	b := &book{slots: map[string]*account{filesSlot: {may: map[string]bool{}}}, requests: map[string]*asked{}, waits: map[string]waiting{},
		inForce: map[string]bool{}, content: map[string]string{}, trust: map[string]string{}, counts: map[string]int{},
		eyes: eyes{map[[sha256.Size]byte]*seenGeneration{}, map[[sha256.Size]byte]string{}}}
	for _, s := range managedSlots {
		b.slots[s.name] = &account{may: map[string]bool{}}
	}
	return b
}

// read takes in what the last process wrote.
func (b *book) read(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(b.offset, io.SeekStart); err != nil {
		return err
	}
	b.lines = nil
	var errs []error
	for s := bufio.NewScanner(f); s.Scan(); {
		b.offset += int64(len(s.Bytes())) + 1
		b.lines = append(b.lines, s.Text())
		if err := b.line(strings.Fields(s.Text())); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Text(), err))
		}
	}
	return errors.Join(errs...)
}

// line takes in one line.
func (b *book) line(w []string) error {
	switch w[0] {
	case "bad":
		return errors.New("said by the process")
	case "try":
		b.try(w[1], w[2:])
	case "fault":
		b.counts[w[1]]++
	case "made":
		b.count(w[0])
		b.requests[w[2]] = &asked{slot: w[1]}
	case "cancelled":
		b.count(w[0])
		b.requests[w[2]].gone = true
		delete(b.waits, w[2])
	case "waits":
		b.count(w[0])
		from, err := strconv.ParseInt(w[4], 10, 64)
		b.waits[w[2]] = waiting{w[1], w[3], from}
		return err
	case "trusted", "distrusted":
		b.count(w[0])
		b.trust[w[1]] = map[string]string{"trusted": "there", "distrusted": "gone"}[w[0]]
	case "served":
		if w[1] != filesSlot {
			return b.promise(w[1], w[2:])
		}
	case "inforce", "saved":
		b.count(w[0])
		return b.promise(w[1], w[2:])
	case "rolledback":
		b.count(w[0])
		err := b.promise(w[1], w[2:])
		if w[1] == filesSlot {
			b.heldWith = b.triedAt
			clear(b.slots[filesSlot].may) // the files, too, until they change
		}
		return err
	case "released", "rotated":
		b.count(w[0])
		if w[1] != filesSlot { // there it is promised once it is saved
			return b.promise(w[1], w[2:])
		}
	case "refused":
		b.count(w[0])
	}
	return nil
}

func (b *book) count(what string) { b.counts[what]++ }

// try takes in what a process is about to do: it may have done it, or not.
func (b *book) try(what string, w []string) {
	switch what {
	case "cancel":
		b.requests[w[1]] = &asked{slot: w[0], ending: true}
		delete(b.waits, w[1])
	case "import":
		b.slots[w[0]].may[w[3]] = true
		delete(b.waits, w[1]) // it takes the place of the one that waited
	case "rollback", "release":
		for _, cert := range w[1:] {
			b.slots[w[0]].may[cert] = true
		}
		if what == "rollback" && w[0] == filesSlot {
			b.triedAt = w[1]
		}
	case "files":
		b.slots[filesSlot].may[w[0]] = true
	case "trust", "distrust":
		b.trust[w[0]] = "either"
	}
}

// promise takes in what was said to be in force: number, certificate, whether held,
// key, notBefore.
func (b *book) promise(slot string, w []string) error {
	number, err := strconv.ParseUint(w[0], 10, 64)
	from, fromErr := strconv.ParseInt(w[4], 10, 64)
	if err := errors.Join(err, fromErr); err != nil {
		return err
	}
	return b.advance(slot, number, w[1], w[3], w[2] == "true", from)
}

// advance judges what is in force after what was, and goes on from there.
func (b *book) advance(slot string, number uint64, cert, key string, held bool, from int64) error {
	a := b.slots[slot]
	switch {
	case number < a.number:
		return fmt.Errorf("lost: slot %s went back from generation %d to %d", slot, a.number, number)
	case number == a.number && (cert != a.cert || held != a.held):
		return fmt.Errorf("torn: generation %d of slot %s is %s (held %t), was %s (held %t)", number, slot, cert, held, a.cert, a.held)
	case number > a.number && !a.may[cert]:
		return fmt.Errorf("lost: slot %s has %s in force, which nobody offered; it had %s", slot, cert, a.cert)
	}
	a.number, a.cert, a.held, a.newest = number, cert, held, max(a.newest, from)
	b.inForce[key] = true
	return nil
}

// compare holds what is on the disk against what was promised, and goes on from what
// is there.
func (b *book) compare(s seen, l life) error {
	var errs []error
	for slot, a := range b.slots {
		got := s.slots[slot]
		if got == nil {
			got = &seenSlot{}
		}
		errs = append(errs, b.generations(slot, got))
		clear(a.may)
		for id, answer := range got.requests {
			if answer != "" {
				a.may[answer] = true
			}
			if r := b.requests[id]; r != nil && r.gone {
				errs = append(errs, fmt.Errorf("lost: request %s was cancelled and is there", id))
			}
			b.requests[id] = &asked{slot: slot} // what is there once does not go by itself
		}
	}
	for id, r := range b.requests {
		got := s.slots[r.slot]
		there := false
		if got != nil {
			_, there = got.requests[id]
		}
		if !there {
			if !r.ending && !r.gone && !b.inForce[id] {
				errs = append(errs, fmt.Errorf("lost: request %s of slot %s is gone, and its key was never in force", id, r.slot))
			}
			delete(b.requests, id)
		}
		w, waits := b.waits[id]
		if !waits || there && got.requests[id] == w.cert {
			continue
		}
		// It is over where the key is in force, and where something newer is.
		if !b.inForce[id] && w.notBefore >= b.slots[w.slot].newest {
			errs = append(errs, fmt.Errorf("lost: answer %s, which is to wait with request %s of slot %s", w.cert, id, w.slot))
		}
		delete(b.waits, id)
	}
	for sum, want := range b.trust {
		if there := s.trust[sum]; want == "there" && !there || want == "gone" && there {
			errs = append(errs, fmt.Errorf("lost: CA %s is to be %s", sum, want))
		}
		b.trust[sum] = map[bool]string{true: "there", false: "gone"}[s.trust[sum]]
	}
	if leaf := l.readFiles(); leaf != nil && !b.holds(l) {
		b.slots[filesSlot].may[nameOf(leaf)] = true
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return errors.Join(errs...)
}

// holds reports whether a rollback keeps the files from being served.
func (b *book) holds(l life) bool { return b.slots[filesSlot].held && b.heldWith == l.filesContent() }

// generations judges those of one slot.
func (b *book) generations(slot string, got *seenSlot) error {
	var errs []error
	for n, g := range got.generations {
		if g == nil {
			continue // torn, and said so
		}
		at := fmt.Sprintf("%s/%d", slot, n)
		if was, ok := b.content[at]; ok && was != g.content {
			errs = append(errs, fmt.Errorf("torn: generation %d of slot %s has another content", n, slot))
		}
		b.content[at] = g.content
	}
	a, g := b.slots[slot], got.generations[got.current]
	switch {
	case g != nil:
		if slot == filesSlot && g.held && got.current > a.number {
			b.heldWith = b.triedAt // a rollback that nobody was told of
		}
		errs = append(errs, b.advance(slot, got.current, g.cert, g.key, g.held, g.notBefore))
	case a.number > 0:
		errs = append(errs, fmt.Errorf("lost: slot %s has no generation in force, and had %d", slot, a.number))
	}
	return errors.Join(errs...)
}
