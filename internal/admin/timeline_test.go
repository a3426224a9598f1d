package admin

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestStatusWithTimeline: the timeline comes to those who ask for it, from a daemon
// that has one.
func TestStatusWithTimeline(t *testing.T) {
	when := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	timeline := []Generation{{Number: 3, State: GenerationPresent, Origin: "import", From: Time{when}, NotAfter: Time{when.AddDate(3, 0, 0)}}}
	plain := func(context.Context) Status { return Status{Version: "v1", Slots: []Slot{{Name: "pcs"}}} }
	dated := func(context.Context) Status {
		return Status{Version: "v1", Slots: []Slot{{Name: "pcs", Timeline: timeline}}}
	}
	for _, tt := range []struct {
		what    string
		backend Backend
		want    []Generation
	}{{"a daemon that has one", Backend{Status: plain, Timeline: dated}, timeline}, {"one that has none", Backend{Status: plain}, nil}} {
		c := serve(t, tt.backend)
		if s, err := c.Status(t.Context()); err != nil || len(s.Slots) != 1 || s.Slots[0].Timeline != nil {
			t.Errorf("%s, not asked: %+v, %v", tt.what, s, err)
		}
		s, err := c.StatusWithTimeline(t.Context())
		if err != nil || s.Version != "v1" || len(s.Slots) != 1 {
			t.Fatalf("%s: %+v, %v", tt.what, s, err)
		}
		if diff := cmp.Diff(tt.want, s.Slots[0].Timeline); diff != "" {
			t.Errorf("%s: %s", tt.what, diff)
		}
	}
}

// TestGenerationJSON: the keys are relied on; what is not known is null, and a slot
// without a timeline has no such key.
func TestGenerationJSON(t *testing.T) {
	data, err := json.Marshal(Generation{State: GenerationComing})
	want := `{"number":0,"state":"coming","origin":"","not_before":null,"not_after":null,"from":null,"to":null,"asked":null,"request":"","serial":"","sha256":"","note":""}`
	if string(data) != want || err != nil {
		t.Errorf("%s, %v", data, err)
	}
	data, err = json.Marshal(Slot{})
	if err != nil || json.Valid(data) && containsKey(t, data, "timeline") {
		t.Errorf("%s, %v", data, err)
	}
}

func containsKey(t *testing.T, data []byte, key string) bool {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	_, ok := all[key]
	return ok
}
