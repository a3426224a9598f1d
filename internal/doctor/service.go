package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/deliver/set"
	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// served is one service.
type served struct {
	Inside
	service config.Service
	stands  deliver.Status // State is "" where no daemon runs
	daemon  account
	units   *units
}

// servicesAtOnce bounds how many services are looked at: most of it is waiting.
const servicesAtOnce = 16

// services looks at all of them.
func (in Inside) services(ctx context.Context) []Line {
	all := in.Services
	if all == nil {
		for _, c := range in.Config.Services {
			all = append(all, deliver.Status{Config: c})
		}
	}
	if len(all) == 0 {
		return nil
	}
	daemon, units := in.daemon(), newUnits()
	defer units.close()
	lines := examine(ctx, in, []check[Inside]{{Service, hookUnit}})
	return append(lines, each(len(all), servicesAtOnce, func(i int) []Line {
		return examine(ctx, served{in, all[i].Config, all[i], daemon, units}, []check[served]{
			{Service, serviceStands}, {Service, serviceDirectory}, {Service, serviceFiles}, {Service, servicePasswords}, {Service, serviceLabels},
			{Service, servicePrograms}, {Service, serviceReload}, {Service, serviceProbe},
		})
	})...)
}

// longDelivery is how long something may be waited for before somebody should look.
const longDelivery = time.Hour

// serviceStands: it was seen to serve what its slot has.
func serviceStands(_ context.Context, s served, r *report) {
	c, st := s.service, s.stands
	tells := condition.ID(condition.ServiceFailed, condition.Service, c.Name, "")
	switch st.State {
	case "": // no daemon
	case deliver.InSync:
		if v := st.Served; len(c.Probes) > 0 && v.Generation != 0 {
			r.ok(c.Name, "service %s serves generation %d of slot %s since %s", c.Name, v.Generation, c.Slot, stamp(v.Since))
			return
		}
		r.ok(c.Name, "service %s has generation %d of slot %s since %s", c.Name, st.Proved.Generation, c.Slot, stamp(st.Proved.Since))
	case deliver.Delivering:
		s.delivering(r)
		r.as(tells)
	default:
		what := "its delivery failed"
		if st.State == deliver.Held {
			what = fmt.Sprintf("it stays on generation %d, and generation %d is held: its delivery failed", st.Proved.Generation, st.Desired.Generation)
		}
		r.fail(c.Name, againHint(st.Hint, c.Name), "service %s: %s at %q since %s (%s): %s", c.Name, what, st.Step, stamp(st.Since), st.Reason, st.Error)
		r.as(tells)
	}
}

// delivering: a delivery that is under way, or waits for what comes by itself, is well for an hour. What waits for
// material that is not there, or for a service that failed, waits for somebody.
func (s served) delivering(r *report) {
	name, st := s.service.Name, s.stands
	switch hint := cmp.Or(st.Hint, "spinecert services says how all of them stand"); {
	case st.Waits != "" && !strings.HasPrefix(st.Waits, "waits"):
		r.warn(name, hint, "service %s waits since %s, as %s", name, stamp(st.Since), st.Waits)
	case s.stuckBefore() != "":
		before := s.stuckBefore()
		r.warn(name, "mend "+before+" first: spinecert services "+before, "service %s: the delivery %s, since %s", name, st.Waits, stamp(st.Since))
	case st.Window || s.Now.Sub(st.Since) < longDelivery: // which ends by itself
		r.ok(name, "service %s: the delivery %s", name, cmp.Or(st.Waits, "is under way"))
	default:
		r.warn(name, hint, "service %s: the delivery %s, since %s", name, cmp.Or(st.Waits, "is under way"), stamp(st.Since))
	}
}

// stuckBefore returns the service that the delivery waits for, where that one is held or failed; else "".
func (s served) stuckBefore() string {
	if !strings.HasPrefix(s.stands.Waits, "waits for ") {
		return ""
	}
	for _, name := range s.service.After { // in the order in which they are waited for
		for _, other := range s.Services {
			if other.Config.Name == name && (other.State == deliver.Held || other.State == deliver.Failed) {
				return name
			}
		}
	}
	return ""
}

// againHint adds the command that tries a delivery again.
func againHint(hint, name string) string {
	if strings.Contains(hint, "spinecert deliver") {
		return hint
	}
	return strings.TrimPrefix(hint+"; once it is mended: spinecert deliver "+name+" --now", "; ")
}

