package tunnel

import (
	"container/list"
	"errors"
	"os"
	"sync"
	"time"
)

var (
	errTooLarge = errors.New("handshake is larger than limits.chain_bytes")
	errBusy     = errors.New("too many handshakes wait for a processor")
)

// tokens lets a bounded number of handshakes compute at once. Handshakes that
// have begun go before those that have not, so that work done is not lost to a
// flood of new ones.
type tokens struct {
	mu      sync.Mutex
	size    int
	used    int
	waiting int       // bound on fresh
	begun   list.List // of chan struct{}
	fresh   list.List // of chan struct{}
}

func (t *tokens) resize(size, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size, t.waiting = size, waiting
	for t.used < t.size && t.wakeLocked() {
		t.used++
	}
}

// acquire takes a token, waiting until deadline for one. It returns errBusy if
// as many as may already wait, os.ErrDeadlineExceeded at the deadline.
func (t *tokens) acquire(begun bool, deadline time.Time) error {
	t.mu.Lock()
	if t.used < t.size {
		t.used++
		t.mu.Unlock()
		return nil
	}
	queue := &t.begun
	if !begun {
		queue = &t.fresh
		if queue.Len() >= t.waiting {
			t.mu.Unlock()
			return errBusy
		}
	}
	turn := make(chan struct{})
	place := queue.PushBack(turn)
	t.mu.Unlock()

	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-turn:
		return nil
	case <-timer.C:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // handed over at the last moment
		t.releaseLocked()
	default:
		queue.Remove(place)
	}
	return os.ErrDeadlineExceeded
}

func (t *tokens) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.releaseLocked()
}

// releaseLocked hands the token to who waits, unless there are fewer tokens now.
func (t *tokens) releaseLocked() {
	if t.used > t.size || !t.wakeLocked() {
		t.used--
	}
}

func (t *tokens) wakeLocked() bool {
	for _, queue := range [...]*list.List{&t.begun, &t.fresh} {
		if first := queue.Front(); first != nil {
			close(queue.Remove(first).(chan struct{}))
			return true
		}
	}
	return false
}

// lease is the token of one handshake: taken when there is something to
// compute, given back while the peer is waited for.
type lease struct {
	tokens   *tokens
	deadline time.Time
	held     bool
	begun    bool
}

func (l *lease) acquire() error {
	if l.held {
		return nil
	}
	if err := l.tokens.acquire(l.begun, l.deadline); err != nil {
		return err
	}
	l.held, l.begun = true, true
	return nil
}

func (l *lease) release() {
	if l == nil || !l.held {
		return
	}
	l.held = false
	l.tokens.release()
}
