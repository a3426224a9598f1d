package systemstory

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/testpki"
)

// wallClock is the wall clock as the daemon sees it. Its host's cannot be stepped, as it is that of this machine: what stands in the memory of the process in place of the
// kernel's clock_gettime asks the kernel, and adds so many seconds to CLOCK_REALTIME. Nothing else is changed: timers, and the clocks that cannot be set, go on.
type wallClock struct {
	h      *host
	pid    string
	offset int64 // in its memory: where the seconds stand
}

// The code, up to the seconds and after them.
var (
	clockCode = []byte{
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
		0x75, 0x0d, // jne to the end
		0x48, 0xb9, // mov rcx, seconds
	}
	clockRest = []byte{
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, // ret
	}
)

// stepClock takes the wall clock of the daemon that runs. A test that cannot have it is skipped.
func (h *host) stepClock() *wallClock {
	h.t.Helper()
	if runtime.GOARCH != "amd64" {
		h.t.Skip("the code that stands in for the clock is for amd64")
	}
	c := &wallClock{h: h, pid: h.show("MainPID")}
	maps := h.Run("cat", "/proc/"+c.pid+"/maps")
	m := regexp.MustCompile(`(?m)^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$`).FindStringSubmatch(maps)
	if m == nil {
		h.t.Skip("the process has no vDSO")
	}
	var from, to int64
	_, _ = fmt.Sscanf(m[1]+" "+m[2], "%x %x", &from, &to)
	image := make([]byte, to-from)
	c.memory(func(f *os.File) error {
		_, err := io.ReadFull(io.NewSectionReader(f, from, to-from), image)
		return err
	})
	at := from + functionIn(h.t, image, "__vdso_clock_gettime")
	c.offset = at + int64(len(clockCode))
	code := append(append(bytes.Clone(clockCode), make([]byte, 8)...), clockRest...)
	c.memory(func(f *os.File) error {
		_, err := f.WriteAt(code, at)
		return err
	}, [2]int64{from, to})
	return c
}

// functionIn returns where a function begins in an ELF image.
func functionIn(t *testing.T, image []byte, name string) int64 {
	t.Helper()
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == name {
			return int64(s.Value) //nolint:gosec // an offset in two pages
		}
	}
	t.Fatalf("the vDSO has no %s", name)
	return 0
}

// memory does something to the memory of the process while it stands still, and none of its threads in the range that it must not.
func (c *wallClock) memory(do func(*os.File) error, not ...[2]int64) {
	c.h.t.Helper()
	f, err := os.OpenFile(path.Join(c.h.Root, "proc", c.pid, "mem"), os.O_RDWR, 0)
	if err != nil {
		c.h.t.Fatal(err)
	}
	defer f.Close()
	c.h.Until("no thread of the daemon reads the clock", func() bool {
		c.h.Run("kill", "-STOP", c.pid)
		defer c.h.Run("kill", "-CONT", c.pid)
		c.h.Until("it stands still", func() bool { return !strings.Contains(c.h.Run("sh", "-c", "cat /proc/"+c.pid+"/task/*/stat"), ") R ") })
		for line := range strings.Lines(c.h.Run("sh", "-c", "cat /proc/"+c.pid+"/task/*/syscall")) {
			fields := strings.Fields(line)
			var at int64
			_, _ = fmt.Sscanf(fields[len(fields)-1], "0x%x", &at)
			for _, r := range not {
				if at >= r[0] && at < r[1] {
					return false
				}
			}
		}
		if err := do(f); err != nil {
			c.h.t.Fatalf("reach the memory of the daemon: %v", err)
		}
		return true
	})
}

// set sets how far the wall clock of the daemon is away from the right time.
func (c *wallClock) set(away time.Duration) {
	c.h.t.Helper()
	seconds := binary.LittleEndian.AppendUint64(nil, uint64(int64(away/time.Second))) //nolint:gosec // two's complement
	c.memory(func(f *os.File) error {
		_, err := f.WriteAt(seconds, c.offset)
		return err
	})
}

const tenYears = (10*365*24 + 12) * time.Hour

// TestClock: a wall clock that is stepped by ten years, to and fro, cuts nobody and drops nothing, and who comes meanwhile is judged by it.
func TestClock(t *testing.T) {
	t.Parallel()
	var kernel unix.Timex
	if _, err := unix.Adjtimex(&kernel); err != nil || kernel.Status&unix.STA_UNSYNC == 0 {
		t.Skipf("the kernel says that the clock is synchronised (%v): then each step is believed", err)
	}
	h := installed(t)
	h.dropIn("watchdog.conf", "WatchdogSec=5")
	h.Run("systemctl", "start", unit)
	open := h.open()
	clock := h.stepClock()
	h.serves(h.own) // with the clock in place
	bundle := h.sub.BundlePEM()
	steps := []time.Duration{tenYears, 0, -tenYears, 0}
	if isLong() {
		steps = append(steps, -tenYears, tenYears, -tenYears, 0)
	}
	for i, away := range steps {
		clock.set(away)
		if away == 0 {
			h.Until("the clock is believed again", func() bool { _, bad := h.condition("clock_suspect"); return !bad })
			h.serves(h.own)
			h.works(open)
			continue
		}
		h.Until("the condition clock_suspect", func() bool {
			c, ok := h.condition("clock_suspect")
			return ok && c.Severity == "critical" && strings.Contains(c.Hint, "timedatectl")
		})
		// Who comes now is judged by the wall clock.
		if _, err := h.look(); err == nil {
			t.Errorf("step %d: a certificate that is ten years off is taken", i)
		}
		// Everybody who is connected is judged again, as the trust files change: for dates alone nobody is cut.
		other := testpki.NewRoot(t, testpki.KeyType("ecdsa-p256"), testpki.Name(fmt.Sprintf("Other Root %d", i)))
		bundle = append(bundle, other.CertPEM()...)
		sequence := h.status().Environments[0].Sequence
		h.Push("/etc/spinecert/trust/live.pem", bundle, 0o644)
		h.Until("the trust files were read", func() bool { return h.status().Environments[0].Sequence > sequence })
		h.works(open)
		if s := h.status().Slots[0]; s.SHA256 != hostbox.Fingerprint(h.own) || s.Generation != 1 {
			t.Errorf("step %d: %+v", i, s)
		}
	}
	if now := h.show("MainPID"); now != clock.pid || h.show("NRestarts") != "0" {
		t.Errorf("process %s, and %s before", now, clock.pid)
	}
	h.soon(h.rotate())
	h.works(open)
	out := h.Run("cat", stateDir+"/audit.jsonl")
	for _, word := range []string{"set forward by 3650 days", "set back by 3650 days"} {
		if !hasLine(out, `"event":"clock_suspect"`, word) {
			t.Errorf("the audit file does not say %q", word)
		}
	}
	if a := h.Ask("state", "verify"); a.Exit != 0 {
		t.Errorf("state verify: %d, %s", a.Exit, a.Result)
	}
}