// directoryLook is what is found of a directory.
type directoryLook struct {
	err  error // of opening it, or of what `current` is
	room unix.Statfs_t
	rerr error // of room
}

// serviceDirectory: the daemon, and nobody but root beside it, may write there.
func serviceDirectory(ctx context.Context, s served, r *report) {
	c := s.service
	found, err := as(ctx, s.daemon, func() directoryLook {
		var l directoryLook
		target, err := set.Open(c.Directory, durable.Disk{})
		if err == nil {
			_, l.err = target.Current()
			l.rerr = unix.Statfs(c.Directory, &l.room)
			l.err = errors.Join(l.err, target.Close())
		} else {
			l.err = err
		}
		return l
	})
	switch {
	case err != nil:
		r.warn(c.Name, asHint(err), "service %s: the directory %q cannot be looked at: %v", c.Name, c.Directory, err)
	case found.err != nil:
		r.fail(c.Name, directoryHint(found.err, s.daemon), "service %s: %v", c.Name, found.err)
	case found.rerr != nil:
		r.warn(c.Name, "df "+shell(c.Directory), "service %s: how much room is in %q cannot be found out: %v", c.Name, c.Directory, found.rerr)
	case !room(c, found.room, r):
	default:
		r.ok(c.Name, "service %s: %s alone may write %q, and has room there", c.Name, s.daemon.name(), c.Directory)
	}
}

func asHint(err error) string {
	if errors.Is(err, errLate) {
		return "is it on a file system that does not answer? mount; df"
	}
	return "run as root, or as the user of the daemon"
}

// directoryHint is that of package set. What is somebody else's may also be another
// mount in the daemon's unit.
func directoryHint(err error, by account) string {
	return cmp.Or(pki.Hint(err), "the daemon is "+by.name()+": look with namei -l")
}

// What is needed for some sets: a set is a few files of some KiB, CRLs some hundred.
const (
	leastRoom  = 4 << 20 // bytes
	leastNodes = 64
)

// room reports whether there is some for more sets. A file system without a number of
// inodes counts none.
func room(c config.Service, st unix.Statfs_t, r *report) bool {
	hint := fmt.Sprintf("make room: df -h %[1]s; df -i %[1]s", shell(c.Directory))
	free := st.Bavail * uint64(st.Bsize)
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		r.fail(c.Name, "mount it for writing", "service %s: the file system of %q is mounted for reading only", c.Name, c.Directory)
	case free == 0 || st.Files > 0 && st.Ffree == 0:
		r.fail(c.Name, hint, "service %s: the file system of %q is full", c.Name, c.Directory)
	case free < leastRoom:
		r.warn(c.Name, hint, "service %s: the file system of %q has %d KiB left", c.Name, c.Directory, free>>10)
	case st.Files > 0 && st.Ffree < leastNodes:
		r.warn(c.Name, hint, "service %s: the file system of %q has %d inodes left", c.Name, c.Directory, st.Ffree)
	default:
		return true
	}
	return false
}

// serviceFiles: owners and groups are there, and the daemon may give files to them.
func serviceFiles(_ context.Context, s served, r *report) {
	before, told := len(r.lines), map[string]bool{}
	for _, f := range s.service.Files {
		if f.Owner != "" && !told["user "+f.Owner] {
			told["user "+f.Owner] = true
			s.owner(f, r)
		}
		if f.Group != "" && !told["group "+f.Group] {
			told["group "+f.Group] = true
			s.group(f, r)
		}
	}
	if len(r.lines) == before && len(told) > 0 {
		r.ok(s.service.Name, "service %s: %s may give files to the users and groups that they are for", s.service.Name, s.daemon.name())
	}
}

func (s served) owner(f config.ServiceFile, r *report) {
	name := s.service.Name
	id, err := config.UserID(f.Owner)
	switch {
	case err != nil:
		r.fail(name, "make the user, or name another in owner", "service %s: there is no user %q on this host, who should own %s", name, f.Owner, f.Name)
	case int(id) != s.daemon.uid && !s.daemon.may(unix.CAP_CHOWN):
		s.notGiven(r, "hand it over by group instead, or: systemctl edit spinecertd, [Service] AmbientCapabilities=CAP_CHOWN CapabilityBoundingSet=CAP_CHOWN, on a line each; systemctl restart spinecertd",
			"service %s: %s may not give %s to user %s, without CAP_CHOWN", name, s.daemon.name(), f.Name, f.Owner)
	}
}

