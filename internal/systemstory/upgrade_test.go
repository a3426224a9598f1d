package systemstory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestUpgrade: the main process changes, and nothing else does.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	h := installed(t)
	h.configure("drain: 5s", "drain: 50s")
	h.Run("systemctl", "start", unit)
	h.serves(h.own)
	open, old, states := h.open(), h.main(), h.watch()
	invocation := h.show("InvocationID")

	h.ship(later)
	u := h.upgrade()
	if u.From != dev || u.To != later || u.Connections != 1 || !strings.HasPrefix(u.Summary, "1 of 1 slots ready") {
		t.Errorf("upgrade says %+v", u)
	}
	h.steady()
	h.works(open)
	h.serves(h.own)
	if got := states(); len(got) > 0 {
		t.Errorf("in the upgrade the unit was %q", got)
	}
	if got := h.daemons(); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values([]string{strconv.Itoa(old), strconv.Itoa(u.PID)}))) {
		t.Errorf("the daemons are %q", got)
	}
	if text := h.show("StatusText"); !strings.HasPrefix(text, "1 of 1 slots ready") {
		t.Errorf("STATUS is %q", text)
	}
	h.sandboxed()

	// A reload is the new one's: systemd takes RELOADING and READY from it.
	h.soon(h.rotate())
	if out, err := h.reload(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	h.Run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", unit)
	h.Until("systemd has seen both reloads", func() bool {
		got := strings.Join(states(), " ")
		return strings.HasPrefix(got, "reloading active") && strings.HasSuffix(got, "reloading active")
	})
	h.configure("drain: 5s", "drain: 50s", "limits:", "nonsense: 1\nlimits:")
	if out, err := h.reload(); err == nil {
		t.Errorf("a wrong configuration was taken\n%s", out)
	}
	h.configure("drain: 5s", "drain: 50s")
	h.works(open)
	h.steady()

	h.Run("kill", "-HUP", strconv.Itoa(old)) // as to all processes of the unit, and not for one that only drains
	h.works(open)
	_ = open.Close()
	h.alone()
	h.serves(h.own)
	h.steady()
	if slices.Contains(states(), "deactivating") || h.show("InvocationID") != invocation {
		t.Errorf("the unit was %q", states())
	}
	for pid, words := range map[int][][]string{
		old:   {{"event=upgrade", "from=" + dev, "to=" + later, "pid=" + strconv.Itoa(u.PID)}, {"event=left"}},
		u.PID: {{"event=starting", "version=" + later}, {"event=ready"}},
	} {
		h.Until(fmt.Sprintf("the journal has what process %d says", pid), func() bool {
			said := h.saidBy(pid)
			return !slices.ContainsFunc(words, func(w []string) bool { return !hasLine(said, w...) })
		})
	}
	if said := h.saidBy(old); strings.Contains(said, "event=stopping") || strings.Contains(said, "event=reload") || strings.Contains(said, "level=ERROR") {
		t.Errorf("the old process says\n%s", said)
	}
	// All that is begun anew is begun anew.
	h.Run("systemctl", "restart", unit)
	h.serves(h.own)
	if got := h.daemons(); len(got) != 1 || got[0] != h.show("MainPID") || got[0] == strconv.Itoa(u.PID) {
		t.Errorf("after a restart the daemons are %q", got)
	}
	h.steady()
}

