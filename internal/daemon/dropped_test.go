package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spinecert/spinecert/internal/inbox"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/rotate"
)

// TestDropped: what is in the way of a file, and is none of its own, leaves it where
// it is; everything else is said of it at once.
func TestDropped(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "answer.pem", Err: syscall.ENOSPC}
	waits := &manage.Error{Kind: manage.Waiting, Reason: "not_yet_valid", Err: errors.New("not yet")}
	refused := &manage.Error{Kind: manage.Refused, Reason: "expired", Err: errors.New("it is over"), Advice: "ask again"}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name            string
		ctx             context.Context
		done            manage.Imported
		err             error
		accepted, later bool
		say             string
	}{
		{"in force", t.Context(), manage.Imported{Slot: "pcs", To: 3}, nil, true, false, "slot pcs serves generation 3"},
		{"waits", t.Context(), manage.Imported{Doubts: []string{"it lacks a name"}}, waits, true, false, "not yet; note: it lacks a name"},
		{"refused", t.Context(), manage.Imported{}, refused, false, false, "it is over"},
		{"a full disk", t.Context(), manage.Imported{}, fmt.Errorf("keep the answer: %w", full), false, true, "no space"},
		{"a full disk, as an error of its own", t.Context(), manage.Imported{}, &manage.Error{Kind: manage.Failed, Err: full}, false, true, "no space"},
		{"no trust yet", t.Context(), manage.Imported{}, &manage.Error{Kind: manage.Failed, Reason: "environment_not_ready", Err: errors.New("not ready")}, false, true, "not ready"},
		{"refused, and the one before could not be put back", t.Context(), manage.Imported{},
			&manage.Error{Kind: manage.Failed, Err: errors.Join(&rotate.Refusal{Reason: "names", Err: errors.New("lacks names")}, full)}, false, false, "lacks names"},
		{"something that nobody thought of", t.Context(), manage.Imported{}, errors.New("more than 1048576 bytes"), false, false, "more than"},
		{"this process ends", gone, manage.Imported{}, errors.New("anything"), false, true, "anything"},
		{"the slots are not kept any more", t.Context(), manage.Imported{}, rotate.ErrStopped, false, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var order manage.ImportOrder
			d := dropped{importing: func(_ context.Context, o manage.ImportOrder) (manage.Imported, error) {
				order = o
				return tc.done, tc.err
			}}
			v := d.take(tc.ctx, "a", []byte("x"))
			if v.Accepted != tc.accepted || v.Later != tc.later || !strings.Contains(v.Reason, tc.say) {
				t.Errorf("verdict %+v", v)
			}
			if !order.JudgedOnly || !order.CertificatesOnly || len(order.Allow) > 0 {
				t.Errorf("order %+v", order)
			}
		})
	}
}

// TestDroppedGivesUp: a file that the disk does not take is not tried for ever, and
// not given up sooner because somebody has the inbox looked at all the time.
func TestDroppedGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := error(&os.PathError{Op: "write", Path: "answer.pem", Err: syscall.EROFS})
		d := dropped{importing: func(context.Context, manage.ImportOrder) (manage.Imported, error) { return manage.Imported{}, err }}
		ctx := context.Background()
		start := time.Now()
		for range 1000 {
			if v := d.take(ctx, "a", []byte("x")); !v.Later {
				t.Fatalf("given up at once: %+v", v)
			}
		}
		times := 1
		for ; times < 100; times++ {
			time.Sleep(attemptEvery)
			d.take(ctx, "b", []byte("another")) // each file counts for itself
			if v := d.take(ctx, "a", []byte("x")); !v.Later {
				if v.Accepted || !strings.Contains(v.Reason, "tried 20 times, and given up: ") || !strings.Contains(v.Reason, "read-only") || !strings.Contains(v.Hint, "move it back into the inbox") {
					t.Errorf("verdict %+v", v)
				}
				break
			}
		}
		if times+1 != maxAttempts || time.Since(start) < 9*time.Minute {
			t.Errorf("given up after %d attempts, %v", times+1, time.Since(start))
		}
		// Moved back, it has all of them again; and what is taken at last is forgotten.
		if v := d.take(ctx, "a", []byte("x")); !v.Later {
			t.Errorf("verdict %+v", v)
		}
		err = nil
		d.take(ctx, "a", []byte("x"))
		d.take(ctx, "b", []byte("another"))
		if len(d.failed) != 0 {
			t.Errorf("%d files are remembered", len(d.failed))
		}
		err = syscall.EIO
		for i := range maxDropped + 10 {
			d.take(ctx, "a", fmt.Append(nil, i))
		}
		if len(d.failed) != maxDropped {
			t.Errorf("%d files are remembered", len(d.failed))
		}
		// What has another end is not given up: trust files come back.
		err = &manage.Error{Kind: manage.Failed, Reason: rotate.ReasonNoTrust, Err: errors.New("not ready")}
		for range 2 * maxAttempts {
			time.Sleep(attemptEvery)
			if v := d.take(ctx, "c", []byte("c")); !v.Later {
				t.Fatalf("verdict %+v", v)
			}
		}
	})
}

// TestLongReasons: who writes a certificate does not choose how much is written of
// it to the log, to the audit file and beside the file that was dropped.
func TestLongReasons(t *testing.T) {
	long := errors.New(strings.Repeat("\x01 name ", 100_000))
	d := dropped{importing: func(context.Context, manage.ImportOrder) (manage.Imported, error) {
		return manage.Imported{}, &manage.Error{Kind: manage.Refused, Err: long, Advice: long.Error()}
	}}
	const most = 2100
	if v := d.take(t.Context(), "a", nil); len(v.Reason) > most || len(v.Hint) > most {
		t.Errorf("a reason of %d bytes, a hint of %d", len(v.Reason), len(v.Hint))
	}
	daemon := &Daemon{lines: make(chan auditLine, 1)}
	daemon.keepAudit(auditLine{Reason: long.Error()})
	if n := len((<-daemon.lines).Reason); n == 0 || n > most {
		t.Errorf("an audit line with a reason of %d bytes", n)
	}
	var log bytes.Buffer
	daemon = &Daemon{lines: make(chan auditLine, 1), events: make(chan func(), 2), log: slog.New(slog.NewTextHandler(&log, nil))}
	daemon.onInbox(inbox.Event{Kind: inbox.Rejected, Name: "a", Reason: long.Error(), Hint: long.Error(), Err: long})
	(<-daemon.events)()
	daemon.onManage(manage.Event{Kind: manage.AnswerDropped, Slot: "pcs", Err: long})
	(<-daemon.events)()
	if n := log.Len(); n < most || n > 5*5*most { // five texts, and the odd ones in them quoted
		t.Errorf("%d bytes in the log", n)
	}
}
