package doctor

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// healthy is a host with a daemon where all is well.
func healthy() Outside {
	return Outside{
		Now: noon, Version: "v1", File: "/etc/s.yaml", Config: &config.Config{File: "/etc/s.yaml"}, Modified: noon.Add(-time.Hour), Socket: "/run/s.sock",
		Status: &admin.Status{Version: "v1", PID: 7, Ready: true, Config: admin.ConfigStatus{File: "/etc/s.yaml", Loaded: noon.Add(-time.Minute)}},
		Kernel: func() (KernelClock, error) { return KernelClock{true, 3 * time.Millisecond}, nil },
		Unit:   func(context.Context) (*UnitState, error) { return nil, nil },
	}
}

func TestOutside(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(o *Outside)
		want  string // "" is that nothing is found
	}{
		{"well", func(*Outside) {}, ""},
		{"wrong", func(o *Outside) {
			o.Config, o.ConfigErr = nil, config.Problems{{File: "/etc/s.yaml", Line: 3, Column: 5, Key: "slots.pcs", Message: "first"}, {File: "/etc/s.yaml", Line: 9, Column: 1, Message: "second"}}
		}, `fail CONFIG /etc/s.yaml:9:1: second$`},
		{"unreadable", func(o *Outside) { o.Config, o.ConfigErr = nil, errors.New("read it: no") }, `fail CONFIG read it: no`},
		{"not in force", func(o *Outside) { o.Status.Config.Error = "line 3: no" }, `fail CONFIG the daemon refused the configuration at its last reload, and runs the one of 2026-11-22T11:59:00Z: line 3: no`},
		{"changed since", func(o *Outside) { o.Modified = noon }, `warn CONFIG the configuration was changed at 2026-11-22T12:00:00Z, after`},
		{"another file", func(o *Outside) { o.Status.Config.File = "/opt/s.yaml" }, `warn CONFIG the daemon runs another configuration, "/opt/s.yaml"`},
		{"no daemon", func(o *Outside) { o.Status, o.StatusErr = nil, errors.New("refused") }, `fail DAEMON no daemon answers: refused; its listeners`},
		{"a daemon that is silent", func(o *Outside) { o.Status, o.StatusErr, o.Holder = nil, errors.New("timeout"), 4711 }, `fail DAEMON no daemon answers: timeout; process 4711 says that it holds`},
		{"not ready", func(o *Outside) {
			o.Status.Ready = false
			o.Status.Slots, o.Status.Tunnels = []admin.Slot{{Name: "pcs"}, {Name: "other"}}, []admin.Tunnel{{Slot: "pcs"}}
		}, `fail DAEMON the daemon is not ready; .*: pcs$`},
		{"it starts", func(o *Outside) { o.Status.Ready = false }, `fail DAEMON the daemon is not ready; .* it still starts`},
		{"another version", func(o *Outside) { o.Status.Version = "v0" }, `warn DAEMON the daemon is version v0, spinecert is v1`},
		{"1970", func(o *Outside) { o.Now = time.Unix(0, 0) }, `fail CLOCK the clock says 1970-01-01T00:00:00Z, which cannot be`},
		{"3000", func(o *Outside) { o.Now = noon.AddDate(974, 0, 0) }, `fail CLOCK the clock says 3000`},
		{"nobody keeps the clock", func(o *Outside) { o.Kernel = func() (KernelClock, error) { return KernelClock{}, nil } }, `warn CLOCK the kernel says that nothing`},
		{"the kernel is silent", func(o *Outside) { o.Kernel = func() (KernelClock, error) { return KernelClock{}, os.ErrPermission } }, `warn CLOCK the kernel does not say whether`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := healthy()
			tc.spoil(&o)
			lines := o.Examine(t.Context())
			if tc.want != "" && len(matching(lines, tc.want)) != 1 {
				t.Errorf("no line %q in:\n%s", tc.want, text(lines))
			}
			for _, l := range lines {
				if tc.name == "another version" && l.Level == Warn && !strings.Contains(l.Hint, "spinecert upgrade") {
					t.Errorf("hint %q", l.Hint)
				}
				if l.Level != OK && (l.Hint == "" || tc.want == "") || l.Subject == "" {
					t.Errorf("%+v", l)
				}
			}
		})
	}
}

// TestKernel: every Linux answers.
func TestKernel(t *testing.T) {
	k, err := AskKernel()
	if err != nil {
		t.Skipf("adjtimex is not permitted here: %v", err)
	}
	if k.Estimate < 0 {
		t.Errorf("%+v", k)
	}
}

// TestManual: docs/doctor.md has a section for each code, and no others.
func TestManual(t *testing.T) {
	data, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(string(data), -1) {
		have = append(have, m[1])
	}
	if !slices.Equal(have, Codes()) {
		t.Errorf("the table has %q, the program %q", have, Codes())
	}
	for _, code := range Codes() {
		if !strings.Contains(string(data), "\n## "+code+"\n") {
			t.Errorf("there is no section %s", code)
		}
	}
}

func TestSort(t *testing.T) {
	lines := []Line{{Code: "NEWER"}, {Code: Tunnel, Subject: "b"}, {Code: Config}, {Code: Tunnel, Subject: "a"}, {Level: Fail, Code: Slot}}
	Sort(lines)
	var got []string
	for _, l := range lines {
		got = append(got, l.Code+l.Subject)
	}
	if want := []string{Config, Slot, Tunnel + "b", Tunnel + "a", "NEWER"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if n := Failed(lines); n != 1 {
		t.Errorf("%d", n)
	}
}

// TestOneLine: nothing that others wrote makes another line, or a long one.
func TestOneLine(t *testing.T) {
	r := &report{code: Slot}
	r.fail("s", "", "a\nfail TRUST b%s", strings.Repeat("é", longest))
	l := r.lines[0]
	if strings.Contains(l.Message, "\n") || len(l.Message) > longest+3 || !strings.HasPrefix(l.Message, "a; fail TRUST b") || l.Hint == "" {
		t.Errorf("%+v", l)
	}
}
