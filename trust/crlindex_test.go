package trust

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"golang.org/x/crypto/cryptobyte/asn1"
)

func readEntriesDER(t *testing.T, root *testpki.Authority, entries ...[]byte) *CRL {
	t.Helper()
	raw := newRawCRL(root)
	raw.entries = tlv(asn1.SEQUENCE, entries...)
	crl, err := ReadCRL(raw.sign(t, root.Key), "serials.crl", []*x509.Certificate{root.Cert})
	if err != nil {
		t.Fatal(err)
	}
	return crl
}

// TestCRLSerials looks for every odd serial number in a list of all others:
// each must be found on its own list, and on no other.
func TestCRLSerials(t *testing.T) {
	root := testpki.NewRoot(t)
	ones := func(n int) []byte { return bytes.Repeat([]byte{0x7f}, n) }
	contents := map[string][]byte{
		"zero": {0}, "one": {1}, "minus one": {0xff}, "128": {0, 128}, "minus 128": {0x80}, "255": {0, 255}, "256": {1, 0},
		"4 octets": ones(4), "16 octets": ones(16), "19 octets": ones(19), "20 octets": ones(20), "21 octets": ones(21), "64 octets": ones(64),
		"20 octets, high bit": append([]byte{0}, bytes.Repeat([]byte{0xff}, 20)...), "negative 20 octets": append([]byte{0x80}, ones(19)...),
		"minus the 21 octets": append(bytes.Repeat([]byte{0x80}, 20), 0x81),
		"negative 64 octets":  append([]byte{0x80}, ones(63)...),
	}
	value := func(octets []byte) *big.Int {
		n := new(big.Int).SetBytes(octets)
		if octets[0] >= 0x80 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(octets))))
		}
		return n
	}
	for name, octets := range contents {
		own := readEntriesDER(t, root, entryDER(octets))
		var rest [][]byte
		for other, o := range contents {
			if _, on := own.Lookup(value(o)); on != (other == name) {
				t.Errorf("a list of %s: %s is on it: %v", name, other, on)
			}
			if other != name {
				rest = append(rest, entryDER(o))
			}
		}
		others := readEntriesDER(t, root, rest...)
		if _, on := others.Lookup(value(octets)); on {
			t.Errorf("%s is on the list of the others", name)
		}
		if got, on := own.Lookup(value(octets)); !on || got != (Revocation{Date: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}) {
			t.Errorf("%s: %v %v", name, got, on)
		}
	}
	long := new(big.Int).Lsh(big.NewInt(1), 600)
	if _, on := readEntriesDER(t, root, entryDER([]byte{1})).Lookup(long); on {
		t.Error("a serial number longer than any that is read was found")
	}
	if _, on := readEntriesDER(t, root).Lookup(big.NewInt(0)); on {
		t.Error("an empty list revokes")
	}
}

// TestCRLDigestIsNoSerial: the serial number whose octets are the digest that
// stands for another one is a different serial number.
func TestCRLDigestIsNoSerial(t *testing.T) {
	root := testpki.NewRoot(t)
	odd := big.NewInt(-1)
	key, _ := serialKey(odd)
	regular := new(big.Int).SetBytes(key.octets[:])
	octets := append([]byte{0}, regular.Bytes()...)
	if octets[1] < 0x80 {
		octets = octets[1:]
	}
	reason := tlv(asn1.SEQUENCE, extensionDER(21, false, []byte{10, 1, 1}))
	for name, c := range map[string]struct {
		entries      [][]byte
		odd, regular bool
		oddCode      int
	}{
		"odd":     {entries: [][]byte{entryDER([]byte{0xff}, reason)}, odd: true, oddCode: 1},
		"regular": {entries: [][]byte{entryDER(octets)}, regular: true},
		"both":    {entries: [][]byte{entryDER([]byte{0xff}, reason), entryDER(octets)}, odd: true, regular: true, oddCode: 1},
	} {
		crl := readEntriesDER(t, root, c.entries...)
		got, on := crl.Lookup(odd)
		if on != c.odd || got.Reason != c.oddCode {
			t.Errorf("a list of %s: the odd one is %v %v", name, got, on)
		}
		got, on = crl.Lookup(regular)
		if on != c.regular || got.Reason != 0 {
			t.Errorf("a list of %s: the regular one is %v %v", name, got, on)
		}
	}
}

