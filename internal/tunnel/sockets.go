package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// sockets are the listening sockets of all tunnels, by key. They belong to the
// Gate and not to a tunnel, so that an address may go from a tunnel to another
// one, renamed or not, without being closed in between.
type sockets struct {
	mu    sync.Mutex // also guards the listening state of every Tunnel
	byKey map[string]*socket
	// inherited are sockets of another process that no tunnel has taken yet, by key.
	inherited map[string]Inherited
}

// socket is one listening socket and its accept loop.
type socket struct {
	address string // for events; the accept loop reads it, so it does not change
	listen  listen // guarded by sockets.mu
	ln      net.Listener
	file    fileID // of a unix socket that is ours to remove
	owner   atomic.Pointer[Tunnel]
	claim   *Pending      // who gets it next; guarded by sockets.mu
	runs    bool          // the accept loop was started; guarded by sockets.mu
	stop    chan struct{} // closed with the socket
	ended   chan struct{} // closed by the accept loop at its end
}

func newSocket(l listen, ln net.Listener) *socket {
	s := &socket{address: l.Address, listen: l, ln: ln, stop: make(chan struct{}), ended: make(chan struct{})}
	if l.Network == "unix" && l.File == nil {
		s.file, _ = identify(l.Address)
	}
	return s
}

// close closes the socket. The file of a unix socket goes if it is still the
// one that was made here.
func (s *socket) close() {
	close(s.stop)
	if s.file != (fileID{}) {
		if now, ok := identify(s.listen.Address); ok && now == s.file {
			_ = os.Remove(s.listen.Address)
		}
	}
	_ = s.ln.Close()
}

// claimLocked reserves the socket of l for p, opening it if there is none. With
// keep == false a new socket is only tried out.
func (ss *sockets) claimLocked(ctx context.Context, p *Pending, l listen, keep bool) error {
	if s := ss.byKey[l.key]; s != nil {
		if s.claim != nil {
			return fmt.Errorf("listen on %q: listener taken by tunnel %q", l.Address, s.claim.tunnel.name)
		}
		s.claim = p
		return nil
	}
	if _, ok := ss.inherited[l.key]; ok && !keep {
		return nil // it is open, and taken when the tunnel is ready
	}
	s, err := ss.openLocked(ctx, l, p.tunnel.ports[l.key])
	if err != nil {
		return err
	}
	if !keep {
		s.close()
		return nil
	}
	s.claim = p
	ss.byKey[l.key] = s
	return nil
}

// unclaimLocked takes back every claim of p and closes what has no owner.
func (ss *sockets) unclaimLocked(p *Pending) {
	for key, s := range ss.byKey {
		if s.claim != p {
			continue
		}
		s.claim = nil
		if owner := s.owner.Load(); owner == nil || !owner.wantsLocked(key) {
			ss.closeLocked(key, s)
		}
	}
}

func (ss *sockets) closeLocked(key string, s *socket) {
	delete(ss.byKey, key)
	s.close()
}

// giveLocked makes t the owner of s and lets it accept.
func (s *socket) giveLocked(t *Tunnel, l listen) error {
	changed := s.listen.Mode != l.Mode || s.listen.gid != l.gid
	s.listen, s.claim = l, nil
	s.owner.Store(t)
	t.ports[l.key] = s.ln.Addr().String()
	if !s.runs {
		s.runs = true
		go s.accept()
	}
	if changed && l.Network == "unix" && l.File == nil {
		return l.permit()
	}
	return nil
}

const (
	acceptPauseFirst   = 5 * time.Millisecond
	acceptPauseLongest = time.Second
)

// accept hands connections to the owner until the socket is closed. When the
// system is out of descriptors or memory it pauses, longer each time, and says
// so once: the connection that waits would make an eager loop spin.
func (s *socket) accept() {
	defer close(s.ended)
	var pause time.Duration
	for {
		c, err := s.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		owner := s.owner.Load()
		if err != nil {
			if pause == 0 {
				owner.observer.trouble(Trouble{Kind: TroubleAccept, Address: s.address, Err: err})
			}
			pause = min(max(2*pause, acceptPauseFirst), acceptPauseLongest)
			if !s.sleep(pause) {
				return
			}
			continue
		}
		if pause > 0 {
			pause = 0
			owner.observer.trouble(Trouble{Kind: TroubleAccept, Address: s.address})
		}
		if st, ok := c.(stream); ok {
			owner.accept(st)
		} else {
			_ = c.Close() // an inherited socket that is neither TCP nor unix
		}
	}
}

// sleep pauses; false means that the socket was closed meanwhile.
func (s *socket) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.stop:
		return false
	case <-timer.C:
		return true
	}
}
