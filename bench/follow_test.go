package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFollow(t *testing.T) {
	const proved = "time=x level=INFO event=service_delivered service=a\n"
	file := filepath.Join(t.TempDir(), "output")
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add(proved + proved)
	w, err := follow(&instance{output: file})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := w.skip(); err != nil {
		t.Fatal(err)
	}
	add("event=rotated\n" + proved + proved[:30])
	if _, err := w.await(t.Context(), 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := w.await(t.Context(), 1, 10*time.Millisecond); err == nil {
		t.Error("half a line was counted")
	}
	add(proved[30:])
	if _, err := w.await(t.Context(), 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	add("level=ERROR event=service_failed service=a\n" + proved)
	if _, err := w.await(t.Context(), 1, time.Minute); err == nil || !strings.Contains(err.Error(), "service_failed") {
		t.Errorf("a failure was not told: %v", err)
	}
}

func TestOver(t *testing.T) {
	if got := over([]float64{5, 7, 9}, []float64{1, 2}); !slices.Equal(got, []float64{4, 5}) {
		t.Errorf("over = %v", got)
	}
}
