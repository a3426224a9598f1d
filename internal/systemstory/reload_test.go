package systemstory

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/spinecert/spinecert/internal/hostbox"
)

// reload runs `systemctl reload`, and returns what it said if it failed.
func (h *host) reload() (string, error) {
	h.t.Helper()
	return h.Exec(h.t.Context(), "systemctl", "reload", unit)
}

// TestReload: `systemctl reload` succeeds only if all was taken, and what is refused changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	h := started(t)
	open, pid := h.open(), h.show("MainPID")
	good := h.own
	refused := func(t *testing.T, status string) {
		t.Helper()
		out, err := h.part(t).reload()
		if err == nil {
			t.Error("the reload succeeded")
		} else if !strings.Contains(out, "Job for "+unit+" failed") {
			t.Errorf("systemctl says %q, %v", out, err)
		}
		if got := h.Run("systemctl", "show", "--value", "-p", "ActiveState", "-p", "SubState", "-p", "MainPID", unit); got != pid+"\nactive\nrunning" {
			t.Errorf("the unit is %q", got)
		}
		if got := h.show("ExecReload"); !strings.Contains(got, "status="+status) {
			t.Errorf("ExecReload is %q, want status=%s", got, status)
		}
		h.part(t).serves(good)
		h.part(t).works(open)
	}
	for name, pairs := range map[string][]string{
		"unknown key":      {"limits:", "nonsense: 1\nlimits:"},
		"no such slot":     {"slot: pcs", "slot: nope"},
		"taken address":    {"127.0.0.1:4430", "127.0.0.1:8080"},
		"needs a restart":  {"limits:", "state: {directory: /var/lib/other}\nlimits:"},
		"every peer":       {"[proxy.national.ncrs.nhs.uk]", "[]"},
		"two at once":      {"slot: pcs", "slot: nope", "drain: 5s", "drain: 5"},
		"not even a value": {"limits:", "limits: {{\nx:"},
	} {
		t.Run(name, func(t *testing.T) {
			h.part(t).configure(pairs...)
			refused(t, "2")
			if text := h.show("StatusText"); !strings.HasPrefix(text, "reload refused, the last configuration stays; 1 of 1 slots ready") {
				t.Errorf("STATUS is %q", text)
			}
		})
	}
	t.Run("no configuration", func(t *testing.T) {
		h.part(t).Run("rm", confFile)
		refused(t, "2")
	})
	t.Run("material", func(t *testing.T) {
		p := h.part(t)
		p.configure()
		p.Push("/etc/spinecert/pcs/pcs.crt", []byte("no certificate\n"), 0o644)
		refused(t, "3")
		if text := p.show("StatusText"); !strings.HasPrefix(text, "reloaded, but not everything was taken (1 refused); 1 of 1 slots ready") {
			t.Errorf("STATUS is %q", text)
		}
	})
	t.Run("good", func(t *testing.T) {
		p := h.part(t)
		p.configure("drain: 5s", "drain: 7s")
		good = p.rotate()
		if out, err := p.reload(); err != nil {
			t.Fatal(out)
		}
		p.serves(good) // the reload has read it
		if text := p.show("StatusText"); !strings.HasPrefix(text, "reloaded; 1 of 1 slots ready") {
			t.Errorf("STATUS is %q", text)
		}
		p.works(open)
	})
	t.Run("many at once", func(t *testing.T) {
		p := h.part(t)
		tr := p.traffic(1)
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				command := []string{"systemctl", "reload", unit}
				if i%2 == 0 { // systemd makes one job of several; the daemon does not
					command = []string{"spinecert", "reload"}
				}
				if out, err := p.Exec(t.Context(), command...); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		group.Wait()
		tr.end(t)
		if got := p.Run("systemctl", "show", "--value", "-p", "ActiveState", "-p", "SubState", "-p", "MainPID", unit); got != pid+"\nactive\nrunning" {
			t.Errorf("the unit is %q", got)
		}
		if jobs := p.Run("systemctl", "list-jobs", "--no-pager"); !strings.Contains(jobs, "No jobs") {
			t.Errorf("jobs are left:\n%s", jobs)
		}
		p.works(open)
	})
	t.Run("order", func(t *testing.T) {
		p := h.part(t)
		states := p.watch()
		p.Run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", unit)
		p.Until("systemd has seen the reload", func() bool { return slices.Equal(states(), []string{"reloading", "active"}) })
		p.configure("limits:", "nonsense: 1\nlimits:")
		p.Run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", unit)
		p.Until("systemd has seen one that was refused", func() bool { return slices.Equal(states(), []string{"reloading", "active", "reloading", "active"}) })
		if got := p.show("StatusText"); !strings.HasPrefix(got, "reload refused") {
			t.Errorf("STATUS is %q", got)
		}
		p.serves(good)
	})
	if now := h.show("MainPID"); now != pid || open.leaf() == hostbox.Fingerprint(good) {
		t.Errorf("process %s, and %s before", now, pid)
	}
}

// watch subscribes to systemd, and returns a function that returns the states of the unit since, each change once.
func (h *host) watch() func() []string {
	h.t.Helper()
	const path = dbus.ObjectPath("/org/freedesktop/systemd1/unit/spinecertd_2eservice")
	raw, err := h.Dial(h.t.Context(), "unix", "/run/dbus/system_bus_socket")
	if err != nil {
		h.t.Fatal(err)
	}
	bus, err := dbus.NewConn(raw, dbus.WithContext(context.WithoutCancel(h.t.Context())))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = bus.Close() })
	if err := bus.Auth([]dbus.Auth{dbus.AuthExternal("0")}); err != nil {
		h.t.Fatal(err)
	}
	if err := bus.Hello(); err != nil {
		h.t.Fatal(err)
	}
	signals := make(chan *dbus.Signal, 1000)
	bus.Signal(signals)
	if err := bus.AddMatchSignal(dbus.WithMatchObjectPath(path), dbus.WithMatchMember("PropertiesChanged")); err != nil {
		h.t.Fatal(err)
	}
	if err := bus.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").Call("org.freedesktop.systemd1.Manager.Subscribe", 0).Err; err != nil {
		h.t.Fatal(err)
	}
	last := []string{"active"}
	return func() []string {
		for {
			select {
			case s := <-signals:
				if s.Path != path { // of the bus itself
					continue
				}
				changed, _ := s.Body[1].(map[string]dbus.Variant)
				if state, ok := changed["ActiveState"].Value().(string); ok && state != last[len(last)-1] {
					last = append(last, state)
				}
			default:
				return last[1:]
			}
		}
	}
}
