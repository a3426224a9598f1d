package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/deliver/failure"
)

func TestServiceCondition(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	old := deliver.Version{Digest: "old", Generation: 2, Leaf: "leaf 2", Ends: now.AddDate(0, 2, 0)}
	soon := deliver.Version{Digest: "old", Generation: 2, Leaf: "leaf 2", Ends: now.Add(expiringCritical)}
	other := deliver.Version{Leaf: "leaf x"}
	refused := deliver.Status{
		Config: config.Service{Name: "web", Probes: []config.Probe{{Address: "127.0.0.1:443"}}}, State: deliver.Held, Since: now.Add(-time.Minute),
		Desired: deliver.Version{Digest: "new", Generation: 3, Leaf: "leaf 3"}, Delivered: old, Proved: old, Served: old,
		Step: deliver.StepProve, Reason: failure.WrongCertificate, Error: "it serves another", Hint: "read its log",
	}
	const again = "read its log; once it is mended: spinecert deliver web --now"
	for name, tt := range map[string]struct {
		change        func(*deliver.Status)
		severity      condition.Severity
		message, hint string
	}{
		"in sync":    {func(s *deliver.Status) { s.State = deliver.InSync }, "", "", ""},
		"delivering": {func(s *deliver.Status) { s.State, s.Step, s.Reason = deliver.Delivering, "", "" }, "", "", ""},
		"held": {func(*deliver.Status) {}, "warning",
			"generation 3 is held; it should serve generation 3 and serves generation 2: prove failed (wrong_certificate): it serves another", again},
		"failed, the old one serves": {func(s *deliver.Status) { s.State, s.Hint = deliver.Failed, "" }, "warning",
			"it should serve generation 3 and serves generation 2: prove failed (wrong_certificate): it serves another", "once it is mended: spinecert deliver web --now"},
		"the hint says it already": {func(s *deliver.Status) { s.Hint = "spinecert deliver web --now, then" }, "warning",
			"generation 3 is held; it should serve generation 3 and serves generation 2: prove failed (wrong_certificate): it serves another", "spinecert deliver web --now, then"},
		"what serves ends soon": {func(s *deliver.Status) { s.Proved, s.Served = soon, soon }, "critical",
			"generation 3 is held; it should serve generation 3 and serves generation 2: prove failed (wrong_certificate): it serves another", again},
		"nothing proved": {func(s *deliver.Status) {
			s.State, s.Proved, s.Served = deliver.Failed, deliver.Version{}, deliver.Version{}
		}, "critical",
			"it should serve generation 3 and was not seen to serve anything: prove failed (wrong_certificate): it serves another", again},
		"serves another": {func(s *deliver.Status) { s.State, s.Served = deliver.Failed, other }, "critical",
			"it should serve generation 3 and serves another certificate: prove failed (wrong_certificate): it serves another", again},
		"down": {func(s *deliver.Status) { s.State, s.Reason = deliver.Failed, failure.Unreachable }, "critical",
			"it should serve generation 3 and does not answer: prove failed (unreachable): it serves another", again},
		"stuck": {func(s *deliver.Status) { s.State, s.Step = deliver.Failed, deliver.StepUndo }, "critical",
			"it should serve generation 3 and serves generation 2: roll back failed (wrong_certificate): it serves another", again},
		"what was not proved is kept": {func(s *deliver.Status) { s.State, s.KeptBad, s.Served = deliver.Failed, true, s.Desired }, "critical",
			"it should serve generation 3 and serves it, but not as it should: prove failed (wrong_certificate): it serves another", again},
		"lists": {func(s *deliver.Status) { s.State, s.Desired.Generation = deliver.Failed, 2 }, "warning",
			"it should serve generation 2 and serves it with other files than its slot has now: prove failed (wrong_certificate): it serves another", again},
		"no probe": {func(s *deliver.Status) {
			s.Config.Probes, s.Served, s.Step = nil, deliver.Version{}, deliver.StepReload
		}, "warning",
			"generation 3 is held; it should serve generation 3 and serves generation 2: reload failed (wrong_certificate): it serves another", again},
		"waits for its window": {func(s *deliver.Status) {
			s.State, s.Since, s.Waits, s.Window = deliver.Delivering, now.Add(-20*time.Hour), "waits for its window, until 2026-11-23 22:00 GMT", true
		}, "", "", ""},
		"waits for one that waits for its window": {func(s *deliver.Status) {
			s.State, s.Since, s.Waits, s.Window = deliver.Delivering, now.Add(-20*time.Hour), "waits for db, which is delivering", true
		}, "", "", ""},
		"waits for another": {func(s *deliver.Status) {
			s.State, s.Since, s.Waits, s.Hint = deliver.Delivering, now.Add(-time.Hour), "waits for db, which is held", ""
		}, "warning", "its delivery waits for db, which is held; it should serve generation 3 and serves generation 2", "spinecert services says how all of them stand"},
		"does not end": {func(s *deliver.Status) {
			s.State, s.Since, s.Proved, s.Served, s.Hint = deliver.Delivering, now.Add(-2*time.Hour), deliver.Version{}, deliver.Version{}, ""
		}, "critical", "its delivery goes on, and does not end; it should serve generation 3 and was not seen to serve anything", "spinecert services says how all of them stand"},
		"no material": {func(s *deliver.Status) {
			s.State, s.Since, s.Waits, s.Desired = deliver.Delivering, now.Add(-2*time.Hour), "slot pcs has no certificate yet", deliver.Version{}
		}, "warning", "its delivery waits: slot pcs has no certificate yet; its slot has nothing to deliver, and it serves generation 2", "read its log"},
	} {
		t.Run(name, func(t *testing.T) {
			st, got := refused, condition.Condition{}
			tt.change(&st)
			serviceCondition(&st, now, func(c condition.Condition, _ string) {
				got = condition.Condition{Code: c.Code, Subject: c.Subject, Severity: c.Severity, Since: c.Since, Message: c.Message, Hint: c.Hint}
			})
			want := condition.Condition{}
			if tt.severity != "" {
				want = condition.Condition{Code: "service_failed", Subject: "web", Severity: tt.severity, Since: st.Since, Message: tt.message, Hint: tt.hint}
			}
			if !cmp.Equal(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestDeliveryError: what was judged is told apart from what could not be done.
func TestDeliveryError(t *testing.T) {
	t.Parallel()
	of := func(reason string) error { return fmt.Errorf("deliver: %w", failure.New(reason, "a hint", "a cause")) }
	for _, tt := range []struct {
		err          error
		code, reason string
	}{
		{nil, "", ""},
		{of(failure.WrongCertificate), admin.CodeRefused, failure.WrongCertificate},
		{of(failure.ValidateFailed), admin.CodeRefused, failure.ValidateFailed},
		{of(failure.WrongChain), admin.CodeRefused, failure.WrongChain},
		{of(failure.RefusedUs), admin.CodeRefused, failure.RefusedUs},
		{of(failure.HandshakeFailed), admin.CodeRefused, failure.HandshakeFailed},
		{of(failure.Unreachable), admin.CodeRefused, failure.Unreachable},
		{of(failure.ProbeFailed), admin.CodeRefused, failure.ProbeFailed},
		{of(failure.ReloadFailed), admin.CodeRefused, failure.ReloadFailed},
		{of(failure.UnitInactive), admin.CodeRefused, failure.UnitInactive},
		{of(failure.Drift), admin.CodeRefused, failure.Drift},
		{of(failure.NoMaterial), admin.CodeRefused, failure.NoMaterial},
		{of(failure.Waiting), admin.CodeRefused, failure.Waiting},
		{of(failure.Timeout), admin.CodeFailed, failure.Timeout},
		{of(failure.UnitMissing), admin.CodeFailed, failure.UnitMissing},
		{of(failure.CommandUnusable), admin.CodeFailed, failure.CommandUnusable},
		{of(failure.UnsafeDirectory), admin.CodeFailed, failure.UnsafeDirectory},
		{of(failure.DirectoryMissing), admin.CodeFailed, failure.DirectoryMissing},
		{of(failure.Planted), admin.CodeFailed, failure.Planted},
		{of(failure.DiskFull), admin.CodeFailed, failure.DiskFull},
		{of(failure.NotWritable), admin.CodeFailed, failure.NotWritable},
		{of(failure.StateUnwritable), admin.CodeFailed, failure.StateUnwritable},
		{of(failure.NotPermitted), admin.CodeFailed, failure.NotPermitted},
		{of(failure.BusAway), admin.CodeFailed, failure.BusAway},
		{of(failure.SocketAway), admin.CodeFailed, failure.SocketAway},
		{of(failure.Interrupted), admin.CodeFailed, failure.Interrupted},
		{of("a new one"), admin.CodeFailed, "a new one"},
		{deliver.ErrUnknown, admin.CodeUnknown, ""},
		{context.DeadlineExceeded, admin.CodeFailed, "timeout"},
		{errors.New("odd"), admin.CodeFailed, ""},
	} {
		var got admin.Error
		var e *admin.Error
		if errors.As(deliveryError("web", tt.err), &e) {
			got = *e
		}
		if got.Code != tt.code || got.Reason != tt.reason || tt.err != nil && got.Message == "" {
			t.Errorf("%v: %+v, want %s %s", tt.err, got, tt.code, tt.reason)
		}
		if errors.As(tt.err, new(*failure.Error)) && (got.Hint != "a hint" || got.Message != "a cause") {
			t.Errorf("%v: %+v", tt.err, got)
		}
	}
}

// TestSayHeld: that something is not tried again by itself is said whatever it failed over,
// and of nothing else.
func TestSayHeld(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		state deliver.State
		err   error
		held  bool
	}{
		{deliver.Held, failure.New(failure.WrongCertificate, "a hint", "a cause"), true},
		{deliver.Held, failure.New(failure.Timeout, "a hint", "a cause"), true},
		{deliver.Held, context.DeadlineExceeded, false}, // of who waits
		{deliver.Failed, failure.New(failure.WrongCertificate, "a hint", "a cause"), false},
	} {
		st := &deliver.Status{State: tt.state}
		var e *admin.Error
		if !errors.As(deliveryAnswer("web", st, tt.err), &e) || strings.HasPrefix(e.Message, "service web is held") != tt.held || tt.held && !strings.HasSuffix(e.Hint, "spinecert deliver web --now") {
			t.Errorf("%s, %v: %+v", tt.state, tt.err, e)
		}
	}
	if err := deliveryAnswer("web", &deliver.Status{State: deliver.Held}, nil); err != nil {
		t.Error(err)
	}
}
