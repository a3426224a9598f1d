package peercred

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	from4, to4 = netip.MustParseAddrPort("127.0.0.1:4000"), netip.MustParseAddrPort("127.0.0.2:5000")
	from6, to6 = netip.MustParseAddrPort("[::1]:4000"), netip.MustParseAddrPort("[fd00::1]:5000")
)

// message returns what the kernel would answer; change may alter it.
func message(family byte, client, server netip.AddrPort, change func([]byte)) []byte {
	b := make([]byte, messageSize)
	binary.NativeEndian.PutUint32(b, messageSize)
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint32(b[8:], sequence)
	b[16], b[17] = family, unix.BPF_TCP_ESTABLISHED
	for i, ap := range []netip.AddrPort{client, server} {
		binary.BigEndian.PutUint16(b[20+2*i:], ap.Port())
		if family == unix.AF_INET {
			copy(b[24+16*i:], ap.Addr().AsSlice())
		} else {
			a := ap.Addr().As16()
			copy(b[24+16*i:], a[:])
		}
	}
	binary.NativeEndian.PutUint32(b[80:], 1000)
	binary.NativeEndian.PutUint32(b[84:], 77)
	if change != nil {
		change(b)
	}
	return b
}

func TestAnswer(t *testing.T) {
	for name, m := range map[string][]byte{
		"IPv4":                   message(unix.AF_INET, from4, to4, nil),
		"IPv4 of an IPv6 socket": message(unix.AF_INET6, from4, to4, nil),
		"half closed":            message(unix.AF_INET, from4, to4, func(b []byte) { b[17] = unix.BPF_TCP_FIN_WAIT2 }),
	} {
		if uid, err := answer(m, from4, to4); err != nil || uid != 1000 {
			t.Errorf("%s: %d, %v", name, uid, err)
		}
	}
	if uid, err := answer(message(unix.AF_INET6, from6, to6, nil), from6, to6); err != nil || uid != 1000 {
		t.Errorf("IPv6: %d, %v", uid, err)
	}
	put32 := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.NativeEndian.PutUint32(b[at:], v) }
	}
	put16 := func(at int, v uint16) func([]byte) {
		return func(b []byte) { binary.NativeEndian.PutUint16(b[at:], v) }
	}
	put8 := func(at int, v byte) func([]byte) { return func(b []byte) { b[at] = v } }
	for name, m := range map[string][]byte{
		"nothing":                {},
		"no header":              make([]byte, 15),
		"zeros":                  make([]byte, messageSize),
		"too short for itself":   message(unix.AF_INET, from4, to4, put32(0, messageSize+1)),
		"shorter than a header":  message(unix.AF_INET, from4, to4, put32(0, 8)),
		"cut short":              message(unix.AF_INET, from4, to4, put32(0, messageSize-4)),
		"another sequence":       message(unix.AF_INET, from4, to4, put32(8, 2)),
		"another kind":           message(unix.AF_INET, from4, to4, put16(4, unix.NLMSG_DONE)),
		"an error of nothing":    message(unix.AF_INET, from4, to4, put16(4, unix.NLMSG_ERROR)),
		"another family":         message(unix.AF_INET, from4, to4, put8(16, unix.AF_UNIX)),
		"no owner":               message(unix.AF_INET, from4, to4, put32(84, 0)),
		"other client port":      message(unix.AF_INET, from4, to4, put8(21, 1)),
		"other server port":      message(unix.AF_INET, from4, to4, put8(23, 1)),
		"other client":           message(unix.AF_INET, from4, to4, put8(27, 9)),
		"other server":           message(unix.AF_INET, from4, to4, put8(43, 9)),
		"the other way round":    message(unix.AF_INET, to4, from4, nil),
		"IPv6 that looks alike":  message(unix.AF_INET6, from6, to6, nil),
		"listening":              message(unix.AF_INET, from4, to4, put8(17, unix.BPF_TCP_LISTEN)),
		"waiting for the end":    message(unix.AF_INET, from4, to4, put8(17, unix.BPF_TCP_TIME_WAIT)),
		"closed":                 message(unix.AF_INET, from4, to4, put8(17, unix.BPF_TCP_CLOSE)),
		"connecting":             message(unix.AF_INET, from4, to4, put8(17, unix.BPF_TCP_SYN_SENT)),
		"a state there is not":   message(unix.AF_INET, from4, to4, put8(17, 0)),
		"a state beyond a shift": message(unix.AF_INET, from4, to4, put8(17, 33)),
	} {
		if uid, err := answer(m, from4, to4); err == nil {
			t.Errorf("%s: user %d", name, uid)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(message(unix.AF_INET, from4, to4, nil))
	f.Add(message(unix.AF_INET6, from6, to6, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, pair := range [][2]netip.AddrPort{{from4, to4}, {from6, to6}} {
			if _, err := answer(b, pair[0], pair[1]); err == nil && len(b) < messageSize {
				t.Error("an answer out of less than a message")
			}
		}
	})
}
