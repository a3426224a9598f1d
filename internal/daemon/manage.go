package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/inbox"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/pki"
)

// prepareEvery is how often it is asked whether a request is due. Requests are
// made months ahead; the wall clock decides, so a host that slept catches up.
const prepareEvery = time.Hour

// viaInbox is how an answer that was dropped into the inbox came.
const viaInbox = "inbox"

// everySlot stands for all slots in Daemon.renewed.
const everySlot = ""

func newManager(d *Daemon) *manage.Manager {
	return manage.New(manage.Config{Directory: d.store.Directory, Keeper: d.keeper, Configuration: d.currentConfig, Tell: d.onManage})
}

// keepRequests makes the requests that are due and ends those that are answered,
// until ctx ends.
func (d *Daemon) keepRequests(ctx context.Context) {
	t := time.NewTicker(prepareEvery)
	defer t.Stop()
	slot := everySlot
	for {
		d.lookAfterRequests(ctx, slot)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			slot = everySlot
		case slot = <-d.renewed:
		}
	}
}

func (d *Daemon) lookAfterRequests(ctx context.Context, slot string) {
	var err error
	if slot == everySlot {
		err = errors.Join(d.manager.Restore(ctx), d.manager.Prepare(ctx, time.Now()))
	} else {
		err = d.manager.Rotated(ctx, slot)
	}
	if err != nil && ctx.Err() == nil {
		d.record1("requests_trouble", slog.LevelError, "requests could not be looked after; it is tried again", slog.String("error", err.Error()),
			slog.String("hint", pki.Hint(err)))
	}
}

// wakeRequests has the requests of a slot looked after; it does not block.
func (d *Daemon) wakeRequests(slot string) {
	select {
	case d.renewed <- slot:
	default: // full: whatever is in it is followed by a look at everything within the hour
	}
}

// onManage tells what happened to requests.
func (d *Daemon) onManage(e manage.Event) {
	d.wakeAlerts()
	level, text := slog.LevelInfo, ""
	switch e.Kind {
	case manage.RequestMade:
		text = "request for a certificate made: send it (spinecert csr show --mail ID)"
	case manage.RequestCancelled:
		text = "request cancelled; its key is gone"
	case manage.AnswerKept:
		text = "the answer to a request fits and waits to come into force"
	case manage.AnswerDropped:
		level, text = slog.LevelWarn, "an answer that waited is refused for good"
	case manage.RequestEnded:
		text = "request answered: its key is in force"
	case manage.PrepareFailed:
		level, text = slog.LevelError, "a request that is due could not be made; it is tried again"
	}
	attrs := []slog.Attr{slog.String("slot", e.Slot)}
	if e.Request != "" {
		attrs = append(attrs, slog.String("request", e.Request))
	}
	line := auditLine{Time: time.Now(), Event: string(e.Kind), Slot: e.Slot, Digest: e.Request, Actor: actor{UID: d.uid, PID: d.pid, Via: viaState}}
	if who, ok := e.Actor.(actor); ok {
		line.Actor = who
		attrs = append(attrs, slog.Int("uid", who.UID), slog.String("via", who.Via))
	}
	if e.Err != nil {
		line.Reason = manage.Clip(e.Err.Error())
		attrs = append(attrs, slog.String("error", line.Reason))
		if hint := adviceOf(e.Err); hint != "" {
			attrs = append(attrs, slog.String("hint", manage.Clip(hint)))
		}
	}
	d.record1(string(e.Kind), level, text, attrs...)
	d.keepAudit(line)
}

// newInbox makes the reader of the inbox.
func (d *Daemon) newInbox() *inbox.Inbox {
	take := dropped{importing: d.manager.Import, actor: actor{UID: d.uid, PID: d.pid, Via: viaInbox}}
	return inbox.New(inbox.Config{Directory: d.store.InboxPath(), Take: take.take, Tell: d.onInbox})
}

// onInbox tells what happened in the inbox.
func (d *Daemon) onInbox(e inbox.Event) {
	level, text := slog.LevelWarn, ""
	switch e.Kind {
	case inbox.Accepted:
		level, text = slog.LevelInfo, "file in the inbox was taken"
	case inbox.Rejected:
		text = "file in the inbox was refused"
	case inbox.Waiting:
		text = "file in the inbox cannot be judged yet; it is tried again"
	case inbox.Ignored:
		text = "directory in the inbox is not looked at"
	case inbox.Stuck:
		text = "files of the inbox cannot be moved or removed"
	case inbox.Crowded:
		text = "many files in the inbox"
	case inbox.Unusable:
		level, text = slog.LevelError, "inbox cannot be used"
	case inbox.Blind:
		text = "inbox is not watched; the poll goes on"
	}
	attrs := []slog.Attr{slog.String("reason", manage.Clip(e.Reason))}
	if e.Name != "" {
		attrs = append(attrs, slog.String("file", manage.Clip(e.Name)))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", manage.Clip(e.Err.Error())))
	}
	if e.Hint != "" {
		attrs = append(attrs, slog.String("hint", manage.Clip(e.Hint)))
	}
	d.record1("inbox_"+string(e.Kind), level, text, attrs...)
}

// newRequest, cancelRequest, showRequest, importAnswer and rollback are what the
// admin API asks for.
func (d *Daemon) newRequest(ctx context.Context, c admin.Caller, r admin.CSRRequest) (admin.CSRResult, error) {
	return d.manager.AnswerCSR(ctx, r, fmt.Sprintf("uid %d", c.UID), actorOf(c))
}

func (d *Daemon) cancelRequest(ctx context.Context, c admin.Caller, r admin.CancelRequest) (admin.CancelResult, error) {
	return d.manager.AnswerCancel(ctx, r, actorOf(c))
}

func (d *Daemon) showRequest(_ context.Context, id string) (admin.CSRResult, error) {
	return d.manager.AnswerRequest(id, time.Now())
}

func (d *Daemon) importAnswer(ctx context.Context, c admin.Caller, r admin.ImportRequest) (admin.ImportResult, error) {
	// Whoever asked may go away: what fits is put in force all the same.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stageTimeout)
	defer cancel()
	out, err := d.manager.AnswerImport(bounded, r, actorOf(c))
	if err != nil && !r.DryRun {
		d.keepAudit(auditLine{Time: time.Now(), Event: "import_refused", Slot: out.Slot, Reason: err.Error(), Actor: actorOf(c)})
	}
	return out, err
}

func (d *Daemon) rollback(ctx context.Context, c admin.Caller, r admin.RollbackRequest) (admin.RotateResult, error) {
	return d.ordered(c, r.Slot, "rollback", "", func() error {
		return d.manager.Rollback(ctx, r.Slot, r.To, actorOf(c))
	})
}
