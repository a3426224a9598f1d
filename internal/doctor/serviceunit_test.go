package doctor

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/config"
)

// envUnits says that a test runs beside the units of TestUnits.
const envUnits = "SPINECERT_TEST_DOCTOR_UNITS"

func byUnit(name, action string) func(b *bay) {
	return func(b *bay) {
		b.c.Reload = config.Reload{Kind: config.ReloadUnit, Unit: name, Action: action}
	}
}

// TestUnits asks a real systemd, which TestWithin does there.
func TestUnits(t *testing.T) {
	b := box.Start(t)
	b.PushSelf("/opt/test/doctor")
	for name, text := range map[string]string{
		"runs.service":     "ExecStart=/bin/sleep 3600",
		"down.service":     "ExecStart=/bin/sleep 3600",
		"validate.service": "Type=oneshot\nExecStart=/bin/true",
	} {
		b.Push("/etc/systemd/system/"+name, []byte("[Service]\n"+text+"\n"), 0o644)
	}
	b.Push("/etc/systemd/system/"+hookName, []byte("[Service]\nExecStart=/bin/true\n"), 0o644)
	b.Run("systemctl", "daemon-reload")
	b.Run("systemctl", "start", "runs.service")
	b.AwaitBus()
	t.Log(b.Run("env", envUnits+"=1", "/opt/test/doctor", "-test.run=^TestWithin$", "-test.v"))
}

// TestWithin looks at the units of TestUnits. No daemon runs there; as systemd has booted
// the host, one would run in a unit.
func TestWithin(t *testing.T) {
	if os.Getenv(envUnits) == "" {
		t.Skip("TestUnits runs it, where its units are")
	}
	oddities(t, []odd{
		{"it runs", byUnit("runs.service", "reload"), `ok SERVICE service nginx: unit runs.service runs`},
		{"it does not", byUnit("down.service", "reload"), `fail SERVICE service nginx: unit down.service does not run // systemctl start down.service; journalctl -u down.service -n 20$`},
		{"it need not", byUnit("down.service", "try-restart"), `warn SERVICE service nginx: unit down.service does not run, and try-restart leaves it so // systemctl start down.service`},
		{"there is none", byUnit("none.service", "reload"), `fail SERVICE service nginx: look at unit "none.service": .* // is the name right\? systemctl status none.service`},
		{"beside HAProxy", func(b *bay) {
			b.c.Reload = config.Reload{Kind: config.ReloadHAProxy, Socket: b.path("admin.sock"), Unit: "none.service", Action: "reload"}
			l, err := net.Listen("unix", b.path("admin.sock"))
			b.must(err)
			b.t.Cleanup(func() { _ = l.Close() })
			b.chmod("admin.sock", 0o666)
		}, `fail SERVICE service nginx: look at unit "none.service"`},
		{"a unit that validates need not run", func(b *bay) { b.c.Validate.Unit = "validate.service" }, `ok SERVICE service nginx: .* has room there`},
		{"none that validates", func(b *bay) { b.c.Validate.Unit = "none.service" }, `fail SERVICE service nginx: validate: look at unit "none.service"`},
		{"commands have their unit", func(b *bay) { b.in.hooks, b.in.booted = nil, "" }, `ok SERVICE 1 command of services run in the unit /etc/systemd/system/spinecert-hook@.service`},
	})
}

// TestUnitsAway: no bus, and one that does not answer, which is not waited for by every service.
func TestUnitsAway(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	b := newBay(t)
	byUnit("nginx.service", "reload")(b)
	lines := b.examine()
	if found := matching(lines, `fail SERVICE service nginx: talk to systemd over D-Bus: `); len(found) != 1 || found[0].Hint == "" {
		t.Error(text(lines))
	}

	socket := filepath.Join(b.dir, "bus")
	l, err := net.Listen("unix", socket)
	b.must(err)
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	b.in.Config = &config.Config{}
	const many = 200
	for range many {
		b.in.Config.Services = append(b.in.Config.Services, b.c)
	}
	began := time.Now()
	lines = b.in.services(t.Context())
	if n := len(matching(lines, `fail SERVICE service nginx: look at unit "nginx.service": `)); n != many {
		t.Errorf("%d lines, want %d:\n%s", n, many, text(lines[:min(len(lines), 20)]))
	}
	if took := time.Since(began); took > 4*unitWait {
		t.Errorf("it took %s", took)
	}
}
