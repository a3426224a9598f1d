package config

import (
	"fmt"
	"slices"
	"testing"
)

// TestByName: what is looked up by name is the same whether the Config was loaded,
// written by hand, or copied and given other slots.
func TestByName(t *testing.T) {
	var slots []Slot
	for i := range 5 {
		slots = append(slots, Slot{Name: fmt.Sprintf("slot-%d", i), FQDN: fmt.Sprintf("host-%d", i)})
	}
	written := &Config{Slots: slots, Environments: []Environment{{Name: "live", Profile: "nhs-g2"}}}
	loaded := *written
	loaded.makeIndex()
	fewer, other, shorter, renamed := loaded, loaded, loaded, loaded
	fewer.Slots = fewer.Slots[:3]
	other.Slots = slices.Clone(slots)
	slices.Reverse(other.Slots)
	shorter.Slots = shorter.Slots[1:]
	renamed.Slots = slices.Clone(slots)
	renamed.Slots[0].Name = "new"
	for _, tc := range []struct {
		name string
		c    *Config
		want []string // slots
	}{
		{"written", written, []string{"slot-0", "slot-1", "slot-2", "slot-3", "slot-4"}},
		{"loaded", &loaded, []string{"slot-0", "slot-1", "slot-2", "slot-3", "slot-4"}},
		{"fewer", &fewer, []string{"slot-0", "slot-1", "slot-2"}},
		{"other", &other, []string{"slot-0", "slot-1", "slot-2", "slot-3", "slot-4"}},
		{"without the first", &shorter, []string{"slot-1", "slot-2", "slot-3", "slot-4"}},
	} {
		for _, s := range slots {
			got, ok := tc.c.Slot(s.Name)
			if want := slices.Contains(tc.want, s.Name); ok != want || ok && got.FQDN != s.FQDN || !ok && got.Name != "" {
				t.Errorf("%s: %s is %+v, %t", tc.name, s.Name, got, ok)
			}
		}
		if got, ok := tc.c.Slot("nowhere"); ok || got.Name != "" {
			t.Errorf("%s: there is %+v", tc.name, got)
		}
		if e, ok := tc.c.Environment("live"); !ok || e.Profile != "nhs-g2" {
			t.Errorf("%s: environment %+v, %t", tc.name, e, ok)
		}
		if _, ok := tc.c.Environment("dead"); ok {
			t.Errorf("%s: there is an environment dead", tc.name)
		}
	}
	if s, ok := renamed.Slot("new"); !ok || s.FQDN != "host-0" {
		t.Errorf("other slots, as many: new is %+v, %t", s, ok)
	}
	if _, ok := (&Config{}).Slot("slot-0"); ok {
		t.Error("an empty Config has a slot")
	}
}

// TestLoadedIsIndexed: a Config that was read does not search.
func TestLoadedIsIndexed(t *testing.T) {
	c, err := Parse([]byte("environments: {live: {trust: [live.pem]}}\n"+
		"slots: {a: {fqdn: a.thirdparty.nhs.uk, managed: {}}, b: {fqdn: b.thirdparty.nhs.uk, managed: {}}}\n"), "/etc/x.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.slots.at) != 2 || len(c.environments.at) != 1 {
		t.Fatalf("indexed: %v, %v", c.slots.at, c.environments.at)
	}
	if s, ok := c.Slot("b"); !ok || s.FQDN != "b.thirdparty.nhs.uk" {
		t.Errorf("b is %+v, %t", s, ok)
	}
}
