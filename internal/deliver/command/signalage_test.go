package command

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

func TestAge(t *testing.T) {
	boot := time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return boot.Add(d) }
	for name, c := range map[string]struct {
		age  age
		late time.Duration
	}{
		"written at once":               {age{written: at(time.Hour), booted: boot, started: time.Hour}, 0},
		"written long after":            {age{written: at(9 * time.Hour), booted: boot, started: time.Hour}, 0},
		"written in the future":         {age{written: at(9999 * time.Hour), booted: boot, started: time.Hour}, 0},
		"a minute":                      {age{written: at(time.Hour), booted: boot, started: time.Hour + time.Minute}, 0},
		"more than a minute":            {age{written: at(time.Hour), booted: boot, started: time.Hour + 61*time.Second}, 61 * time.Second},
		"an hour, in memory":            {age{written: at(time.Hour), booted: boot, started: 2 * time.Hour, forgotten: true}, time.Hour},
		"set forward since":             {age{written: at(time.Hour), booted: boot, started: 2 * time.Hour, stepped: time.Hour}, 0},
		"set back since":                {age{written: at(time.Hour), booted: boot, started: 2 * time.Hour, stepped: -time.Hour}, 0},
		"set, and not by so much":       {age{written: at(time.Hour), booted: boot, started: 3 * time.Hour, stepped: time.Hour}, 2 * time.Hour},
		"of another boot":               {age{written: at(-time.Hour), booted: boot, started: time.Hour}, 2 * time.Hour},
		"of another boot, start hidden": {age{written: at(-time.Hour), booted: boot}, time.Hour},
		"start hidden":                  {age{written: at(time.Hour), booted: boot}, 0},
		"of this boot, by a lost clock": {age{written: time.Unix(9, 0), booted: boot, started: 5 * time.Second, forgotten: true}, 0},
	} {
		if got := c.age.late(); got != c.late {
			t.Errorf("%s: late by %v, want %v", name, got, c.late)
		}
	}
}

// TestStartOf: as the kernel has it, whatever the process calls itself.
func TestStartOf(t *testing.T) {
	before := booted()
	since := time.Since(before)
	cmd := exec.Command("/bin/sh", "-c", `printf 'a) S 1 (b' >/proc/self/comm; exec 3<&0; read x`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	until(t, "its name", func() bool {
		name, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/comm")
		return err == nil && string(name) == "a) S 1 (b\n"
	})
	started, now := startOf(cmd.Process.Pid), time.Since(before)
	if tick := time.Second / userHZ; started < since-tick || started > now+tick {
		t.Errorf("it started %v after the boot, want between %v and %v", started, since, now)
	}
	if started := startOf(4194303); started != 0 {
		t.Errorf("no process started %v after the boot", started)
	}
}

// TestLeftBehind: a PID file of a service that crashed names another process meanwhile.
func TestLeftBehind(t *testing.T) {
	p := start1(t, 0)
	path := pidFile(t, strconv.Itoa(p.pid), 0o644)
	before := time.Now().Add(-10 * time.Minute)
	if boot := booted(); before.Before(boot) {
		t.Skipf("the host runs since %v: the file would be older", boot)
	}
	if err := os.Chtimes(path, before, before); err != nil {
		t.Fatal(err)
	}
	is(t, Signal(path, "HUP"), failure.UnitInactive, "it started 10m0s after the file was written", "touch "+path)
	if err := os.Chtimes(path, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := Signal(path, "USR1"); err != nil {
		t.Fatal(err)
	}
	p.says(t, "USR1") // and not the HUP before
}