func TestCRLReasonsAndDuplicates(t *testing.T) {
	root := testpki.NewRoot(t)
	reason := func(n byte) []byte { return tlv(asn1.SEQUENCE, extensionDER(21, false, []byte{10, 1, n})) }
	crl := readEntriesDER(t, root, entryDER([]byte{1}, reason(10)), entryDER([]byte{2}, reason(7)), entryDER([]byte{3}, reason(99)),
		entryDER([]byte{4}, reason(6)), entryDER([]byte{4}, reason(1)), entryDER([]byte{5}, tlv(asn1.SEQUENCE, extensionDER(24, true, utcTime("250101000000Z")), extensionDER(99, false, nil))))
	for serial, want := range map[int64]int{1: 10, 2: 0, 3: 0, 4: 1, 5: 0} {
		if got, on := crl.Lookup(big.NewInt(serial)); !on || got.Reason != want {
			t.Errorf("%d: reason %d %v, want %d", serial, got.Reason, on, want)
		}
	}
	if crl.Len() != 6 {
		t.Errorf("%d entries", crl.Len())
	}
}

// TestCRLIndexShapes looks up in indexes of many sizes and spreads of serial
// numbers: neighbours, one far away, all in one range, all equal.
func TestCRLIndexShapes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	spreads := map[string]func(i int) []byte{
		"sequence": func(i int) []byte { return big.NewInt(int64(i)*2 + 1).Bytes() },
		"random":   func(int) []byte { b := make([]byte, 20); fillRandom(r, b[1:]); return b[1:] },
		"mixed": func(i int) []byte {
			b := make([]byte, 1+r.IntN(20))
			fillRandom(r, b)
			return b
		},
		"clustered": func(i int) []byte {
			if i == 0 {
				return bytes.Repeat([]byte{0xff}, 20)
			}
			return big.NewInt(int64(i) * 3).Bytes()
		},
		"equal": func(int) []byte { return []byte{9, 9, 9, 9, 9, 9} },
	}
	for name, next := range spreads {
		for _, n := range []int{0, 1, 2, 3, 7, 8, 9, 31, 64, 1000, 5000} {
			keys := make([][]byte, n)
			width := 0
			for i := range keys {
				keys[i] = next(i)
				key := regularKey(keys[i])
				width = max(width, key.width())
			}
			checkIndex(t, name, keys, width)
		}
	}
}

func checkIndex(t *testing.T, name string, keys [][]byte, width int) {
	t.Helper()
	x := newCRLIndex(len(keys), width)
	have := map[string]bool{}
	for _, octets := range keys {
		key := regularKey(octets)
		x.append(&key, time.Unix(0, 0), 0)
		have[string(key.octets[:])] = true
	}
	x.seal()
	if x.Len() != len(keys) || cap(x.records)+4*cap(x.starts) > 24*len(keys)+12 {
		t.Fatalf("%s: %d entries take %d+%d octets", name, len(keys), cap(x.records), 4*cap(x.starts))
	}
	for _, octets := range keys {
		n := new(big.Int).SetBytes(octets)
		for _, d := range []int64{0, 1, -1} {
			serial := new(big.Int).Add(n, big.NewInt(d))
			key, _ := serialKey(serial)
			if _, on := x.find(serial); on != (!key.digest && have[string(key.octets[:])]) {
				t.Fatalf("%s, %d keys: %x is on the list: %v", name, len(keys), serial, on)
			}
		}
	}
}

func fillRandom(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// TestReadLargeCRL is past the size up to which crypto/x509 reads the list as well.
func TestReadLargeCRL(t *testing.T) {
	root := testpki.NewRoot(t)
	const n = 50_000
	der := testpki.NewLargeCRL(t, root, n)
	if len(der) < crossCheckBytes {
		t.Fatalf("%d bytes are not large", len(der))
	}
	crl, err := ReadCRL(der, "large.crl", []*x509.Certificate{root.Cert})
	if err != nil {
		t.Fatal(err)
	}
	checkAgainstLibrary(t, "large", der, crl)
	for i := n; i < 2*n; i++ {
		if _, on := crl.Lookup(testpki.LargeCRLSerial(i)); on {
			t.Fatalf("serial %d is revoked", i)
		}
	}
	if size := indexBytes(crl); size > 24*n {
		t.Errorf("%d bytes for %d entries", size, n)
	}
	serial, odd := testpki.LargeCRLSerial(77), new(big.Int).Lsh(big.NewInt(-5), 300)
	if allocs := testing.AllocsPerRun(100, func() { crl.Lookup(serial); crl.Lookup(odd) }); allocs != 0 {
		t.Errorf("lookup allocates %v times", allocs)
	}
	// A large list is not read by the library: what it would refuse must be refused here.
	i := bytes.LastIndex(der, utcTimeOf(der))
	der[i+2+10] = 'Q'
	if _, err := readCRLEntries(mustFields(t, der).revoked); err == nil {
		t.Error("a date that is none was read")
	}
}

// utcTimeOf returns the date of the first entry, which all share.
func utcTimeOf(der []byte) []byte {
	f, err := readCRLFields(der)
	if err != nil {
		panic(err)
	}
	return slices.Clone(f.revoked[2+18 : 2+18+15])
}

func mustFields(t *testing.T, der []byte) *crlFields {
	t.Helper()
	f, err := readCRLFields(der)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
