package daemon

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

// examining is an examiner that runs until the test ends, and counts its looks. Each
// begins by telling began, if that is not nil, and takes until its context or go ends.
func examining(t *testing.T, began chan<- context.Context, end <-chan struct{}) *examiner {
	t.Helper()
	looks := 0
	x := newExaminer(func(ctx context.Context) admin.DoctorResult {
		looks++
		found := admin.DoctorResult{Lines: []admin.DoctorLine{{Message: fmt.Sprintf("look %d", looks)}}}
		if began != nil {
			began <- ctx
			select {
			case <-end:
			case <-ctx.Done():
			}
		}
		return found
	})
	go x.run(t.Context())
	return x
}

// see wants an answer with these words.
func see(t *testing.T, x *examiner, writer bool, words ...string) {
	t.Helper()
	found, err := x.examine(t.Context(), writer)
	if err != nil {
		t.Error(err)
	}
	for _, word := range words {
		if !strings.Contains(said(found), word) {
			t.Errorf("no %q in %q", word, said(found))
		}
	}
	if len(found.Lines) != len(words) {
		t.Errorf("%q", said(found))
	}
}

func (x *examiner) age(by time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at = x.at.Add(-by)
}

// TestExaminesOnceAMinute: for readers, however often they ask; for writers at once.
func TestExaminesOnceAMinute(t *testing.T) {
	t.Parallel()
	x := examining(t, nil, nil)
	see(t, x, false, "look 1")
	for range 100 {
		see(t, x, false, "looked at 0 s ago", "look 1")
	}
	x.age(5 * time.Second)
	see(t, x, false, "looked at 5 s ago", "look 1")
	see(t, x, true, "look 2")
	see(t, x, false, "looked at 0 s ago", "look 2")
	x.age(lookAgain)
	see(t, x, false, "look 3")
	x.forget() // a reload
	see(t, x, false, "look 4")
}

// TestImpatientReader: who goes away, or has no time, causes no more looks than others.
func TestImpatientReader(t *testing.T) {
	t.Parallel()
	began, end := make(chan context.Context), make(chan struct{})
	x := examining(t, began, end)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := x.examine(ctx, false); left <- err }()
	looking := <-began
	cancel()
	if err := <-left; err == nil || !strings.Contains(err.Error(), "goes on") {
		t.Error(err)
	}
	if looking.Err() != nil {
		t.Error("the examination has ended with the reader")
	}
	if _, err := x.examine(ctx, true); err == nil || !strings.Contains(err.Error(), "another examination") {
		t.Error(err)
	}
	next := make(chan admin.DoctorResult, 1)
	go func() { found, _ := x.examine(t.Context(), false); next <- found }()
	close(end)
	if s := said(<-next); !strings.Contains(s, "look 1") {
		t.Error(s)
	}
}

// TestImpatientWriter gets what there was time for, and nobody else does.
func TestImpatientWriter(t *testing.T) {
	t.Parallel()
	began := make(chan context.Context)
	x := examining(t, began, nil)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan admin.DoctorResult, 1)
	go func() { found, _ := x.examine(ctx, true); answered <- found }()
	<-began
	cancel()
	if s := said(<-answered); !strings.Contains(s, "look 1") {
		t.Error(s)
	}
	if _, ok := x.remembered(false, time.Now()); ok {
		t.Error("half an examination is remembered")
	}
}

// TestForgetsDuringLook: what was looked at before a reload is nobody's answer after it.
func TestForgetsDuringLook(t *testing.T) {
	t.Parallel()
	began, end := make(chan context.Context), make(chan struct{})
	x := examining(t, began, end)
	answered := make(chan struct{})
	go func() { _, _ = x.examine(t.Context(), false); close(answered) }()
	<-began
	x.forget()
	close(end)
	<-answered
	if _, ok := x.remembered(false, time.Now()); ok {
		t.Error("it is remembered")
	}
}
