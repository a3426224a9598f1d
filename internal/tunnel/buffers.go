package tunnel

import "sync"

const (
	// plainSize is how much one turn of a relay moves at most: four full TLS
	// records, so that one read and one write move what four of each would.
	plainSize = 64 << 10
	// sealedSize takes plainSize after encryption: per record of 16 KiB at most
	// 5 bytes of header and 256 of nonce, padding and tag (RFC 5246, Section
	// 6.2.3 allows more; no suite of crypto/tls uses it).
	sealedSize = plainSize + 4*(5+256)
	// smallSize serves the turns that move one record or less.
	smallSize = 16 << 10
)

// buffers lends the memory that bytes pass through. A relay holds a buffer only
// while bytes move, so memory follows traffic and not connections.
type buffers struct {
	large, small, out sync.Pool
}

// plain lends a buffer for plaintext: a large one if the last turn filled a
// small one.
func (b *buffers) plain(large bool) *[]byte {
	pool, size := &b.small, smallSize
	if large {
		pool, size = &b.large, plainSize
	}
	if p, ok := pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, size)
	return &p
}

// sealed lends an empty buffer for ciphertext.
func (b *buffers) sealed() *[]byte {
	if p, ok := b.out.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, 0, sealedSize)
	return &p
}

// give takes a buffer back.
func (b *buffers) give(p *[]byte) {
	switch cap(*p) {
	case smallSize:
		b.small.Put(p)
	case plainSize:
		b.large.Put(p)
	default:
		*p = (*p)[:0]
		b.out.Put(p)
	}
}
