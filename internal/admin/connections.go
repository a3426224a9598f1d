package admin

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// How many connections of the socket are open at once. Whoever may only read has not
// all of them, and one such user not all of those: nobody can lock out others, or
// whoever may change something, or take the descriptors of the tunnels.
const (
	maxOpen        = 64
	maxOfWriters   = 60 // of anybody but root
	maxOfReaders   = 48
	maxOfOneReader = 8
)

// connections counts what is open. Make it with newConnections.
type connections struct {
	writers func() []int // may be nil

	mu      sync.Mutex
	open    map[net.Conn]opened
	readers int
	of      map[int]int // readers, by user
}

type opened struct {
	uid    int
	reader bool
}

func newConnections(writers func() []int) *connections {
	return &connections{writers: writers, open: map[net.Conn]opened{}, of: map[int]int{}}
}

// enter counts a connection, and reports whether there is room for it.
func (o *connections) enter(c net.Conn, uid int) bool {
	reader := uid != 0 && (o.writers == nil || !slices.Contains(o.writers(), uid))
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case len(o.open) >= maxOpen, uid != 0 && len(o.open) >= maxOfWriters:
		return false
	case !reader:
	case o.readers >= maxOfReaders, o.of[uid] >= maxOfOneReader:
		return false
	default:
		o.readers++
		o.of[uid]++
	}
	o.open[c] = opened{uid, reader}
	return true
}

// leave counts the end of a connection, also of one that was not let in.
func (o *connections) leave(c net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, ok := o.open[c]
	if !ok {
		return
	}
	delete(o.open, c)
	if !was.reader {
		return
	}
	o.readers--
	if o.of[was.uid]--; o.of[was.uid] == 0 {
		delete(o.of, was.uid)
	}
}

// changed is http.Server.ConnState.
func (o *connections) changed(c net.Conn, s http.ConnState) {
	if s == http.StateClosed || s == http.StateHijacked {
		o.leave(c)
	}
}
