package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"math/bits"
	"sort"
	"time"
)

const (
	maxSerialOctets = 20
	// maxOddSerialOctets bounds the serial numbers that break the rule of 20. A
	// list with a longer one is refused, so that no lookup of one can miss.
	maxOddSerialOctets = 64

	minKeyOctets = 4 // what prefix reads

	metaOctets  = 3
	metaDigest  = 1 << 23
	reasonShift = 19
	maxMetaDays = 1<<reasonShift - 1
	secondsADay = 24 * 60 * 60
)

// crlKey is a serial number in 20 octets, big-endian. RFC 5280, Section 4.1.2.2
// makes serial numbers positive with at most 20 octets, and asks readers to bear
// others: those are kept by a digest cut to 20 octets, which a bit of the record
// keeps apart from the regular ones.
type crlKey struct {
	octets [maxSerialOctets]byte
	digest bool
}

// width returns how many octets the key needs.
func (k *crlKey) width() int {
	if k.digest {
		return maxSerialOctets
	}
	for i, b := range k.octets {
		if b != 0 {
			return maxSerialOctets - i
		}
	}
	return 0
}

// regularKey makes the key of a serial number that is not negative and has at
// most 20 octets.
func regularKey(octets []byte) (k crlKey) {
	copy(k.octets[maxSerialOctets-len(octets):], octets)
	return k
}

// serialKey makes the key of any serial number, or false if no list that was
// read can hold it.
func serialKey(serial *big.Int) (k crlKey, ok bool) {
	n := (serial.BitLen() + 7) / 8
	if n <= maxSerialOctets && serial.Sign() >= 0 {
		serial.FillBytes(k.octets[:])
		return k, true
	}
	if n > maxOddSerialOctets {
		return k, false
	}
	var b [1 + maxOddSerialOctets]byte
	if serial.Sign() < 0 {
		b[0] = 1
	}
	serial.FillBytes(b[1 : 1+n])
	sum := sha256.Sum256(b[:1+n])
	return crlKey{octets: [maxSerialOctets]byte(sum[:]), digest: true}, true
}

// crlIndex holds the revoked serial numbers, sorted. A record is a key without
// the leading zeros that all keys share, and 3 octets, from the high bit down:
// whether the key is a digest, 4 bits of reason, 19 bits of days since 1970.
// That is at most 23 octets, and starts takes one more at most.
type crlIndex struct {
	width   int // octets of a key, at least 4
	records []byte
	// starts leads to the first record of a range of keys: in a binary search
	// over millions of records every step is a cache miss. Range b holds the keys
	// whose prefix less low is b when shifted right.
	starts []uint32
	low    uint32
	shift  int
}

func newCRLIndex(n, width int) *crlIndex {
	width = max(width, minKeyOctets)
	return &crlIndex{width: width, records: make([]byte, 0, n*(width+metaOctets))}
}

// append adds a record in the order of the list. Its key fits the width.
func (x *crlIndex) append(k *crlKey, date time.Time, reason int) {
	meta := uint32(reason) << reasonShift
	meta |= uint32(min(max(date.Unix()/secondsADay, 0), maxMetaDays))
	if k.digest {
		meta |= metaDigest
	}
	x.records = append(x.records, k.octets[maxSerialOctets-x.width:]...)
	x.records = append(x.records, byte(meta>>16), byte(meta>>8), byte(meta))
}

// seal sorts the records and fills starts.
func (x *crlIndex) seal() {
	if !sort.IsSorted(x) {
		sort.Sort(x)
	}
	n := x.Len()
	if n == 0 {
		return
	}
	x.low = prefix(x.record(0))
	// At most 2^want ranges of 4 octets each take no more than an octet per record.
	spread, want := bits.Len32(prefix(x.record(n-1))-x.low), max(bits.Len(uint(n/4)), 1)-1
	x.shift = max(spread-want, 0)
	ranges := int(x.rangeOf(prefix(x.record(n-1)))) + 1
	x.starts = make([]uint32, ranges+1)
	for i := range n {
		x.starts[x.rangeOf(prefix(x.record(i)))+1]++
	}
	for b := range ranges {
		x.starts[b+1] += x.starts[b]
	}
}

func (x *crlIndex) rangeOf(prefix uint32) uint32 { return (prefix - x.low) >> x.shift }

func prefix(key []byte) uint32 { return binary.BigEndian.Uint32(key) }

func (x *crlIndex) record(i int) []byte {
	size := x.width + metaOctets
	return x.records[i*size : (i+1)*size]
}

// Len is the number of records (sort.Interface).
func (x *crlIndex) Len() int { return len(x.records) / (x.width + metaOctets) }

// Less compares two records (sort.Interface).
func (x *crlIndex) Less(i, j int) bool { return bytes.Compare(x.record(i), x.record(j)) < 0 }

// Swap exchanges two records (sort.Interface).
func (x *crlIndex) Swap(i, j int) {
	var tmp [maxSerialOctets + metaOctets]byte
	a, b := x.record(i), x.record(j)
	n := copy(tmp[:], a)
	copy(a, b)
	copy(b, tmp[:n])
}

// find returns the first record with this serial number.
func (x *crlIndex) find(serial *big.Int) (Revocation, bool) {
	k, ok := serialKey(serial)
	zeros := maxSerialOctets - x.width
	var none [maxSerialOctets]byte
	if !ok || !bytes.Equal(k.octets[:zeros], none[:zeros]) { // longer than any on the list
		return Revocation{}, false
	}
	key := k.octets[zeros:]
	i := x.search(key, k.digest)
	if i == x.Len() || !bytes.Equal(x.record(i)[:x.width], key) {
		return Revocation{}, false
	}
	r := x.record(i)[x.width:]
	meta := uint32(r[0])<<16 | uint32(r[1])<<8 | uint32(r[2])
	if meta&metaDigest != 0 != k.digest {
		return Revocation{}, false
	}
	return Revocation{
		Date:   time.Unix(int64(meta&maxMetaDays)*secondsADay, 0).UTC(),
		Reason: int(meta >> reasonShift & 15),
	}, true
}

// search returns the first record that does not come before the key, or Len.
func (x *crlIndex) search(key []byte, digest bool) int {
	p := prefix(key)
	b := x.rangeOf(p) // of a key below low: wraps round, to a range that it is not in
	if int(b) >= len(x.starts)-1 {
		return x.Len()
	}
	i, j := int(x.starts[b]), int(x.starts[b+1])
	for i < j {
		h := int(uint(i+j) >> 1)
		r := x.record(h)
		q := prefix(r)
		before := q < p
		if q == p {
			c := bytes.Compare(r[:x.width], key)
			before = c < 0 || c == 0 && digest && r[x.width]&(metaDigest>>16) == 0
		}
		if before {
			i = h + 1
		} else {
			j = h
		}
	}
	return i
}
