package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/spinecert/spinecert/internal/state"
)

// configPermissions: whoever writes the configuration is the daemon.
func configPermissions(_ context.Context, in Inside, r *report) {
	before := len(r.lines)
	in.notWritable(r, "the configuration", in.Config.File)
	in.notWritable(r, "the directory of the configuration", filepath.Dir(in.Config.File))
	if len(r.lines) == before {
		r.ok(in.Config.File, "others cannot write the configuration %q", in.Config.File)
	}
}

// trustPermissions: whoever writes a trust file decides who is trusted, and whoever
// writes a list who is revoked.
func trustPermissions(_ context.Context, in Inside, r *report) {
	before, n := len(r.lines), 0
	for _, e := range in.Config.Environments {
		for _, path := range slices.Concat(e.Trust, e.CRL.Files) {
			in.notWritable(r, "the file of environment "+e.Name, path)
			n++
		}
	}
	if len(r.lines) == before {
		r.ok("trust", "others cannot write the %s of trust and CRLs", plural(n, "file"))
	}
}

// notWritable says where others than the owner may write something.
func (in Inside) notWritable(r *report, what, path string) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err != nil && isCredential(path): // whoever needs it says so
	case err != nil:
		r.warn(path, "run as root, or as the user of the daemon", "%s cannot be looked at: %v", what, err)
	case info.Mode()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0:
		r.fail(path, fmt.Sprintf("chmod o-w %q", path), "%s, %q, has mode %04o: everybody may write it", what, path, info.Mode().Perm())
	case info.Mode()&0o020 != 0 && gid(info) != 0 && !in.ownGroup(info):
		r.warn(path, fmt.Sprintf("chmod g-w %q, unless that is meant", path), "%s, %q, has mode %04o: the group %s may write it", what, path, info.Mode().Perm(), groupName(gid(info)))
	}
}

// ownGroup: a user's own group has the user's own number on most systems.
func (in Inside) ownGroup(info fs.FileInfo) bool { return gid(info) == uid(info) }

// keyPermissions: a key that others may read is theirs.
func keyPermissions(_ context.Context, in Inside, r *report) {
	before, n := len(r.lines), 0
	for _, s := range in.Config.Slots {
		for _, f := range []struct{ what, path string }{{"key", s.Files.Key}, {"pkcs12", s.Files.PKCS12}, {"password file", s.Files.PasswordFile}} {
			if f.path == "" {
				continue
			}
			n++
			in.secret(r, fmt.Sprintf("the %s of slot %s", f.what, s.Name), f.path, s.StrictPermissions)
		}
	}
	if len(r.lines) == before && n > 0 {
		r.ok("keys", "nobody else may read the %s with keys and passwords", plural(n, "file"))
	}
}

func (in Inside) secret(r *report, what, path string, strict bool) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err != nil && isCredential(path) {
		return // the slot says so
	}
	if err != nil {
		r.warn(path, "run as root, or as the user of the daemon", "%s cannot be looked at: %v", what, err)
		return
	}
	mode := info.Mode().Perm()
	switch {
	case mode&0o002 != 0, mode&0o004 != 0 && strict:
		r.fail(path, fmt.Sprintf("chmod o-rwx %q; if others were on this host, ask for a certificate on a new key", path), "%s, %q, has mode %04o: everybody may read or write it", what, path, mode)
	case mode&0o007 != 0:
		r.warn(path, fmt.Sprintf("chmod o-rwx %q, and set key_permissions: strict", path), "%s, %q, has mode %04o: everybody may read it, and key_permissions allows that", what, path, mode)
	case mode&0o020 != 0 && !in.ownGroup(info):
		r.warn(path, fmt.Sprintf("chmod g-w %q", path), "%s, %q, has mode %04o: the group %s may replace it", what, path, mode, groupName(gid(info)))
	}
	if owner := uid(info); owner != 0 && in.UID >= 0 && owner != in.UID {
		r.warn(path, fmt.Sprintf("chown root %q, with the group of the daemon, mode 0640", path), "%s, %q, belongs to user %d: neither root nor the daemon", what, path, owner)
	}
}