func (s served) group(f config.ServiceFile, r *report) {
	name, us := s.service.Name, s.daemon.name()
	id, err := config.GroupID(f.Group)
	switch {
	case err != nil:
		r.fail(name, "groupadd "+f.Group+", or name another in group", "service %s: there is no group %q on this host, which should have %s", name, f.Group, f.Name)
	case s.daemon.may(unix.CAP_CHOWN) || s.daemon.member(id):
	case s.daemon.running && databaseAccount(s.daemon.uid).member(id):
		r.fail(name, "systemctl restart spinecertd", "service %s: %s became a member of group %s after the daemon was started, which cannot give it %s yet", name, us, f.Group, f.Name)
	default:
		s.notGiven(r, fmt.Sprintf("usermod -aG %[1]s %[2]s, or: systemctl edit spinecertd, [Service] SupplementaryGroups=%[1]s; then systemctl restart spinecertd", f.Group, us),
			"service %s: %s is no member of group %s, and may not give it %s", name, us, f.Group, f.Name)
	}
}

// notGiven fails where the process was asked. The user database does not know what a
// drop-in gives it.
func (s served) notGiven(r *report, hint, format string, args ...any) {
	if s.daemon.running {
		r.fail(s.service.Name, hint, format, args...)
		return
	}
	r.warn(s.service.Name, hint, format+"; the unit of the daemon, which does not run, may give it more", args...)
}

// servicePasswords: the daemon may read them, and nobody else.
func servicePasswords(ctx context.Context, s served, r *report) {
	before := len(r.lines)
	var paths []string
	for _, f := range s.service.Files {
		if f.PasswordFile != "" && !slices.Contains(paths, f.PasswordFile) {
			paths = append(paths, f.PasswordFile)
			s.password(ctx, f.PasswordFile, r)
		}
	}
	if len(r.lines) == before && len(paths) > 0 {
		r.ok(s.service.Name, "service %s: %s may read the %s, and others may not", s.service.Name, s.daemon.name(), plural(len(paths), "password file"))
	}
}

// statLook is what the kernel says of a file to the daemon.
type statLook struct {
	info os.FileInfo
	err  error
}

func (s served) password(ctx context.Context, path string, r *report) {
	name := s.service.Name
	found, err := as(ctx, s.daemon, func() statLook {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe is not waited for
		if err != nil {
			return statLook{err: err}
		}
		defer f.Close()
		info, err := f.Stat()
		return statLook{info, err}
	})
	if err != nil {
		r.warn(name, asHint(err), "service %s: the password file %q cannot be looked at: %v", name, path, err)
		return
	}
	if credential, ok := rotate.CredentialName(path); ok && found.err != nil {
		r.fail(name, rotate.CredentialAdvice(credential, found.err), "service %s: %s cannot read the password, credential %q: %v", name, s.daemon.name(), credential, found.err)
		return
	}
	if found.err != nil {
		r.fail(name, fmt.Sprintf("chown %s %s; chmod 0400 %s; and the directories above need o+x: namei -l %s", s.daemon.name(), shell(path), shell(path), shell(path)),
			"service %s: %s cannot read the password file: %v", name, s.daemon.name(), found.err)
		return
	}
	mode, owner, group := found.info.Mode(), uid(found.info), gid(found.info)
	switch {
	case !mode.IsRegular():
		r.fail(name, "name a file", "service %s: the password file %q is no file", name, path)
	case mode&0o007 != 0:
		r.fail(name, fmt.Sprintf("chmod o-rwx %s, and choose another password", shell(path)), "service %s: the password file %q has mode %04o: everybody may read or write it", name, path, mode.Perm())
	case found.info.Size() == 0:
		r.fail(name, "write the password into its first line", "service %s: the password file %q is empty", name, path)
	case owner != 0 && owner != s.daemon.uid:
		r.warn(name, fmt.Sprintf("chown %s %s", s.daemon.name(), shell(path)), "service %s: the password file %q belongs to user %d: neither root nor the daemon", name, path, owner)
	case mode&0o060 != 0 && group != 0 && group != s.daemon.gid:
		r.warn(name, fmt.Sprintf("chmod g-rwx %s, with the daemon's user as owner", shell(path)), "service %s: the password file %q has mode %04o: the group %s may read or write it", name, path, mode.Perm(), groupName(group))
	}
}

// stable is the path that the configuration of the service names.
func (s served) stable(name string) string {
	return filepath.Join(s.service.Directory, set.Link, name)
}

// shell quotes a word for a command in a hint.
func shell(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("/._-+@%:,=", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