// TestUpgradeWatchdog: systemd looks after the new process as it did after the old one.
func TestUpgradeWatchdog(t *testing.T) {
	t.Parallel()
	h := installed(t)
	h.configure("drain: 5s", "drain: 30s")
	h.dropIn("watchdog.conf", "WatchdogSec=2")
	h.Run("systemctl", "start", unit)
	h.serves(h.own)
	open := h.open()
	u := h.upgrade()
	began, _ := strconv.Atoi(h.show("WatchdogTimestampMonotonic"))
	h.Until("the new process has told the watchdog for 5 s", func() bool {
		now, _ := strconv.Atoi(h.show("WatchdogTimestampMonotonic"))
		return now-began > 5_000_000
	})
	h.works(open)
	h.steady()
	if now := h.main(); now != u.PID {
		t.Errorf("the main process is %d, and was %d", now, u.PID)
	}
	// So often that none gets to what it tells the watchdog from time to time.
	count, begin := 0, time.Now()
	for ; time.Since(begin) < 5*time.Second; count++ {
		u = h.upgrade()
	}
	h.took(fmt.Sprintf("%d upgrades in a row", count), begin)
	h.steady()
	begin = time.Now()
	h.Run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", unit)
	h.restarted(strconv.Itoa(u.PID))
	h.soon(h.own)
	h.took("served again after the new process hung, while the old one drained", begin)
	h.logged("Watchdog timeout")
	h.alone()
}

// TestUpgradeStop: a stop ends both processes, whatever the old one has left to do.
func TestUpgradeStop(t *testing.T) {
	t.Parallel()
	h := started(t)
	for name, command := range map[string][]string{"stop": {"systemctl", "stop", unit}, "restart": {"systemctl", "restart", unit}} {
		t.Run(name, func(t *testing.T) {
			p := h.part(t)
			p.Run("systemctl", "start", unit)
			open := p.open()
			u := p.upgrade()
			begin := time.Now()
			p.Run(command...)
			p.took(name+", with drain: 5s and a connection of the old process", begin)
			if err := open.use(); err == nil {
				t.Error("the connection is still open")
			}
			if name == "restart" {
				p.serves(p.own)
				p.alone()
				p.steady()
				return
			}
			if left := p.daemons(); len(left) > 0 {
				t.Errorf("processes %q are left", left)
			}
			if got := p.show("Result"); got != "success" {
				t.Errorf("the unit ended with %s", got)
			}
			if out, err := p.Exec(t.Context(), "ls", "/run/spinecert/admin.sock"); err == nil {
				t.Errorf("the admin socket is left: %s", out)
			}
			p.logged("event=left", "connections_cut=1")
			if !hasLine(p.saidBy(u.PID), "event=stopped") {
				t.Errorf("the new process says\n%s", p.saidBy(u.PID))
			}
		})
	}
	// What still drains at the end of limits.drain is cut.
	open := h.open()
	h.upgrade()
	begin := time.Now()
	h.works(open)
	h.alone()
	h.took("drain: 5s with a connection that stays open", begin)
	if err := open.use(); err == nil {
		t.Error("the connection outlived limits.drain")
	}
	h.serves(h.own)
	h.steady()
}

// TestUpgradeKilled: when the new process is killed while the old one drains, systemd starts the unit again, and does not wait
// for connections to end.
func TestUpgradeKilled(t *testing.T) {
	t.Parallel()
	h := installed(t)
	h.configure("drain: 5s", "drain: 40s")
	h.Run("systemctl", "start", unit)
	h.serves(h.own)
	open := h.open()
	u := h.upgrade()
	h.works(open)
	begin := time.Now()
	h.Run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit)
	h.restarted(strconv.Itoa(u.PID))
	h.soon(h.own)
	h.took("served again after the new process was killed, with drain: 40s", begin)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("the tunnel was closed for %s", took)
	}
	h.alone()
	if got := h.show("NRestarts"); got != "1" {
		t.Errorf("%s restarts", got)
	}
	// The old one is killed: nobody is started, and the new one serves.
	open, old := h.open(), h.main()
	u = h.upgrade()
	h.Run("kill", "-KILL", strconv.Itoa(old))
	h.alone()
	if err := open.use(); err == nil {
		t.Error("the connection outlived its process")
	}
	h.serves(h.own)
	if now := h.main(); now != u.PID || h.show("NRestarts") != "1" {
		t.Errorf("the main process is %d, and was %d; %s restarts", now, u.PID, h.show("NRestarts"))
	}
}
