package doctor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/state"
)

// KernelClock is what the kernel says of the clock.
type KernelClock struct {
	Synchronised bool
	Estimate     time.Duration // of its error
}

// AskKernel asks the kernel whether something keeps the clock right (adjtimex(2)).
// It changes nothing.
func AskKernel() (KernelClock, error) {
	var t unix.Timex // Modes 0 only reads
	if _, err := unix.Adjtimex(&t); err != nil {
		return KernelClock{}, os.NewSyscallError("adjtimex", err)
	}
	return KernelClock{Synchronised: t.Status&unix.STA_UNSYNC == 0, Estimate: time.Duration(t.Maxerror) * time.Microsecond}, nil
}

// The years that a clock may show.
const (
	earliestYear = 2026 // of the first version of this program
	latestYear   = 2099
)

const clockHint = "timedatectl shows it; have chrony or systemd-timesyncd keep it, and spinecert reload when it is right"

// clockPlausible: a host without a battery starts in 1970.
func clockPlausible(_ context.Context, o Outside, r *report) {
	if y := o.Now.UTC().Year(); y < earliestYear || y > latestYear {
		r.fail("clock", clockHint, "the clock says %s, which cannot be", stamp(o.Now))
		return
	}
	r.ok("clock", "the clock says %s", stamp(o.Now))
}

// clockSynchronised: something keeps the clock right.
func clockSynchronised(_ context.Context, o Outside, r *report) {
	k, err := o.Kernel()
	switch {
	case err != nil:
		r.warn("clock", "timedatectl says whether it is", "the kernel does not say whether the clock is synchronised: %v", err)
	case !k.Synchronised:
		r.warn("clock", clockHint, "the kernel says that nothing synchronises the clock")
	default:
		r.ok("clock", "the kernel says that the clock is synchronised, to %s at worst", k.Estimate.Round(time.Millisecond))
	}
}

// clockAndAudit: time does not run backwards. What was written last was written
// before now.
func clockAndAudit(_ context.Context, in Inside, r *report) {
	at, err := newestAudit(filepath.Join(in.Config.State.Directory, state.AuditName))
	switch {
	case err != nil:
		r.warn("clock", "run as root, or as the user of the daemon", "the audit file, that the clock is compared with, cannot be read: %v", err)
	case at.IsZero(): // there is none yet
	case at.Sub(in.Now) > max(in.Config.ClockMaxStep, time.Second):
		r.fail("clock", clockHint, "the clock is %s behind the newest entry of the audit file, of %s", days(at.Sub(in.Now)), stamp(at))
	default:
		r.ok("clock", "the newest entry of the audit file is of %s, not after now", stamp(at))
	}
}

// auditTail is how much of the end of the audit file is read.
const auditTail = 64 << 10

// newestAudit returns the time of the last line of an audit file; zero where there
// is none.
func newestAudit(path string) (time.Time, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if os.IsNotExist(err) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return time.Time{}, err
	} else if over := info.Size() - auditTail; over > 0 {
		if _, err := f.Seek(over, io.SeekStart); err != nil {
			return time.Time{}, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, auditTail))
	if err != nil {
		return time.Time{}, err
	}
	var newest time.Time
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, auditTail+1)
	for s.Scan() { // the first line may be half a one
		var l state.AuditLine
		if json.Unmarshal(s.Bytes(), &l) == nil && !l.Time.IsZero() {
			newest = l.Time
		}
	}
	return newest, s.Err()
}
