package condition_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/condition"
)

// TestTable: each row says all that others rely on.
func TestTable(t *testing.T) {
	seen := map[condition.Code]bool{}
	for _, d := range condition.Definitions() {
		if seen[d.Code] {
			t.Errorf("%s is in the table twice", d.Code)
		}
		seen[d.Code] = true
		for name, text := range map[string]string{"title": d.Title, "meaning": d.Meaning, "impact": d.Impact, "action": d.Action} {
			if text == "" || strings.HasSuffix(text, ".") || strings.ContainsAny(text, "|\n") {
				t.Errorf("%s: its %s is %q", d.Code, name, text)
			}
		}
		if len(d.Kinds) == 0 {
			t.Errorf("%s has no subject", d.Code)
		}
		if d.Continues != "" && d.Continues.Definition().Title == "" {
			t.Errorf("%s continues %s, which is none", d.Code, d.Continues)
		}
		if got := d.Code.Definition(); !cmp.Equal(got, d) {
			t.Errorf("the row of %s is %+v", d.Code, got)
		}
	}
}

// TestContract: the codes are those of the contract.
func TestContract(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "CONTRACT.md"))
	if os.IsNotExist(err) {
		t.Skip("the contract is not beside the repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "## 8. Conditions")
	list := regexp.MustCompile("`([^`]+)`").FindStringSubmatch(rest)
	if list == nil {
		t.Fatal("section 8 of the contract has no list")
	}
	want := strings.Fields(list[1])
	var got []string
	for _, d := range condition.Definitions() {
		got = append(got, string(d.Code))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("contract (-) and table (+):\n%s", diff)
	}
}

func TestID(t *testing.T) {
	for _, tt := range []struct {
		code            condition.Code
		kind            condition.Kind
		subject, detail string
		want            string
	}{
		{condition.Expiring, condition.Slot, "pcs", "", "expiring/slot/pcs"},
		{condition.Expired, condition.Slot, "pcs", "", "expiring/slot/pcs"}, // the same trouble, further on
		{condition.CAExpiring, condition.Environment, "live", "0a1b2c3d", "ca_expiring/environment/live/0a1b2c3d"},
		{condition.RotationRefused, condition.Environment, "pcs", "", "rotation_refused/environment/pcs"},
	} {
		if got := condition.ID(tt.code, tt.kind, tt.subject, tt.detail); got != tt.want {
			t.Errorf("ID of %s: %q, want %q", tt.code, got, tt.want)
		}
	}
}

func TestComplete(t *testing.T) {
	c := condition.Condition{Code: condition.ServiceFailed, Kind: condition.Service, Subject: "nginx"}
	c.Complete("")
	if c.ID != "service_failed/service/nginx" || c.Command != "spinecert deliver nginx --now" || c.Runbook != "docs/runbook/service_failed.md" {
		t.Errorf("%+v", c)
	}
	c = condition.Condition{Code: condition.ServiceFailed, Kind: condition.Service, Subject: "nginx", Command: "spinecert services"}
	if c.Complete(""); c.Command != "spinecert services" {
		t.Errorf("the command of the case was lost: %q", c.Command)
	}
}

func TestLevel(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	at := func(days int) time.Time { return now.AddDate(0, 0, days) }
	for name, tt := range map[string]struct {
		c    condition.Condition
		want int
	}{
		"no steps":              {condition.Condition{}, 1},
		"before the first":      {condition.Condition{Steps: []time.Time{at(1), at(2)}}, 0},
		"at the first":          {condition.Condition{Steps: []time.Time{at(0), at(2)}}, 1},
		"after the second":      {condition.Condition{Steps: []time.Time{at(-3), at(-2), at(1)}}, 2},
		"critical before first": {condition.Condition{Severity: condition.Critical, Steps: []time.Time{at(1)}}, 1},
		"critical after two":    {condition.Condition{Severity: condition.Critical, Steps: []time.Time{at(-2), at(-1)}}, 2},
	} {
		if got := tt.c.Level(now); got != tt.want {
			t.Errorf("%s: level %d, want %d", name, got, tt.want)
		}
	}
}

// TestJSON: what has no value is null or empty, and never a date of the year 1.
func TestJSON(t *testing.T) {
	data, err := json.Marshal(condition.Condition{Code: condition.G1Chain, Steps: []time.Time{time.Now()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"ends":null`, `"affects":{"ods":[],"asids":[]}`, `"hint":""`, `"id":""`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is not in %s", want, data)
		}
	}
	if strings.Contains(strings.ToLower(string(data)), "steps") {
		t.Errorf("steps are in %s", data)
	}
	for _, odd := range []time.Time{time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -10*3600)), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if text, err := json.Marshal(condition.Moment{Time: odd}); err != nil || string(text) != "null" {
			t.Errorf("%s: %s, %v", odd, text, err)
		}
	}
	var back condition.Condition
	if err := json.Unmarshal(data, &back); err != nil || !back.Ends.IsZero() {
		t.Errorf("%v, %v", back.Ends, err)
	}
}

func TestSeverity(t *testing.T) {
	if !condition.Critical.Worse(condition.Warning) || condition.Warning.Worse(condition.Warning) || !condition.Warning.Worse("") {
		t.Error("severities are not in order")
	}
}
