package state

import (
	"cmp"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/rotate"
)

// maxOutline bounds generation.json where many of them are read.
const maxOutline = 64 << 10

// Outline is what generation.json says of a generation.
type Outline struct {
	rotate.Record
	NotBefore time.Time // of the leaf
	Serial    string    // of the leaf, in hex
	SHA256    [32]byte  // of the leaf
}

// Outlines returns what is written of the newest generations of a slot whose numbers
// are below a number, the newest first, at most limit of them. It is for a look at
// thousands of slots: nothing is held against certificates and keys, and what cannot
// be read is left out.
func (d *Directory) Outlines(slot string, below uint64, limit int) []Outline {
	if checkName("slot", slot) != nil {
		return nil
	}
	dir, err := d.open(join(slotsName, slot, generationsName), unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	numbers := make([]uint64, 0, len(names))
	for _, name := range names {
		if n, ok := parseNumber(name); ok && n < below {
			numbers = append(numbers, n)
		}
	}
	order.Sort(numbers, func(a, b uint64) int { return cmp.Compare(b, a) })
	out := make([]Outline, 0, min(len(numbers), limit))
	buffer := make([]byte, 4<<10)
	for _, n := range numbers {
		if len(out) >= limit {
			break
		}
		if o, ok := outline(dir, slot, n, &buffer); ok {
			out = append(out, o)
		}
	}
	return out
}

// outline reads one generation.json below the directory of generations.
func outline(dir *os.File, slot string, number uint64, buffer *[]byte) (o Outline, ok bool) {
	below, err := openAt(int(dir.Fd()), formatNumber(number), unix.O_DIRECTORY)
	if err != nil {
		return o, false
	}
	defer unix.Close(below)
	data, err := readSmall(below, generationFile, buffer)
	if err != nil {
		return o, false
	}
	g, err := parseGeneration(data)
	if err != nil || g.Number != number || g.Slot != slot {
		return o, false
	}
	o = Outline{Record: g.record(), NotBefore: g.NotBefore}
	o.Serial = g.Serial
	err = (*sum)(&o.SHA256).UnmarshalText([]byte(g.SHA256))
	return o, err == nil && o.SHA256 != [32]byte{} && isSerial(o.Serial)
}

// isSerial reports whether a text is a serial number in hex, as x509 permits them.
func isSerial(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 128
}

// readSmall reads a small regular file in a directory into a buffer, which grows. What
// it returns is valid until the next call with the same buffer.
func readSmall(dir int, name string, buffer *[]byte) ([]byte, error) {
	fd, err := openAt(dir, name, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if !isKind(st, unix.S_IFREG) || st.Size > maxOutline {
		return nil, errors.New("is no small regular file")
	}
	for have := 0; ; {
		if have == len(*buffer) {
			*buffer = append(*buffer, make([]byte, len(*buffer))...)
		}
		n, err := unix.Read(fd, (*buffer)[have:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return (*buffer)[:have], nil
		case have+n > maxOutline:
			return nil, io.ErrShortBuffer
		}
		have += n
	}
}
