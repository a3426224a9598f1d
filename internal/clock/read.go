package clock

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Reading is one look at the clocks of the host.
type Reading struct {
	Wall         time.Time
	Boot         time.Duration // CLOCK_BOOTTIME: since the host was started, sleep included
	Synchronised bool          // the kernel says that the wall clock is (adjtimex, STA_UNSYNC)
}

// Read returns what the clocks say now. Where the kernel does not let us ask whether
// the clock is synchronised, it is not.
func Read() (Reading, error) {
	wall := time.Now().Round(0) // what everything else judges dates by, without the monotonic clock
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return Reading{}, os.NewSyscallError("clock_gettime", err)
	}
	// Asked last: a step takes STA_UNSYNC with it, so that who is synchronised here
	// was made so after every step that wall shows.
	var status unix.Timex
	_, err := unix.Adjtimex(&status)
	return Reading{
		Wall: wall, Boot: time.Duration(boot.Nano()),
		Synchronised: err == nil && status.Status&unix.STA_UNSYNC == 0,
	}, nil
}
