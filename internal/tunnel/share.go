package tunnel

import (
	"net"
	"os"
	"syscall"
)

// Share returns a duplicate of the socket of l for another process, see Gate.Listening.
func Share(l net.Listener) (*os.File, error) {
	return duplicate(l.(syscall.Conn), l.Addr().String())
}

// Adopt returns a listener on the socket f that another process shared. f stays the caller's.
func Adopt(f *os.File) (net.Listener, error) { return listenOn(f) }
