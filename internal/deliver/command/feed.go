package command

import (
	"os"
	"time"
)

// feed writes to a program what it is to read. It is a pipe, as the daemon's unit allows no memfd_create. A nil feed
// does nothing.
type feed struct {
	near *os.File
	done chan struct{} // closed when nothing more is written
}

// newFeed returns a feed, and the end of the pipe that the program gets; the caller closes that one.
func newFeed() (*feed, *os.File, error) {
	far, near, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	return &feed{near: near, done: make(chan struct{})}, far, nil
}

// begin writes the input, in the background: a program may print before it reads, or never read at all.
func (f *feed) begin(input []byte) {
	if f == nil {
		return
	}
	go func() {
		defer close(f.done)
		_, _ = f.near.Write(input) // what ends without reading it has no use for it
		_ = f.near.Close()
	}()
}

// end stops a feed that began: whoever holds the other end now is not waited for.
func (f *feed) end() {
	if f == nil {
		return
	}
	_ = f.near.SetWriteDeadline(time.Now())
	<-f.done
}

// abandon closes a feed that never began.
func (f *feed) abandon() {
	if f != nil {
		_ = f.near.Close()
	}
}
