package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listener is a socket that stands in for the journal's.
type listener struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func listen(t *testing.T) *listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "journal") // short: a unix socket path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &listener{t: t, path: filepath.Join(dir, "socket")}
	l.open()
	return l
}

func (l *listener) open() {
	l.t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: l.path, Net: "unixgram"})
	if err != nil {
		l.t.Fatal(err)
	}
	l.conn = conn
	l.t.Cleanup(func() { _ = conn.Close() })
}

func (l *listener) close() {
	_ = l.conn.Close()
	_ = os.Remove(l.path)
}

// entry receives one entry, and says whether it came as memory.
func (l *listener) entry() (data []byte, memory bool) {
	l.t.Helper()
	if err := l.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		l.t.Fatal(err)
	}
	data, oob := make([]byte, 1<<20), make([]byte, 1024)
	n, oobn, _, _, err := l.conn.ReadMsgUnix(data, oob)
	if err != nil {
		l.t.Fatal(err)
	}
	if oobn == 0 {
		return data[:n], false
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 || n != 0 {
		l.t.Fatalf("%d bytes and %d messages beside them: %v", n, len(messages), err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		l.t.Fatalf("descriptors %v: %v", fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "entry")
	defer f.Close()
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE; err != nil || seals != want {
		l.t.Fatalf("seals %#x, want %#x: %v", seals, want, err)
	}
	data, err = io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		l.t.Fatal(err)
	}
	return data, true
}

// fields reads an entry as the protocol describes it.
func fields(t *testing.T, entry []byte) [][2]string {
	t.Helper()
	var out [][2]string
	for len(entry) > 0 {
		line, rest, ok := bytes.Cut(entry, []byte{'\n'})
		if !ok {
			t.Fatalf("no end of line after %q", line)
		}
		if name, value, ok := bytes.Cut(line, []byte{'='}); ok {
			out, entry = append(out, [2]string{string(name), string(value)}), rest
			continue
		}
		n := binary.LittleEndian.Uint64(rest)
		if rest[8+n] != '\n' {
			t.Fatalf("no end of line after the value of %q", line)
		}
		out, entry = append(out, [2]string{string(line), string(rest[8 : 8+n])}), rest[8+n+1:]
	}
	return out
}

// What no datagram holds comes as memory, whole.
func TestLargeEntry(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := New(Options{Prefix: "X_", FieldsOnly: []string{"v"}, Socket: l.path})
	defer h.Close()
	for _, size := range []int{100 << 10, 16 << 20} {
		value := strings.Repeat("0123456789abcde\n", size/16)
		slog.New(h).LogAttrs(t.Context(), slog.LevelInfo, "m", slog.Any("v", []byte(value)))
		data, memory := l.entry()
		got := fields(t, data)
		if n := len(got) - 1; got[n] != [2]string{"X_V", value} {
			t.Errorf("%d bytes: field %s of %d bytes came", size, got[n][0], len(got[n][1]))
		}
		if memory != (size > 1<<20) {
			t.Errorf("%d bytes: as memory %v", size, memory)
		}
	}
}

// A journal that reads nothing holds a line up for as long as Patience, and only counts.
func TestJournalThatHangs(t *testing.T) {
	t.Parallel()
	l := listen(t)
	var stderr bytes.Buffer
	var lost atomic.Int64
	h := New(Options{Prefix: "X_", FieldsOnly: []string{"large"}, Socket: l.path, Lost: func() { lost.Add(1) }, Fallback: slog.NewTextHandler(&stderr, nil)})
	defer h.Close()
	taken := 0
	begin := time.Now()
	for ; lost.Load() == 0; taken++ {
		if taken > 1e5 {
			t.Fatal("100,000 lines fit in a queue that nobody reads")
		}
		begin = time.Now()
		slog.New(h).LogAttrs(t.Context(), slog.LevelInfo, "m", slog.Int("n", taken))
	}
	if took := time.Since(begin); took < Patience/2 {
		t.Errorf("the line was given up after %s, want about %s", took, Patience)
	}
	slog.New(h).LogAttrs(t.Context(), slog.LevelInfo, "m", slog.Any("large", make([]byte, 16<<20)))
	if lost.Load() != 2 {
		t.Errorf("%d lines were lost, want 2: nor does the queue take a large one", lost.Load())
	}
	if stderr.Len() > 0 {
		t.Errorf("the fallback was given %q", stderr.String())
	}
	for n := range taken - 1 { // nothing of what it took is gone
		data, _ := l.entry()
		if got := fields(t, data)[0][1]; got != fmt.Sprintf("m: n=%d", n) {
			t.Fatalf("line %d is %q", n, got)
		}
	}
	slog.New(h).LogAttrs(t.Context(), slog.LevelInfo, "again")
	if data, _ := l.entry(); fields(t, data)[0][1] != "again" {
		t.Errorf("after that came %q", data)
	}
	if lost.Load() != 2 {
		t.Errorf("%d lines were lost", lost.Load())
	}
}

// A journal that is away has its lines go to stderr, and gets them again when it is back: also when its socket was made anew.
func TestJournalThatIsAway(t *testing.T) {
	t.Parallel()
	l := listen(t)
	var stderr bytes.Buffer
	var lost atomic.Int64
	h := New(Options{Prefix: "X_", Socket: l.path, Lost: func() { lost.Add(1) }, Fallback: slog.NewTextHandler(&stderr, nil)})
	defer h.Close()
	log := slog.New(h).With(slog.Int("a", 1)).WithGroup("g")
	log.LogAttrs(t.Context(), slog.LevelInfo, "before")
	l.entry()
	l.close()
	log.LogAttrs(t.Context(), slog.LevelInfo, "away", slog.Int("b", 2))
	if got := stderr.String(); !strings.HasSuffix(got, "level=INFO msg=away a=1 g.b=2\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("stderr has %q", got)
	}
	l.open()
	log.LogAttrs(t.Context(), slog.LevelInfo, "back")
	if data, _ := l.entry(); !strings.HasPrefix(string(data), "MESSAGE=back: a=1\n") {
		t.Errorf("came %q", data)
	}
	l.close()
	l.open() // another socket in its place: what is connected leads nowhere
	log.LogAttrs(t.Context(), slog.LevelInfo, "anew")
	if data, _ := l.entry(); !strings.HasPrefix(string(data), "MESSAGE=anew: a=1\n") {
		t.Errorf("came %q", data)
	}
	if lost.Load() != 0 {
		t.Errorf("%d lines were lost", lost.Load())
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// Where neither journal nor stderr takes a line it is counted, once.
func TestNobodyTakesIt(t *testing.T) {
	t.Parallel()
	for name, fallback := range map[string]slog.Handler{"broken": slog.NewTextHandler(broken{}, nil), "none": nil} {
		lost := 0
		h := New(Options{Socket: filepath.Join(t.TempDir(), "none"), Fallback: fallback, Lost: func() { lost++ }})
		slog.New(h).LogAttrs(t.Context(), slog.LevelInfo, "m")
		if lost != 1 {
			t.Errorf("%s: lost %d, want 1", name, lost)
		}
	}
}

// TestCloseWaits: what was sent is read before Close returns, as long as somebody reads.
func TestCloseWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h := New(Options{Socket: path})
	const lines = 3
	for range lines {
		slog.New(h).Info("the last one")
	}
	var read atomic.Int64
	begin, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		<-begin
		buffer := make([]byte, 4096)
		for read.Load() < lines {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			read.Add(1)
		}
	}()
	time.AfterFunc(50*time.Millisecond, func() { close(begin) })
	h.Close()
	_ = conn.SetReadDeadline(time.Unix(1, 0)) // what is still unread stays so
	<-done
	if n := read.Load(); n != lines {
		t.Errorf("it returned when %d of %d lines were read", n, lines)
	}
}