// mostFindings bounds the lines about one directory.
const mostFindings = 10

// statePermissions: the state directory is the daemon's alone. Whoever needs more
// than modes and owners gets it all from state verify.
func statePermissions(ctx context.Context, in Inside, r *report) {
	path := in.Config.State.Directory
	if in.Directory == nil {
		if in.DirectoryErr != nil {
			r.fail(path, "run as root, or as the user of the daemon", "%v", in.DirectoryErr)
			return
		}
		r.warn(path, "the daemon makes it when it starts", "there is no state directory %q", path)
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		r.fail(path, "give the way to it back to the user of the daemon", "the state directory cannot be looked at: %v", err)
		return
	}
	before := len(r.lines)
	switch mode := info.Mode().Perm(); {
	case mode&0o022 != 0:
		r.fail(path, fmt.Sprintf("chmod 0700 %q", path), "the state directory %q has mode %04o: others may write it", path, mode)
	case mode&0o067 != 0:
		r.warn(path, fmt.Sprintf("chmod 0700 %q, or 0710 where a group drops answers into the inbox", path), "the state directory %q has mode %04o: others may look into it", path, mode)
	}
	if owner := uid(info); in.UID >= 0 && owner != in.UID {
		r.fail(path, fmt.Sprintf("chown -R %d %q while the daemon is stopped", in.UID, path), "the state directory %q belongs to user %d, and the daemon is user %d", path, owner, in.UID)
	}
	checked, findings, err := in.Directory.Verify(ctx)
	if err != nil && ctx.Err() == nil {
		r.fail(path, "spinecert state verify", "the state directory cannot be read: %v", err)
		return
	}
	for i, f := range findings {
		if i == mostFindings {
			r.warn(path, "spinecert state verify", "%s more in the state directory", plural(len(findings)-i, "finding"))
			break
		}
		if f.Path == path {
			continue // said above
		}
		if f.Code == state.CodeMode || f.Code == state.CodeOwner {
			r.fail(f.Path, f.Hint, "%q %s", f.Path, f.Message)
		} else {
			r.warn(f.Path, cmp.Or(f.Hint, "spinecert state verify"), "%q: %s: %s", f.Path, f.Code, f.Message)
		}
	}
	switch {
	case ctx.Err() != nil:
		r.warn(path, moreTime+", or see spinecert state verify", "the state directory was not looked through to its end")
	case len(r.lines) == before:
		r.ok(path, "the state directory %q is its owner's alone; %d things in it are as they should be, the inbox too", path, checked)
	}
}

// socketPermissions: who reaches the socket may read, and there is one group of them.
func socketPermissions(_ context.Context, in Inside, r *report) {
	path := in.Config.Admin.Socket
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // no daemon, which has a line of its own
	}
	if err != nil {
		r.warn(path, "run as root, or as the user of the daemon", "the admin socket cannot be looked at: %v", err)
		return
	}
	want := in.Config.Admin.Group
	switch mode := info.Mode().Perm(); {
	case info.Mode()&fs.ModeSocket == 0:
		r.fail(path, "see what it is, and remove it", "%q is no socket", path)
	case mode&0o007 != 0:
		r.fail(path, "restart the daemon, and find out what changed it", "the admin socket %q has mode %04o: everybody may ask the daemon", path, mode)
	case want != "" && groupName(gid(info)) != want && strconv.Itoa(gid(info)) != want:
		r.fail(path, "does the daemon belong to the group? id spinecert; then restart it", "the admin socket %q belongs to the group %s, and not to %s", path, groupName(gid(info)), want)
	default:
		r.ok(path, "the admin socket %q is for its owner and the group %s", path, groupName(gid(info)))
	}
}

func uid(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

func gid(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return -1
}

func groupName(id int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(id)); err == nil {
		return g.Name
	}
	return strconv.Itoa(id)
}
