package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/doctor"
)

const (
	// examLimit bounds one examination: the admin server gives an answer no longer.
	examLimit = 2 * time.Minute
	// readerLook is how long one takes at most that somebody asked for who may only
	// read: whoever may change something does not wait longer for a turn.
	readerLook = 20 * time.Second
	// lookAgain is how long what was found is the answer: nobody may have the daemon
	// download and connect as often as they like.
	lookAgain = time.Minute
)

// examiner makes one examination at a time, and remembers what it found last. Make it
// with newExaminer.
type examiner struct {
	look   func(context.Context) admin.DoctorResult
	wanted chan examWant

	mu      sync.Mutex
	last    admin.DoctorResult
	at      time.Time // when last was found; zero: nothing is remembered
	forgets int       // what was looked at before one more is not remembered
}

// examWant is somebody who waits for an examination.
type examWant struct {
	ctx    context.Context // of the examination
	writer bool
	answer chan admin.DoctorResult // with room for the one that comes
}

func newExaminer(look func(context.Context) admin.DoctorResult) *examiner {
	return &examiner{look: look, wanted: make(chan examWant)}
}

// run examines until ctx ends.
func (x *examiner) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-x.wanted:
			w.answer <- x.answer(ctx, w)
		}
	}
}

func (x *examiner) answer(ctx context.Context, w examWant) admin.DoctorResult {
	if found, ok := x.remembered(w.writer, time.Now()); ok {
		return found
	}
	limit := readerLook
	if w.writer {
		limit = examLimit
	}
	bounded, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	x.mu.Lock()
	forgets := x.forgets
	x.mu.Unlock()
	found := x.look(bounded)
	x.mu.Lock()
	defer x.mu.Unlock()
	// What a writer had no patience for is nobody else's answer. A reader gets no
	// other one, whatever its patience is: that would be as often as it likes.
	if forgets == x.forgets && (!w.writer || bounded.Err() == nil) {
		x.last, x.at = found, time.Now()
	}
	return found
}

// remembered returns what was found last, if that is the answer, and says when it
// was. It never is for whoever may change something, and has just mended it.
func (x *examiner) remembered(writer bool, now time.Time) (admin.DoctorResult, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	age := now.Sub(x.at)
	if writer || x.at.IsZero() || age >= lookAgain {
		return admin.DoctorResult{}, false
	}
	said := admin.DoctorLine{Level: string(doctor.OK), Code: doctor.Daemon,
		Message: fmt.Sprintf("what the daemon says was looked at %d s ago; it looks again once a minute, for admin.writers at once", int(age.Seconds()))}
	return admin.DoctorResult{Lines: append([]admin.DoctorLine{said}, x.last.Lines...)}, true
}

// forget has the next one who asks get what is there now.
func (x *examiner) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at = time.Time{}
	x.forgets++
}

// examine returns what is found within ctx, or was found a moment ago. What a reader
// asked for goes on when its patience is over, so that it is made once a minute at most.
func (x *examiner) examine(ctx context.Context, writer bool) (admin.DoctorResult, error) {
	w := examWant{ctx: ctx, writer: writer, answer: make(chan admin.DoctorResult, 1)}
	if !writer {
		w.ctx = context.WithoutCancel(ctx)
	}
	if found, ok := x.remembered(writer, time.Now()); ok {
		return found, nil
	}
	select {
	case x.wanted <- w:
	case <-ctx.Done():
		return admin.DoctorResult{}, &admin.Error{Code: admin.CodeFailed, Message: "another examination went on all the time", Hint: "try again"}
	}
	if writer {
		return <-w.answer, nil // in time, with what there was no time for
	}
	select {
	case found := <-w.answer:
		return found, nil
	case <-ctx.Done():
		return admin.DoctorResult{}, &admin.Error{Code: admin.CodeFailed, Message: "the examination takes longer, and goes on",
			Hint: "ask again: what it finds is the answer for a minute"}
	}
}

// examine looks at what only the daemon has: trust and identities in force, its user,
// its routes, both ends of its tunnels, and its services. Whoever may read may ask: it connects to
// nothing that is not configured, or named by a certificate that passed and by
// crl.hosts, and not as often as somebody likes.
func (d *Daemon) examine(ctx context.Context, r admin.DoctorRequest) (admin.DoctorResult, error) {
	limit := examLimit
	if asked := time.Duration(r.TimeoutMS) * time.Millisecond; r.TimeoutMS > 0 && r.TimeoutMS < limit.Milliseconds() {
		limit = asked
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	caller, known := admin.CallerOf(ctx)
	return d.exams.examine(ctx, known && d.mayWrite(caller.UID))
}

// mayWrite reports whether a user is one of admin.writers.
func (d *Daemon) mayWrite(uid int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.writers, uid)
}

// look examines now.
func (d *Daemon) look(ctx context.Context) admin.DoctorResult {
	now := time.Now()
	requests, _ := d.manager.RequestStatus(now) // what cannot be read of them is found in the state directory
	in := doctor.Inside{
		Now: now, Config: d.currentConfig(), UID: os.Geteuid(), Directory: d.store.Directory,
		Environments: d.keeper.Environments(), Slots: d.keeper.Slots(), Requests: requests, PID: os.Getpid(), Services: d.services.Status(),
	}
	for _, t := range d.liveTunnels() {
		st := d.tunnelStatus(t)
		in.Tunnels = append(in.Tunnels, doctor.Wired{Config: t.config, State: st.State, LastError: st.LastError, Listen: st.Listen, Endpoint: t.binding})
	}
	out := admin.DoctorResult{Lines: []admin.DoctorLine{}}
	for _, l := range in.Examine(ctx) {
		out.Lines = append(out.Lines, admin.DoctorLine{Level: string(l.Level), Code: l.Code, Subject: l.Subject, Message: l.Message, Hint: l.Hint, Condition: l.Condition})
	}
	return out
}
