package systemstory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fake is a program that is no daemon. What it does stands in a variable, which its build sets.
const fake = `package main

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

var what string

func main() {
	line := os.NewFile(3, "line") // to the running daemon
	heard := bufio.NewReader(line)
	hear := func() { _, _ = heard.ReadString('\n') }
	switch what {
	case "exit":
		os.Exit(3)
	case "stage", "linger", "take":
		hear()
		fmt.Fprintln(line, ` + "`" + `{"step":"hello","version":"fake"}` + "`" + `)
		hear()
		if what == "stage" {
			os.Exit(3)
		}
		if what == "linger" {
			break
		}
		fmt.Fprintln(line, ` + "`" + `{"step":"ready","summary":"fake","stock":{"serving":["pcs"]}}` + "`" + `)
		hear()
		os.Exit(3)
	}
	time.Sleep(time.Hour)
}
`

// fake builds a program that exits or hangs, at once or where it should read everything, or takes over and exits.
func (h *host) fake(what string) string {
	h.t.Helper()
	source := filepath.Join(h.t.TempDir(), "fake.go")
	if err := os.WriteFile(source, []byte(fake), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return build(h.t, "fake-"+what, source, "-s -w -X main.what="+what)
}

// spoiled puts what a shell command makes of the program of the package, $1, in its place, $2.
func (h *host) spoiled(command string) {
	h.t.Helper()
	h.Run("sh", "-ec", command+`; chmod 755 "$2"`, "sh", kept, program)
}

// TestUpgradeBroken: what is installed is no good, and the running daemon goes on with everything.
func TestUpgradeBroken(t *testing.T) {
	t.Parallel()
	h := installed(t)
	const directory = "/srv/delivered"
	h.Run("install", "-d", "-o", "spinecert", "-g", "spinecert", "-m", "0755", directory)
	h.dropIn("delivered.conf", "ReadWritePaths="+directory)
	services := "services:\n  files: {slot: pcs, deliver: {directory: " + directory + ", files: [{format: fullchain, name: pcs.crt}, {format: key, name: pcs.key}]}, reload: none, probe: none}\n"
	good := []string{"admin:", services + "admin:"}
	h.configure(good...)
	h.Run("systemctl", "start", unit)
	h.serves(h.own)
	h.ship(dev) // keeps it
	open, pid := h.open(), h.main()
	fds := h.descriptors()

	hang := []string{"--timeout", "2s"}
	if isLong() {
		hang = nil
	}
	for _, c := range []struct {
		name  string
		spoil func(*host)
		flags []string
		exit  int
		want  []string
	}{
		{"exits", func(p *host) { p.PushFile(program, p.fake("exit"), 0o755) }, nil, 1, []string{"ended without a word"}},
		{"hangs", func(p *host) { p.PushFile(program, p.fake("hang"), 0o755) }, hang, 1, []string{"not get ready in time"}},
		{"exits while it reads", func(p *host) { p.PushFile(program, p.fake("stage"), 0o755) }, nil, 1, []string{"ended without a word"}},
		{"hangs while it reads", func(p *host) { p.PushFile(program, p.fake("linger"), 0o755) }, hang, 1, []string{"not get ready in time"}},
		{"is of another machine", func(p *host) { p.spoiled(`cp "$1" "$2"; printf '\026' | dd of="$2" bs=1 seek=18 conv=notrunc`) }, nil, 1, []string{"exec format error"}},
		{"is garbage", func(p *host) { p.Push(program, []byte("garbage\n"), 0o755) }, nil, 1, []string{"exec format error"}},
		{"is half there", func(p *host) {
			p.spoiled(`head -c 100000 "$1" > "$2"`)
		}, nil, 1, nil},
		{"is empty", func(p *host) { p.Push(program, nil, 0o755) }, nil, 1, []string{"exec format error"}},
		{"may not be executed", func(p *host) { p.ship(dev); p.Run("chmod", "644", program) }, nil, 1, []string{"permission denied"}},
		{"is not there", func(*host) {}, nil, 1, []string{"no such file"}},
		{"is a directory", func(p *host) { p.Run("mkdir", program) }, nil, 1, []string{"permission denied"}},
		{"does not take the configuration", func(p *host) { p.ship(dev); p.configure(append(good, "limits:", "nonsense: 1\nlimits:")...) }, nil, 2, []string{"does not take the configuration"}},
		{"has another state directory", func(p *host) {
			p.ship(dev)
			p.configure(append(good, "limits:", "state: {directory: /var/lib/other}\nlimits:")...)
		}, nil, 2, nil},
		{"has no configuration", func(p *host) { p.ship(dev); p.Run("rm", confFile) }, nil, 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := h.part(t)
			p.Run("rm", "-rf", program)
			c.spoil(p)
			begin := time.Now()
			u, a := p.tryUpgrade(c.flags...)
			p.took("refused", begin)
			if a.Exit != c.exit || u.PID != 0 || !strings.Contains(a.Error.Message, "goes on") {
				t.Errorf("exit status %d, want %d: %+v %+v", a.Exit, c.exit, u, a.Error)
			}
			for _, word := range c.want {
				if !strings.Contains(a.Error.Message, word) {
					t.Errorf("it says %q, and not %q", a.Error.Message, word)
				}
			}
			if c.exit == 2 && len(u.Problems) == 0 {
				t.Errorf("no problem of the configuration is named: %+v", a.Error)
			}
			t.Logf("%s %q %s", a.Error.Message, u.Problems, a.Error.Hint)
			p.steady()
			p.works(open)
			// It rotates, writes, delivers and reloads.
			p.soon(p.rotate())
			own := p.own
			p.Until("the service has its files", func() bool {
				got, _ := p.Exec(t.Context(), "cat", directory+"/current/pcs.crt")
				return got == string(own.FullChainPEM())
			})
			p.configure(good...)
			p.writable()
			if out, err := p.reload(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if now := p.main(); now != pid {
				t.Fatalf("process %d is the main one, and %d was", now, pid)
			}
			p.alone()
		})
	}
	h.Until("as many descriptors are open as before", func() bool { return h.descriptors() <= fds })
	h.works(open)
	h.ship(later)
	if u := h.upgrade(); u.To != later {
		t.Errorf("%+v", u)
	}
	h.works(open)

	// One that ends when it has taken over: there is no way back, and systemd starts the unit again until it can.
	_ = open.Close()
	h.alone()
	h.PushFile(program, h.fake("take"), 0o755)
	u, a := h.tryUpgrade()
	if a.Exit != 1 || strings.Contains(a.Error.Message, "goes on") {
		t.Errorf("exit status %d, %+v %+v", a.Exit, u, a.Error)
	}
	t.Logf("%s %s", a.Error.Message, a.Error.Hint)
	h.ship(dev)
	h.soon(h.own)
	h.property("ActiveState", "active")
	h.alone()
	h.soon(h.rotate())
	h.writable()
}
