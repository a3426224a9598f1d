package systemstory

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// TestWatchdog: a daemon that hangs is ended and started again, and serves what it served, whatever its files hold by then.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	h := installed(t)
	h.dropIn("watchdog.conf", "WatchdogSec=1")
	h.Run("systemctl", "start", unit)
	h.serves(h.own)
	h.Until("the generation is kept", func() bool { return h.status().Slots[0].Unsaved == "" })
	h.Push("/etc/spinecert/pcs/pcs.crt", []byte("no certificate\n"), 0o644)
	pid := h.show("MainPID")
	h.Run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", unit)
	h.restarted(pid)
	h.soon(h.own)
	h.logged("Watchdog timeout")
	if got := h.show("NRestarts"); got != "1" {
		t.Errorf("%s restarts", got)
	}
	if s := h.status().Slots[0]; s.Generation != 1 {
		t.Errorf("after the restart: %+v", s)
	}
	// One that works is left alone: as long as it was given to hang, thrice.
	pid = h.show("MainPID")
	began, _ := strconv.Atoi(h.show("WatchdogTimestampMonotonic"))
	h.Until("it has told the watchdog for 3 s", func() bool {
		now, _ := strconv.Atoi(h.show("WatchdogTimestampMonotonic"))
		return now-began > 3_000_000
	})
	if now := h.show("MainPID"); now != pid {
		t.Errorf("process %s was ended for %s", pid, now)
	}
}

// freeze stops all processes of the unit as a sleep of the host does, until thaw is called.
func (h *host) freeze() (thaw func()) {
	h.t.Helper()
	if _, err := h.Exec(h.t.Context(), "systemctl", "freeze", unit); err == nil {
		return func() { h.Run("systemctl", "thaw", unit) }
	}
	// Where systemd has no control of groups, the kernel does it all the same.
	group := path.Join(h.Root, "sys/fs/cgroup/unified", h.show("ControlGroup"))
	set := func(state string) {
		h.t.Helper()
		if err := os.WriteFile(path.Join(group, "cgroup.freeze"), []byte(state), 0); err != nil {
			h.t.Skipf("the kernel freezes no control groups: %v", err)
		}
		h.Until("the group has state "+state, func() bool {
			events, err := os.ReadFile(path.Join(group, "cgroup.events"))
			return err == nil && strings.Contains(string(events), "frozen "+state)
		})
	}
	set("1")
	return func() { h.t.Helper(); set("0") }
}

// TestSleep: what ended while the host slept has ended when it wakes up, and the daemon is not taken for a hung one.
func TestSleep(t *testing.T) {
	t.Parallel()
	h := started(t)
	pid, lasting := h.show("MainPID"), h.open()
	h.who = h.issue(peerName, testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(4*time.Second)))
	ends := h.who.Cert.NotAfter
	dated := h.open()
	thaw := h.freeze()
	h.Until("the certificate of a peer has ended", func() bool { return time.Now().After(ends) })
	thaw()
	_ = dated.SetReadDeadline(time.Now().Add(2 * time.Minute)) // the wall clock is looked at once a minute
	if _, err := dated.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("an expired peer is not cut: %v", err)
	}
	h.works(lasting)
	h.logged("event=connection_cut", "reason=expired")
	if now := h.show("MainPID"); now != pid {
		t.Errorf("process %s was ended for %s", pid, now)
	}
	// Slept through beyond the watchdog (a real sleep stops its clock, this one does not): it is started again.
	h.dropIn("watchdog.conf", "WatchdogSec=1")
	h.Run("systemctl", "restart", unit)
	pid = h.show("MainPID")
	thaw = h.freeze()
	h.logged("Watchdog timeout")
	thaw()
	h.restarted(pid)
	h.who = h.issue(peerName)
	h.soon(h.own)
}

