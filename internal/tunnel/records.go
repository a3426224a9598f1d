package tunnel

// headerSize is that of a TLS record (RFC 5246, Section 6.2.1).
const headerSize = 5

// records follows the framing of a stream of TLS records, from its first byte.
// It judges nothing: what is not TLS, crypto/tls refuses.
type records struct {
	header [headerSize]byte
	have   int // bytes of header that have passed; headerSize within a payload
	left   int // bytes of payload to come
}

// within returns how many bytes of p, which is not empty, belong to the present
// record. It is at least 1.
func (r *records) within(p []byte) int {
	next := *r
	n := next.fillHeader(p)
	if next.have == headerSize {
		n += min(next.left, len(p)-n)
	}
	return n
}

// skip says that p has passed.
func (r *records) skip(p []byte) {
	for len(p) > 0 {
		n := r.fillHeader(p)
		if r.have == headerSize {
			m := min(r.left, len(p)-n)
			r.left -= m
			n += m
			if r.left == 0 {
				r.have = 0
			}
		}
		p = p[n:]
	}
}

// fillHeader takes what is missing of the header from p.
func (r *records) fillHeader(p []byte) int {
	if r.have == headerSize {
		return 0
	}
	n := copy(r.header[r.have:], p)
	if r.have += n; r.have == headerSize {
		r.left = int(r.header[3])<<8 | int(r.header[4])
	}
	return n
}
