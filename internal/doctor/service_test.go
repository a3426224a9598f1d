package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
)

// TestServiceWell: nothing is found where all is well, without a daemon.
func TestServiceWell(t *testing.T) {
	t.Parallel()
	b := newBay(t)
	lines := b.examine()
	for _, l := range lines {
		if l.Level != OK || l.Subject != "nginx" || l.Hint != "" {
			t.Errorf("%+v", l)
		}
	}
	for _, want := range []string{`ok SERVICE service nginx: \w+ alone may write ".*/spine", and has room there`, `ok SERVICE service nginx: the 1 program can be run`} {
		if len(matching(lines, want)) != 1 {
			t.Errorf("no line %q in:\n%s", want, text(lines))
		}
	}
}

func TestServiceDirectory(t *testing.T) {
	t.Parallel()
	asRoot(t)
	oddities(t, []odd{
		{"it is not there", func(b *bay) { b.must(os.Remove(b.c.Directory)) }, `fail SERVICE service nginx: open directory ".*": ".*/spine" is not there // install -d -o 47210 -m 0755 .*/spine$`},
		{"it is root's", func(b *bay) { b.own("spine", 0) }, `fail SERVICE service nginx: open directory ".*/spine": .*permission denied // chown 47210 .*ReadWritePaths=`},
		{"it is the service's", func(b *bay) { b.own("spine", serviceID) }, `fail SERVICE service nginx: .*"/.*/spine" belongs to 47211 .* // chown 47210 .*/spine$`},
		{"everybody writes it", func(b *bay) { b.chmod("spine", 0o777) }, `fail SERVICE service nginx: .*everybody may write "/.*/spine" .* // chmod go-w .*/spine$`},
		{"its group writes it", func(b *bay) { b.chmod("spine", 0o775) }, `fail SERVICE service nginx: .*group 47210 may write "/.*/spine" .* // chmod g-w .*/spine$`},
		{"everybody writes above it", func(b *bay) { b.chmod(".", 0o777) }, `fail SERVICE service nginx: .*everybody may write "/.*" .* // chmod go-w `},
		{"the way is closed", func(b *bay) { b.chmod(".", 0o700) }, `fail SERVICE service nginx: .*permission denied // chmod o\+x `},
		{"it is a file", func(b *bay) { b.c.Directory = b.write("spine.pem", "", 0o644) }, `fail SERVICE service nginx: .* is a file // name a directory`},
		{"it may be written, and not read", func(b *bay) { b.chmod("spine", 0o300) }, `fail SERVICE service nginx: .*permission denied // chown 47210`},
		{"current is a directory", func(b *bay) { b.mkdir("spine/current") }, `fail SERVICE service nginx: read link ".*/current": it is a directory, and must be a link .* // it is not the daemon's`},
		{"current leads elsewhere", func(b *bay) { b.must(os.Symlink("/etc", b.path("spine/current"))) }, `fail SERVICE service nginx: read link ".*/current": it leads to "/etc".* // .*rm .*/current$`},
		{"current is ours", func(b *bay) {
			b.must(os.Symlink("set-20261123T014000Z-5be01c9a", b.path("spine/current")))
		}, `ok SERVICE service nginx: 47210 alone may write ".*/spine", and has room there`},
		{"an access list lets the daemon in", func(b *bay) {
			// user::rwx, user:47210:rwx, group::r-x, mask::rwx, other::r-x; see acl(5).
			list := []byte{2, 0, 0, 0}
			for _, e := range [][3]uint32{{1, 7, 0xffffffff}, {2, 7, daemonID}, {4, 5, 0xffffffff}, {16, 7, 0xffffffff}, {32, 5, 0xffffffff}} {
				list = append(list, byte(e[0]), 0, byte(e[1]), 0, byte(e[2]), byte(e[2]>>8), byte(e[2]>>16), byte(e[2]>>24))
			}
			b.own("spine", 0)
			if err := unix.Setxattr(b.c.Directory, "system.posix_acl_access", list, 0); err != nil {
				b.t.Skipf("no access lists here: %v", err)
			}
		}, `fail SERVICE service nginx: .*an access list lets others write`},
	})
}

