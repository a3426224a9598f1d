package daemon

import (
	"sync"
	"time"
)

// budget bounds how many lines are written of what others can cause as often as they
// like. What is over is counted. Make it with newBudget.
type budget struct {
	lines int           // of one window
	each  time.Duration // how long that is

	mu   sync.Mutex
	from time.Time
	used int
	over uint64 // not written, and not told yet
}

func newBudget(lines int, each time.Duration) *budget { return &budget{lines: lines, each: each} }

// allow reports whether one more line may be written.
func (b *budget) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.endedLocked(now) {
		b.from, b.used = now, 0
	}
	if b.used >= b.lines {
		b.over++
		return false
	}
	b.used++
	return true
}

// suppressed returns how many lines were not written, once their window has ended,
// and forgets them.
func (b *budget) suppressed(now time.Time) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over == 0 || !b.endedLocked(now) {
		return 0
	}
	n := b.over
	b.over = 0
	return n
}

func (b *budget) endedLocked(now time.Time) bool { return now.Sub(b.from) >= b.each }

// sharedBudget is a budget that tunnels share, each with the same part of the lines, so
// that a noisy one leaves room for the others. Make it with newSharedBudget.
type sharedBudget struct {
	lines int
	each  time.Duration

	mu   sync.Mutex
	from time.Time
	used map[string]int // by tunnel
	over uint64
}

func newSharedBudget(lines int, each time.Duration) *sharedBudget {
	return &sharedBudget{lines: lines, each: each, used: map[string]int{}}
}

// allow reports whether who, one of so many, may write one more line.
func (b *sharedBudget) allow(who string, of int, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.endedLocked(now) {
		b.from = now
		clear(b.used)
	}
	if b.used[who] >= max(b.lines/max(of, 1), 1) {
		b.over++
		return false
	}
	b.used[who]++
	return true
}

// suppressed is that of budget, of all who share.
func (b *sharedBudget) suppressed(now time.Time) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over == 0 || !b.endedLocked(now) {
		return 0
	}
	n := b.over
	b.over = 0
	return n
}

func (b *sharedBudget) endedLocked(now time.Time) bool { return now.Sub(b.from) >= b.each }
