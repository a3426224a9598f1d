package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// A connection to the backend begins with a mode and a length.
const (
	modeEcho   = 'e' // sends back what comes, until the end
	modeSink   = 's' // reads length bytes, then answers with one
	modeSource = 'd' // sends length bytes
)

const headerSize = 9

// header returns the first bytes of a connection: mode, then length.
func header(mode byte, length int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{mode}, uint64(length))
}

// backend is the plain TCP server behind every proxy.
type backend struct {
	listener net.Listener
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	done     sync.WaitGroup
}

func newBackend() (*backend, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the backend: %w", err)
	}
	b := &backend{listener: l, conns: make(map[net.Conn]struct{})}
	b.done.Go(b.accept)
	return b, nil
}

func (b *backend) addr() string { return b.listener.Addr().String() }

func (b *backend) close() {
	b.listener.Close()
	b.mu.Lock()
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.done.Wait()
}

func (b *backend) accept() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.conns[c] = struct{}{}
		b.mu.Unlock()
		b.done.Go(func() {
			serve(c)
			c.Close()
			b.mu.Lock()
			delete(b.conns, c)
			b.mu.Unlock()
		})
	}
}

// serve answers one connection. Errors are the client's to notice: it checks
// every byte count.
func serve(c net.Conn) {
	var head [headerSize]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	length := int64(binary.BigEndian.Uint64(head[1:]))
	switch head[0] {
	case modeEcho:
		echo(c)
	case modeSink:
		if n, _ := copyPlain(io.Discard, io.LimitReader(c, length)); n == length {
			_, _ = c.Write([]byte{modeSink})
		}
	case modeSource:
		_, _ = copyPlain(c, io.LimitReader(zeros{}, length))
		_, _ = io.Copy(io.Discard, c) // until the client has read all and left
	}
}

func echo(c net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// copyPlain copies through one buffer of 64 KiB, and never by splice, whose
// sizes would depend on the kernel's mood.
func copyPlain(dst io.Writer, src io.Reader) (int64, error) {
	type plainWriter struct{ io.Writer }
	type plainReader struct{ io.Reader }
	return io.CopyBuffer(plainWriter{dst}, plainReader{src}, make([]byte, 64<<10))
}

// zeros is an endless reader; TLS does not compress.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