// TestServiceRoom: file systems that are full, nearly full, and for reading only.
func TestServiceRoom(t *testing.T) {
	t.Parallel()
	asRoot(t)
	mount := func(options string, fill func(dir string)) func(b *bay) {
		return func(b *bay) {
			if err := unix.Mount("none", b.c.Directory, "tmpfs", 0, options+fmt.Sprintf(",mode=0755,uid=%d,gid=%d", daemonID, daemonID)); err != nil {
				b.t.Skipf("mount a file system: %v", err)
			}
			b.t.Cleanup(func() { b.must(unix.Unmount(b.c.Directory, unix.MNT_DETACH)) })
			fill(b.c.Directory)
		}
	}
	nothing := func(string) {}
	oddities(t, []odd{
		{"some", mount("size=64m,nr_inodes=1000", nothing), `ok SERVICE service nginx: .* has room there`},
		{"little", mount("size=1m,nr_inodes=1000", nothing), `warn SERVICE service nginx: the file system of ".*/spine" has 1024 KiB left // make room: df -h .*/spine; df -i .*/spine$`},
		{"none", mount("size=16k,nr_inodes=1000", func(dir string) {
			_ = os.WriteFile(filepath.Join(dir, "x"), make([]byte, 32<<10), 0o644) // as far as there is room
		}), `fail SERVICE service nginx: the file system of ".*/spine" is full // make room`},
		{"few inodes", mount("size=64m,nr_inodes=20", nothing), `warn SERVICE service nginx: the file system of ".*/spine" has 19 inodes left`},
		{"no inodes", mount("size=64m,nr_inodes=1", nothing), `fail SERVICE service nginx: the file system of ".*/spine" is full`},
		{"for reading", func(b *bay) {
			mount("size=64m,nr_inodes=1000", nothing)(b)
			b.must(unix.Mount("none", b.c.Directory, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}, `fail SERVICE service nginx: .*read-only file system // .*mounted for writing`},
	})
}

func TestServiceFiles(t *testing.T) {
	t.Parallel()
	asRoot(t)
	key := func(owner, group string) func(b *bay) {
		return func(b *bay) {
			b.c.Files = append(b.c.Files, config.ServiceFile{Format: "key", Name: "key.pem", Owner: owner, Group: group, Mode: 0o640})
		}
	}
	running := func(then func(*bay), groups ...uint32) func(*bay) {
		return func(b *bay) { b.runs(groups...); then(b) }
	}
	oddities(t, []odd{
		{"no such user", key("nobody-of-this-host", ""), `fail SERVICE service nginx: there is no user "nobody-of-this-host" on this host, who should own key.pem // make the user`},
		{"no such group", key("", "nobody-of-this-host"), `fail SERVICE service nginx: there is no group "nobody-of-this-host" on this host, which should have key.pem // groupadd nobody-of-this-host`},
		{"another owner", running(key("47211", "")), `fail SERVICE service nginx: 47210 may not give key.pem to user 47211, without CAP_CHOWN // .*systemctl edit spinecertd, \[Service\] AmbientCapabilities=CAP_CHOWN CapabilityBoundingSet=CAP_CHOWN`},
		{"its own", running(key("47210", "47210")), `ok SERVICE service nginx: 47210 may give files to the users and groups`},
		{"no member", running(key("", "47212")), `fail SERVICE service nginx: 47210 is no member of group 47212, and may not give it key.pem // usermod -aG 47212 47210, or: systemctl edit spinecertd, \[Service\] SupplementaryGroups=47212; then systemctl restart spinecertd$`},
		{"a member", running(key("", "47212"), sharedID), `ok SERVICE service nginx: 47210 may give files`},
		{"no member, and no daemon", key("", "47212"), `warn SERVICE service nginx: 47210 is no member of group 47212, .*; the unit of the daemon, which does not run, may give it more // usermod -aG`},
		{"another owner, and no daemon", key("47211", ""), `warn SERVICE service nginx: 47210 may not give key.pem to user 47211, .*; the unit of the daemon, which does not run, may give it more // `},
		{"the process is another user's", func(b *bay) {
			b.in.PID = b.process(serviceID, sharedID)
			key("", "47212")(b)
		}, `warn SERVICE service nginx: 47210 is no member of group 47212`},
		{"the process has gone", func(b *bay) { b.in.PID = 1 << 22; key("", "47212")(b) }, `warn SERVICE service nginx: 47210 is no member of group 47212`},
		{"one line for two files", func(b *bay) {
			running(key("", "47212"))(b)
			b.c.Files[0].Group = "47212"
		}, `fail SERVICE service nginx: 47210 is no member of group 47212, and may not give it fullchain.pem`},
	})
}

// TestServiceOfRoot: with CAP_CHOWN, as root has it, everything can be given away; the kernel says so of a process.
func TestServiceOfRoot(t *testing.T) {
	asRoot(t)
	b := newBay(t)
	b.own("spine", 0)
	b.in.UID, b.in.PID = 0, os.Getpid()
	b.c.Files = []config.ServiceFile{{Format: "key", Name: "key.pem", Owner: "47211", Group: "47212", Mode: 0o640}}
	if lines := b.examine(); len(matching(lines, "ok SERVICE service nginx: root may give files")) != 1 {
		t.Error(text(lines))
	}
}

// TestServiceMemberSince: who became a member after the daemon was started.
func TestServiceMemberSince(t *testing.T) {
	asRoot(t)
	daemon := databaseAccount(daemonID)
	if daemon.running || daemon.gid != daemonID || daemon.may(unix.CAP_CHOWN) {
		t.Errorf("%+v", daemon)
	}
	for _, tc := range []struct {
		process account
		want    string
	}{
		{account{uid: 1, gid: 47210, running: true}, `fail SERVICE .* became a member of group \d+ after the daemon was started`},
		{account{uid: 1, gid: 1, running: true}, ``},
	} {
		group := databaseAccount(1).gid // of user daemon, which every Debian has
		r := &report{code: Service}
		s := served{service: config.Service{Name: "nginx", Files: []config.ServiceFile{{Name: "key.pem", Group: fmt.Sprint(group)}}}, daemon: tc.process}
		serviceFiles(t.Context(), s, r)
		if found := matching(r.lines, "fail"); (tc.want != "") != (len(found) == 1) || tc.want != "" && (len(matching(found, tc.want)) != 1 || found[0].Hint != "systemctl restart spinecertd") {
			t.Errorf("%+v:\n%s", tc.process, text(r.lines))
		}
	}
}

func TestServicePassword(t *testing.T) {
	t.Parallel()
	asRoot(t)
	password := func(data string, mode os.FileMode, owner int) func(b *bay) {
		return func(b *bay) {
			b.c.Files = append(b.c.Files, config.ServiceFile{Format: "pkcs12", Name: "key.p12", PasswordFile: b.write("password", data, mode), Mode: 0o600},
				config.ServiceFile{Format: "trust-pkcs12", Name: "trust.p12", PasswordFile: b.path("password"), Mode: 0o644})
			b.own("password", owner)
		}
	}
	oddities(t, []odd{
		{"well", password("secret\n", 0o400, daemonID), `ok SERVICE service nginx: 47210 may read the 1 password file, and others may not`},
		{"it is not there", func(b *bay) {
			password("secret\n", 0o400, daemonID)(b)
			b.must(os.Remove(b.path("password")))
		}, `fail SERVICE service nginx: 47210 cannot read the password file: .*no such file`},
		{"the daemon cannot read it", password("secret\n", 0o600, 0), `fail SERVICE service nginx: 47210 cannot read the password file: .*permission denied // chown 47210 .*password; chmod 0400`},
		{"everybody reads it", password("secret\n", 0o444, daemonID), `fail SERVICE service nginx: the password file ".*" has mode 0444: everybody may read or write it // chmod o-rwx .*, and choose another password`},
		{"it is empty", password("", 0o400, daemonID), `fail SERVICE service nginx: the password file ".*" is empty`},
		{"it is the service's", func(b *bay) {
			password("secret\n", 0o440, serviceID)(b)
			b.must(os.Chown(b.path("password"), serviceID, daemonID))
		}, `warn SERVICE service nginx: the password file ".*" belongs to user 47211`},
		{"its group reads it", func(b *bay) {
			password("secret\n", 0o440, daemonID)(b)
			b.must(os.Chown(b.path("password"), daemonID, sharedID))
		}, `warn SERVICE service nginx: the password file ".*" has mode 0440: the group 47212 may read`},
		{"it is a pipe", func(b *bay) {
			b.must(unix.Mkfifo(b.path("pipe"), 0o400))
			b.own("pipe", daemonID)
			b.c.Files[0].PasswordFile = b.path("pipe")
		}, `fail SERVICE service nginx: the password file ".*" is no file`},
	})
}

// TestServiceLabels: SELinux, as it is said to be.
func TestServiceLabels(t *testing.T) {
	t.Parallel()
	labels := func(dir, file string, err error) func(b *bay) {
		return func(b *bay) {
			b.in.label = func(path string) (string, error) {
				switch {
				case err != nil:
					return "", err
				case path == b.c.Directory:
					return dir, nil
				case path == b.path("spine/current/fullchain.pem") && file != "":
					return file, nil
				}
				return "", os.ErrNotExist
			}
		}
	}
	const cert = "system_u:object_r:cert_t:s0"
	oddities(t, []odd{
		{"well", labels(cert, cert, nil), `ok SERVICE service nginx: ".*/spine" and what is in it have the SELinux type cert_t`},
		{"chosen", labels("system_u:object_r:httpd_config_t:s0", "", nil), `ok SERVICE service nginx: ".*" and what is in it have the SELinux type httpd_config_t`},
		{"of /etc", labels("system_u:object_r:etc_t:s0", "", nil), `warn SERVICE service nginx: SELinux may keep it from reading ".*/spine", which has the type etc_t, and not cert_t // semanage fcontext -a -t cert_t '/.*/spine\(/\.\*\)\?' && restorecon -R /.*/spine$`},
		{"none", labels("system_u:object_r:unlabeled_t:s0", "", nil), `warn SERVICE .* has the type unlabeled_t`},
		{"of a user", labels("unconfined_u:object_r:user_tmp_t:s0:c1", "", nil), `warn SERVICE .* has the type user_tmp_t`},
		{"by default", labels("system_u:object_r:default_t:s0", "", nil), `warn SERVICE .* has the type default_t`},
		{"a set with another", labels(cert, "system_u:object_r:etc_t:s0", nil), `warn SERVICE service nginx: SELinux may keep it from reading ".*/current/fullchain.pem", which has the type etc_t, and its directory cert_t // restorecon -R /.*/spine$`},
		{"unreadable", labels("", "", os.ErrPermission), `warn SERVICE service nginx: the label of ".*" cannot be read: permission denied`},
	})
	b := newBay(t)
	if _, err := os.Stat(selinuxSwitch); err == nil {
		t.Skip("SELinux is in use here")
	}
	if lines := matching(b.examine(), `.*SELinux`); len(lines) > 0 {
		t.Errorf("where labels are not in use:\n%s", text(lines))
	}
}

func TestServiceStands(t *testing.T) {
	t.Parallel()
	stands := func(st deliver.Status, age time.Duration) func(b *bay) {
		return func(b *bay) {
			st.Since = b.in.Now.Add(-age)
			st.Desired, st.Proved = deliver.Version{Generation: 8}, deliver.Version{Generation: 7, Since: st.Since}
			b.st = st
		}
	}
	oddities(t, []odd{
		{"in sync", stands(deliver.Status{State: deliver.InSync}, time.Hour), `ok SERVICE service nginx has generation 7 of slot pcs since 20..-..-..T`},
		{"held", stands(deliver.Status{State: deliver.Held, Step: deliver.StepReload, Reason: "not_permitted", Error: "polkit says no", Hint: "have polkit allow it"}, time.Minute),
			`fail SERVICE service nginx: it stays on generation 7, and generation 8 is held: its delivery failed at "reload" since 20.* \(not_permitted\): polkit says no // have polkit allow it; once it is mended: spinecert deliver nginx --now$`},
		{"failed", stands(deliver.Status{State: deliver.Failed, Step: deliver.StepProve, Reason: "unreachable", Error: "nobody there"}, 0),
			`fail SERVICE service nginx: its delivery failed at "prove" since 20.* \(unreachable\): nobody there // once it is mended: spinecert deliver nginx --now$`},
		{"the command once", stands(deliver.Status{State: deliver.Failed, Step: deliver.StepProve, Hint: "spinecert deliver nginx --now, later"}, 0), `fail SERVICE .* // spinecert deliver nginx --now, later$`},
		{"waits", stands(deliver.Status{State: deliver.Delivering, Waits: "waits for apache"}, time.Minute), `ok SERVICE service nginx: the delivery waits for apache`},
		{"waits for long", stands(deliver.Status{State: deliver.Delivering, Waits: "waits for apache"}, 2*time.Hour), `warn SERVICE service nginx: the delivery waits for apache, since 20.* // spinecert services says`},
		{"waits for its window", stands(deliver.Status{State: deliver.Delivering, Window: true, Waits: "waits for its window, until 2026-11-23 22:00 UTC"}, 20*time.Hour), `ok SERVICE service nginx: the delivery waits for its window`},
		{"waits for CRLs", stands(deliver.Status{State: deliver.Delivering, Waits: "environment test has no CRL yet", Hint: "they are fetched"}, time.Minute), `warn SERVICE service nginx waits since 20.*Z, as environment test has no CRL yet // they are fetched$`},
		{"goes on", stands(deliver.Status{State: deliver.Delivering}, time.Minute), `ok SERVICE service nginx: the delivery is under way`},
		{"goes on for long", stands(deliver.Status{State: deliver.Delivering}, 2*time.Hour), `warn SERVICE service nginx: the delivery is under way, since`},
		{"nothing proves", func(b *bay) { b.c.ProbeExec.Exec = nil }, `warn SERVICE service nginx has probe: none: nothing proves that it serves what is delivered // name an address`},
	})
}

// TestServiceAfter: who waits for a service that failed waits for somebody.
func TestServiceAfter(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tc := range []struct {
		name, waits string
		apache      deliver.State
		age         time.Duration
		want        string
	}{
		{"held", "waits for apache, which is held", deliver.Held, time.Minute, `warn SERVICE service nginx: the delivery waits for apache, which is held, since 20.*Z // mend apache first: spinecert services apache$`},
		{"failed", "waits for apache, which is failed", deliver.Failed, time.Minute, `warn SERVICE service nginx: the delivery waits for apache, which is failed, since 20.* // mend apache first`},
		{"delivering", "waits for apache, which is delivering", deliver.Delivering, time.Minute, `ok SERVICE service nginx: the delivery waits for apache, which is delivering // $`},
		{"delivering for long", "waits for apache, which is delivering", deliver.Delivering, 2 * longDelivery, `warn SERVICE service nginx: the delivery waits for apache, which is delivering, since`},
		{"it waits no longer", "", deliver.Held, time.Minute, `ok SERVICE service nginx: the delivery is under way // $`},
	} {
		others := []deliver.Status{{Config: config.Service{Name: "other"}, State: deliver.Held}, {Config: config.Service{Name: "apache"}, State: tc.apache}}
		s := served{Inside: Inside{Now: now, Services: others}, service: config.Service{Name: "nginx", After: []string{"db", "apache"}},
			stands: deliver.Status{State: deliver.Delivering, Waits: tc.waits, Since: now.Add(-tc.age)}}
		r := &report{code: Service}
		serviceStands(t.Context(), s, r)
		for i := range r.lines {
			r.lines[i].Message += " // " + r.lines[i].Hint
		}
		if len(r.lines) != 1 || len(matching(r.lines, tc.want)) != 1 {
			t.Errorf("%s: want %q:\n%s", tc.name, tc.want, text(r.lines))
		}
	}
}

// TestServiceManyLines: each service has its own lines, and that the time was over is said once.
func TestServiceManyLines(t *testing.T) {
	t.Parallel()
	b := newBay(t)
	b.in.Config = &config.Config{}
	for i := range 50 {
		c := b.c
		c.Name = fmt.Sprintf("s%d", i)
		b.in.Config.Services = append(b.in.Config.Services, c)
	}
	lines := b.in.services(t.Context())
	for i := range 50 {
		if n := len(matching(lines, fmt.Sprintf("ok SERVICE service s%d: .* has room there", i))); n != 1 {
			t.Errorf("s%d has %d lines", i, n)
		}
	}
	ctx, cancel := contextEnded(t)
	defer cancel()
	for _, l := range b.in.services(ctx) {
		if l.Level != Warn || !strings.Contains(l.Message, "not examined") || l.Subject != "" {
			t.Errorf("%+v", l)
		}
	}
}
