// Package clock judges whether the wall clock can be believed. It decides nothing:
// whoever asks leaves alone what only a date would end while the clock is suspect.
//
// The wall clock is compared with CLOCK_BOOTTIME, which nobody can set and which
// runs on while the host sleeps. A step of one against the other is suspect when it
// is larger than a step may be, and so is, at the start, a clock that is behind what
// the host wrote down before. It ends when the clock agrees again, when the kernel
// says that the clock is synchronised (which setting it by hand takes back), or on
// the operator's word.
//
//	w := clock.NewWatch(newest) // the newest time that was written down
//	r, err := clock.Read()
//	j := w.Look(r, 5*time.Minute)
//	if j.Suspect { ... j.Why ... }
//
// A Watch is for one goroutine at a time. Only Read touches the clocks.
package clock
