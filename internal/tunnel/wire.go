package tunnel

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// stream is what TCP and unix connections have in common.
type stream interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// again is the error of a read that would have to wait. It is a net.Error with
// Temporary() == true on purpose: crypto/tls then keeps the part of the record
// it has and does not remember the error (conn.go, readRecordOrCCS), so that the
// same Read may be tried again later, with another buffer. A test guards this.
type again struct{}

func (again) Error() string   { return "nothing to read yet" }
func (again) Timeout() bool   { return false }
func (again) Temporary() bool { return true }

// errAgain is compared by identity.
var errAgain net.Error = again{}

// readMode is how Read behaves when the socket has nothing to give.
type readMode uint8

const (
	blocking    readMode = iota // handshake: wait, without a CPU token
	nonBlocking                 // relay: return errAgain, wait is separate
)

// wire is a socket as crypto/tls and the relay see it. Reads go through one
// callback that is bound once, so a read allocates nothing. Only one goroutine
// may read; writes are serialised by mu, because crypto/tls writes alerts from
// the reading side.
type wire struct {
	stream
	raw  syscall.RawConn
	step func(uintptr) bool // tryRead, bound once
	poll func(uintptr) bool // tryWait, bound once

	// Arguments and results of the callbacks, owned by the reading goroutine.
	p       []byte
	n       int
	err     error
	mode    readMode
	waited  bool
	drained bool  // the last read took all there was: the next one need not ask
	eof     bool  // the peer's FIN was read
	failed  error // found by wait: the socket tells an error only once
	peek    [1]byte

	// Of the TLS side: what was read ahead, and where in the records Read is.
	ahead   *[]byte // lent; nil while nothing is left of it
	from    int     // ahead[from:] is left, if ahead is not nil
	big     bool    // the last buffer was filled: lend a large one
	records records
	lender  *buffers

	// Handshake only.
	lease   *lease
	allowed int64 // bytes that may still be read; negative is over
	limited bool

	mu   sync.Mutex
	lend *buffers // set while writes are gathered
	out  *[]byte  // lent
}

// attach makes w the wire of s.
func (w *wire) attach(s stream) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	w.stream, w.raw = s, raw
	w.step, w.poll = w.tryRead, w.tryWait
	return nil
}

// beginHandshake bounds what is read to limit bytes, and has every wait for the
// peer give back the CPU token of l.
func (w *wire) beginHandshake(l *lease, limit int64) {
	w.mode, w.lease, w.allowed, w.limited = blocking, l, limit, true
}

// endHandshake lifts what beginHandshake imposed; Read never waits from now on.
// It reads ahead into buffers of b.
func (w *wire) endHandshake(b *buffers) {
	w.mode, w.lease, w.limited, w.lender = nonBlocking, nil, false, b
}

// Read reads what is there. In a handshake it waits for something; afterwards it
// returns errAgain instead, and wait tells when to try again.
//
// On the TLS side Read never gives more than the rest of a record. crypto/tls
// keeps for ever the largest buffer it ever needed, and with what follows a
// record it needs twice as much. Reading ahead makes up for it: one read of the
// socket serves several records.
func (w *wire) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if w.lender == nil {
		n, err := w.read(p)
		if w.limited { // a handshake, not the plain side
			w.records.skip(p[:n])
		}
		return n, err
	}
	if w.ahead == nil {
		buffer := w.lender.plain(w.big)
		n, err := w.read(*buffer)
		w.big = n >= smallSize
		if err != nil {
			w.lender.give(buffer)
			return 0, err
		}
		*buffer = (*buffer)[:n]
		w.ahead, w.from = buffer, 0
	}
	left := (*w.ahead)[w.from:]
	n := copy(p, left[:w.records.within(left)])
	w.records.skip(left[:n])
	if w.from += n; w.from == len(*w.ahead) {
		*w.ahead = (*w.ahead)[:cap(*w.ahead)]
		w.lender.give(w.ahead)
		w.ahead = nil
	}
	return n, nil
}

// read is one read of the socket.
func (w *wire) read(p []byte) (int, error) {
	if w.drained && w.mode == nonBlocking {
		w.drained = false
		return 0, errAgain
	}
	if w.failed != nil {
		return 0, w.failed
	}
	w.p = p
	err := w.raw.Read(w.step)
	w.p = nil
	if err != nil {
		return 0, err
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.lease != nil {
		// Only now is there something to compute.
		if err := w.lease.acquire(); err != nil {
			return 0, err
		}
	}
	return w.n, nil
}

// tryRead is one attempt; false makes the poller wait and call it again.
func (w *wire) tryRead(fd uintptr) bool {
	for {
		n, err := syscall.Read(int(fd), w.p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if w.mode == blocking {
				w.lease.release()
				return false
			}
			w.n, w.err = 0, errAgain
		case err != nil:
			w.n, w.err = 0, w.readError(err)
		case n == 0:
			w.n, w.err, w.eof = 0, io.EOF, true
		default:
			w.n, w.err = n, nil
			// A stream socket that gave less than was asked for is empty. If
			// more has come since, or a FIN, wait sees it.
			w.drained = n < len(w.p)
			if w.limited {
				w.count(n)
			}
		}
		return true
	}
}

// count takes n bytes off what the handshake may read.
func (w *wire) count(n int) {
	w.allowed -= int64(n)
	if w.allowed < 0 {
		w.n, w.err = 0, errTooLarge
	}
}

// wait returns when a Read would give something, an error or the end. The
// caller holds no buffer meanwhile. It returns the error of a deadline or of a
// Close.
func (w *wire) wait() error {
	w.waited, w.drained = false, false
	return w.raw.Read(w.poll)
}

// tryWait looks once for what came before the poller was armed (RawConn.Read
// forgets earlier events), then lets the poller wait.
func (w *wire) tryWait(fd uintptr) bool {
	if w.waited {
		return true
	}
	w.waited = true
	for {
		// Raw, as it never blocks, and as its frame is small: see Conn.fromTLS.
		_, _, err := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&w.peek)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		switch err {
		case 0:
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		w.failed = w.readError(err)
		return true
	}
}

func (w *wire) readError(err error) error {
	return &net.OpError{Op: "read", Net: w.LocalAddr().Network(), Source: w.LocalAddr(), Addr: w.RemoteAddr(), Err: os.NewSyscallError("read", err)}
}

// gather makes Write collect in a lent buffer until flush: crypto/tls writes
// each record of 16 KiB on its own, and one large write costs less than four.
func (w *wire) gather(b *buffers) {
	w.mu.Lock()
	w.lend = b
	w.mu.Unlock()
}

// flush writes what was gathered and gives the buffer back.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.flushLocked()
	w.lend = nil
	return err
}

func (w *wire) flushLocked() error {
	if w.out == nil {
		return nil
	}
	_, err := w.stream.Write(*w.out)
	w.lend.give(w.out)
	w.out = nil
	return err
}

// Write writes p, or keeps it until flush.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lend == nil {
		return w.stream.Write(p)
	}
	if w.out != nil && len(*w.out)+len(p) > cap(*w.out) {
		if err := w.flushLocked(); err != nil {
			return 0, err
		}
	}
	if w.out == nil {
		if len(p) > sealedSize {
			return w.stream.Write(p)
		}
		w.out = w.lend.sealed()
	}
	*w.out = append(*w.out, p...)
	return len(p), nil
}
