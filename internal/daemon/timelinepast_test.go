package daemon

import (
	"context"
	"testing"
	"time"
	"unique"

	"github.com/spinecert/spinecert/internal/admin"
)

// TestTimelineOfHangingDisk: a reader that hangs is one, and holds up nobody for
// ever; what it reads in the end is there for the next who asks.
func TestTimelineOfHangingDisk(t *testing.T) {
	var m memories
	release, reading := make(chan struct{}), make(chan struct{}, 100)
	read := func(wanted) ([]brief, map[string]answerMemory) {
		reading <- struct{}{}
		<-release
		return []brief{{number: 1}}, nil
	}
	all := []wanted{{slot: "pcs", serving: 2}}
	ctx, giveUp := context.WithCancel(t.Context())
	go func() { <-reading; giveUp() }()
	began := time.Now()
	m.refresh(ctx, all, read) // returns, as who asks gives up once the disk hangs
	m.mu.Lock()
	first := m.reading
	m.mu.Unlock()
	for range 8 {
		m.refresh(ctx, all, read)
	}
	if waited := time.Since(began); waited > 4*pastPatience {
		t.Errorf("9 who gave up waited for %v", waited)
	}
	m.mu.Lock()
	if m.reading != first || first == nil {
		t.Error("there is another reader")
	}
	m.mu.Unlock()
	if got := m.past("pcs"); got != nil {
		t.Errorf("remembered %v", got)
	}
	close(release)
	m.refresh(t.Context(), all, read)
	if got := m.past("pcs"); len(got) != 1 || got[0].number != 1 {
		t.Errorf("remembered %v", got)
	}
	for len(reading) > 0 {
		<-reading
	}
	m.refresh(t.Context(), all, read)
	if len(reading) != 0 {
		t.Error("what is remembered was read again")
	}
	m.refresh(t.Context(), []wanted{{slot: "pcs", serving: 3}}, read)
	if len(reading) != 1 {
		t.Errorf("%d reads for another generation", len(reading))
	}
	m.refresh(t.Context(), nil, read)
	if len(m.slots) != 0 {
		t.Errorf("slots that are gone are remembered: %v", m.slots)
	}
}

// TestTimelineIsBounded: with very many slots each shows fewer.
func TestTimelineIsBounded(t *testing.T) {
	many := make([]brief, 30)
	for i := range many {
		many[i].number, many[i].environment = uint64(30-i), unique.Make("live")
	}
	if got := merged(many[10:], many[:15], maxPast); len(got) != maxPast || got[0].number != 30 || got[9].number != 21 || cap(got) != maxPast {
		t.Errorf("%+v", got)
	}
	if got := served(&admin.Slot{}, nil, brief{}, many, 5); len(got) != 5 || got[4].Number != 30 {
		t.Errorf("%+v", lines(got))
	}
}
