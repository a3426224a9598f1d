package command

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// signalage.go: a PID file that its service left behind, when it crashed or the host did, names
// whoever was given that number since. A number is known only once its process is there, whether
// the process writes it, its parent after the fork, or a supervisor; and a program that takes its
// own place (exec) keeps number and start. So who started after the file was written is somebody else.
//
// Both times are of clocks that people set. What cannot be judged is let through, as the file's
// owner is trusted. What is refused wrongly (a clock that was set between the start of the service
// and ours, a file copied with its time, a process restored from a checkpoint) is mended by touch.

const (
	// ageTolerance is for file servers with a clock of their own, and for small steps of this one.
	ageTolerance = time.Minute
	// userHZ is what the kernel counts in for programs, on every architecture that Go knows.
	userHZ = 100
)

// firstBooted is what the boot's time was when this program began: where it moves, the clock was set.
var firstBooted = booted()

// booted returns when the host was booted, by today's idea of the time; zero if the kernel does not
// say. Sleep counts.
func booted() time.Time {
	var since unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &since) != nil {
		return time.Time{}
	}
	return time.Now().Round(0).Add(-time.Duration(since.Nano())) // Round: of the wall clock alone
}

// startOf returns when a process started, since the boot. Where that is hidden (ProtectProc=invisible) it is
// the boot itself.
func startOf(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:]) // before it is a name, of any bytes
	if len(fields) < 20 {
		return 0
	}
	ticks, err := strconv.ParseInt(string(fields[19]), 10, 64) // field 22 of proc(5)
	if err != nil {
		return 0
	}
	return time.Duration(ticks) * (time.Second / userHZ)
}

// age is what is known of the time of a PID file and of the process it names.
type age struct {
	written   time.Time
	forgotten bool // the file system does not outlive a boot
	booted    time.Time
	stepped   time.Duration // how far the clock was set while this program ran
	started   time.Duration // since booted
}

// late returns by how much the process is too young for the file; 0 if it need not be.
func (a age) late() time.Duration {
	if a.forgotten && a.written.Before(a.booted) {
		return 0 // the clock was set since, by an unknown amount
	}
	late := a.booted.Add(a.started).Sub(a.written)
	if late <= ageTolerance+a.stepped.Abs() {
		return 0
	}
	return late
}

// oldEnough returns an error when the process started after the file was written. The caller has a
// descriptor of the process, and by that finds out whether the number is another's meanwhile.
func (r pidRecord) oldEnough(pidFile string) error {
	now := booted()
	if now.IsZero() || firstBooted.IsZero() {
		return nil
	}
	late := age{written: r.written, forgotten: r.forgotten, booted: now, stepped: now.Sub(firstBooted), started: startOf(r.pid)}.late()
	if late == 0 {
		return nil
	}
	return failure.New(failure.UnitInactive, fmt.Sprintf("start the service; if that is its process, and the clock was set since, or the file copied: touch %s", quoteShell(pidFile)),
		"signal process %d of %q: it started %v after the file was written, and so is not the one that wrote it: the service does not run", r.pid, pidFile, late.Round(time.Second))
}
