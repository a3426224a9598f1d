package admin

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// How many connections of the socket are open at once. Whoever may only read has not
// all of them, and one such user not all of those; nor have those who may change
// something: nobody can lock out others, or root, or take the descriptors of the tunnels.
// Root's own orders are bounded where they are waited for long, see maxOrders.
const (
	maxOpen        = 64
	maxOfOthers    = 60 // of anybody but root
	maxOfWriters   = 48
	maxOfReaders   = 48
	maxOfOneReader = 8
)

// connections counts what is open. Make it with newConnections.
type connections struct {
	mayWrite func() []int // may be nil

	mu      sync.Mutex
	open    map[net.Conn]opened
	writers int // but root
	readers int
	of      map[int]int // readers, by user
}

type opened struct {
	uid    int
	reader bool
}

func newConnections(writers func() []int) *connections {
	return &connections{mayWrite: writers, open: map[net.Conn]opened{}, of: map[int]int{}}
}

// enter counts a connection, and reports whether there is room for it.
func (o *connections) enter(c net.Conn, uid int) bool {
	reader := uid != 0 && (o.mayWrite == nil || !slices.Contains(o.mayWrite(), uid))
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case len(o.open) >= maxOpen, uid != 0 && len(o.open) >= maxOfOthers:
		return false
	case uid == 0:
	case !reader && o.writers >= maxOfWriters:
		return false
	case !reader:
		o.writers++
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
	switch {
	case was.uid == 0:
		return
	case !was.reader:
		o.writers--
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
