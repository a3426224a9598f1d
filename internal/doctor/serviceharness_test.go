package doctor

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
)

// The users and groups of these tests, which no host has.
const (
	daemonID  = 47210 // user and group of the daemon
	serviceID = 47211 // of a service
	sharedID  = 47212 // a group that the daemon may belong to
)

// bay is a host with one service, whose daemon is not the user of the test.
type bay struct {
	t   *testing.T
	dir string
	c   config.Service
	st  deliver.Status // State "" is no daemon
	in  Inside
}

// newBay is one where all is well. The daemon is another user if root runs the test.
func newBay(t *testing.T) *bay {
	t.Helper()
	dir, err := os.MkdirTemp("", "bay") // what the testing package makes is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bay{t: t, dir: dir}
	b.chmod(".", 0o755)
	b.in = Inside{Now: time.Now(), UID: os.Geteuid(), hooks: []string{dir}, booted: filepath.Join(dir, "none")}
	if b.root() {
		b.in.UID = daemonID
	}
	b.mkdir("spine")
	b.own("spine", b.in.UID)
	b.c = config.Service{Name: "nginx", Slot: "pcs", Directory: b.path("spine"), Reload: config.Reload{Kind: config.ReloadNone},
		ProbeExec: config.Command{Exec: []string{"/bin/true"}}, Files: []config.ServiceFile{{Format: "fullchain", Name: "fullchain.pem", Mode: 0o644}}}
	return b
}

func (b *bay) root() bool { return os.Geteuid() == 0 }

func (b *bay) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bay) write(name string, data string, mode os.FileMode) string {
	b.t.Helper()
	b.must(os.WriteFile(b.path(name), []byte(data), mode))
	b.chmod(name, mode)
	return b.path(name)
}

func (b *bay) mkdir(name string) string {
	b.t.Helper()
	b.must(os.Mkdir(b.path(name), 0o755))
	return b.path(name)
}

func (b *bay) chmod(name string, mode os.FileMode) {
	b.t.Helper()
	b.must(os.Chmod(b.path(name), mode))
}

// own gives something to a user and the group of its number, if it can.
func (b *bay) own(name string, id int) {
	b.t.Helper()
	if b.root() {
		b.must(os.Lchown(b.path(name), id, id))
	}
}

func (b *bay) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// process starts one of a user with these groups, which ends with the test.
func (b *bay) process(uid uint32, groups ...uint32) int {
	b.t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "echo; exec cat")
	if b.root() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}
	}
	// It ends with its input. A signal at the death of the parent would come with that of the
	// thread which started it, and threads that became another user end.
	_, err := cmd.StdinPipe()
	b.must(err)
	out, err := cmd.StdoutPipe()
	b.must(err)
	b.must(cmd.Start())
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, err = bufio.NewReader(out).ReadByte() // it is who it should be
	b.must(err)
	return cmd.Process.Pid
}

// runs has the daemon be a process of its user, with these groups.
func (b *bay) runs(groups ...uint32) { b.in.PID = b.process(daemonID, groups...) }

func (b *bay) examine() []Line {
	b.t.Helper()
	b.st.Config = b.c
	b.in.Config = &config.Config{Services: []config.Service{b.c}}
	if b.st.State != "" {
		b.in.Services = []deliver.Status{b.st}
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), long)
	defer cancel()
	return b.in.services(ctx)
}

// odd is one thing about a service, and the line that must say so.
type odd struct {
	name  string
	spoil func(b *bay)
	want  string // a pattern; with a hint behind " // "
}

// asRoot skips what only root can make.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can have files of several users")
	}
}

func oddities(t *testing.T, cases []odd) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBay(t)
			tc.spoil(b)
			lines := b.examine()
			var found []Line
			for _, l := range lines {
				said := l
				said.Message += " // " + l.Hint
				if len(matching([]Line{said}, tc.want)) > 0 {
					found = append(found, l)
				}
			}
			if len(found) != 1 {
				t.Fatalf("%d lines %q in:\n%s", len(found), tc.want, text(lines))
			}
			for _, l := range lines {
				if l.Code != Service || l.Subject == "" || l.Level != OK && l.Hint == "" {
					t.Errorf("without a hint or a subject: %+v", l)
				}
				if l != found[0] && l.Level != OK {
					t.Errorf("said besides: %s", l)
				}
			}
		})
	}
}