// TestNotifyEnvironment: whatever systemd or somebody else has left in the environment, the daemon serves and says nothing that is not so.
func TestNotifyEnvironment(t *testing.T) {
	t.Parallel()
	h := installed(t)
	cases := map[string][]string{
		"no socket":            {"Type=exec", "WatchdogSec=0", "UnsetEnvironment=NOTIFY_SOCKET"},
		"no socket, watchdog":  {"Type=exec", "WatchdogSec=0", "UnsetEnvironment=NOTIFY_SOCKET", "Environment=WATCHDOG_USEC=1000000"},
		"socket of nobody":     {"Type=exec", "WatchdogSec=0", "Environment=NOTIFY_SOCKET=/run/nobody"},
		"abstract of nobody":   {"Type=exec", "WatchdogSec=0", "Environment=NOTIFY_SOCKET=@nobody"},
		"socket is a file":     {"Type=exec", "WatchdogSec=0", "Environment=NOTIFY_SOCKET=/etc/passwd"},
		"socket is no address": {"Type=exec", "WatchdogSec=0", "Environment=NOTIFY_SOCKET=nonsense"},
		"watchdog garbage":     {"WatchdogSec=0", "Environment=WATCHDOG_USEC=garbage"},
		"watchdog empty":       {"WatchdogSec=0", "Environment=WATCHDOG_USEC="},
		"watchdog zero":        {"WatchdogSec=0", "Environment=WATCHDOG_USEC=0"},
		"watchdog negative":    {"WatchdogSec=0", "Environment=WATCHDOG_USEC=-5000000"},
		"watchdog huge":        {"WatchdogSec=0", "Environment=WATCHDOG_USEC=99999999999999999999999"},
		"watchdog largest":     {"WatchdogSec=0", "Environment=WATCHDOG_USEC=9223372036854775807"},
		"watchdog tiny":        {"WatchdogSec=0", "Environment=WATCHDOG_USEC=1"},
		"watchdog of another":  {"WatchdogSec=0", "Environment=WATCHDOG_USEC=1000000 WATCHDOG_PID=1"},
		"watchdog of nobody":   {"WatchdogSec=0", "Environment=WATCHDOG_USEC=1000000 WATCHDOG_PID=garbage"},
	}
	for name, lines := range cases {
		if !isLong() && !slices.Contains([]string{"no socket, watchdog", "socket of nobody", "watchdog garbage", "watchdog negative", "watchdog tiny", "watchdog of another"}, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p := h.part(t)
			p.dropIn("environment.conf", lines...)
			p.Run("systemctl", "restart", unit)
			p.soon(p.own)
			if s := p.status(); !s.Ready || s.Slots[0].State != "ready" {
				t.Errorf("%+v", s)
			}
			if strings.Contains(lines[0], "WatchdogSec") && !strings.HasPrefix(p.show("StatusText"), "1 of 1 slots ready") {
				t.Errorf("STATUS is %q", p.show("StatusText"))
			}
			if out, err := p.reload(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if name == "watchdog tiny" {
				p.Until("the daemon leaves the processor alone", func() bool {
					before := p.cpu()
					time.Sleep(500 * time.Millisecond) // not waited for: measured
					return p.cpu()-before < 200*time.Millisecond
				})
			}
			p.Run("systemctl", "stop", unit)
			if got := p.show("Result"); got != "success" {
				t.Errorf("it ended with %s", got)
			}
		})
	}
}

// TestWatchdogOfAnother: with an environment that says something else than systemd does, the daemon is ended again and again, and serves in between.
func TestWatchdogOfAnother(t *testing.T) {
	t.Parallel()
	long(t)
	h := installed(t)
	h.dropIn("environment.conf", "WatchdogSec=2", "Environment=WATCHDOG_USEC=garbage")
	h.Run("systemctl", "start", unit)
	h.serves(h.own)
	h.logged("Watchdog timeout")
	h.soon(h.own)
	h.dropIn("environment.conf", "WatchdogSec=2")
	h.Run("systemctl", "restart", unit)
	h.serves(h.own)
}

// cpu is the time that the processor has worked for the daemon.
func (h *host) cpu() time.Duration {
	h.t.Helper()
	fields := strings.Fields(h.Run("cat", "/proc/"+h.show("MainPID")+"/stat"))
	var sum int
	for _, field := range fields[13:15] { // in hundredths of a second: its own, and the kernel's for it
		n, err := strconv.Atoi(field)
		if err != nil {
			h.t.Fatal(err)
		}
		sum += n
	}
	return time.Duration(sum) * 10 * time.Millisecond
}
