package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The codes of findings.
const (
	CodeUnreadable  = "unreadable"   // cannot be read, or is not what it should be
	CodeMode        = "mode"         // others may read or write it
	CodeOwner       = "owner"        // belongs to another user than the state directory
	CodeKeyMismatch = "key_mismatch" // a key is not that of its certificate, CSR or ID
	CodeDigest      = "digest"       // content is not what its description says
	CodeChain       = "chain"        // certificates did not issue each other
	CodeMissing     = "missing"      // a file is not there
	CodeStray       = "stray"        // nothing of this name belongs there
	CodeTemporary   = "temporary"    // left behind by a crash
	CodeCurrent     = "current"      // the link names no generation
)

// The modes of what is in the state directory.
const (
	dirPermissions   = 0o700
	filePermissions  = uint32(fileMode)
	inboxPermissions = 0o3770
	olderInbox       = 0o2770 // of earlier versions; Lock makes it sticky where it may
	anyPermissions   = 0o7777
	othersMayWrite   = 0o022
)

// mendHint is the next action where content is damaged.
const mendHint = "restore it from a backup; a slot leaves a generation that is not whole with spinecert rollback, or with its next certificate"

// settled is how old a temporary is that nobody writes any more.
const settled = time.Minute

// Finding is something in the state directory that is not as it should be.
type Finding struct {
	Path    string
	Code    string
	Message string // for people
	Hint    string // the next action, may be empty
}

// Verify looks at every generation, request, added CA certificate, kept CRL and record of a
// service, and at the modes and owners of all files. It counts what it looked at. It may be called
// while another process writes the directory: what goes meanwhile is no finding.
// The error says that the directory cannot be read at all, or that ctx ended.
func (d *Directory) Verify(ctx context.Context) (checked int, findings []Finding, err error) {
	return d.verify(ctx, time.Now().Add(-settled))
}

// verify reports temporaries that did not change since old. Whoever holds the lock
// knows that all of them are left over.
func (d *Directory) verify(ctx context.Context, old time.Time) (int, []Finding, error) {
	st, err := d.lstat(".")
	if err != nil {
		return 0, nil, fail("read state directory", d.path, err)
	}
	v := &verifier{d: d, owner: st.Uid, old: old}
	if mode := st.Mode & anyPermissions; mode&othersMayWrite != 0 {
		v.find(".", CodeMode, fmt.Sprintf("its mode %#o lets others write it", mode), fmt.Sprintf("chmod go-w %q", d.path))
	}
	names, err := d.names(".")
	if err != nil {
		return 0, nil, err
	}
	for _, name := range names {
		v.top(name)
	}
	v.inbox()
	for _, slot := range v.list(slotsName) {
		if err := ctx.Err(); err != nil {
			return v.checked, v.findings, err
		}
		v.slot(slot)
	}
	for _, environment := range v.list(trustName) {
		v.trust(environment)
	}
	for _, environment := range v.list(crlName) {
		if err := ctx.Err(); err != nil {
			return v.checked, v.findings, err
		}
		v.crls(environment)
	}
	v.services()
	return v.checked, v.findings, ctx.Err()
}

// verifier is one run of Verify.
type verifier struct {
	d        *Directory
	owner    uint32
	old      time.Time
	checked  int
	findings []Finding
}

// find adds a finding. Of what is found twice in one place, once by kind and once by
// content, the first counts.
func (v *verifier) find(name, code, message, hint string) {
	f := Finding{Path: v.d.abs(name), Code: code, Message: message, Hint: hint}
	recent := v.findings[max(0, len(v.findings)-32):]
	if !slices.ContainsFunc(recent, func(o Finding) bool { return o.Path == f.Path && o.Code == f.Code }) {
		v.findings = append(v.findings, f)
	}
}

// broken is a finding about something that cannot be read.
func (v *verifier) broken(name string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		v.find(name, CodeMissing, "is missing", mendHint)
		return
	}
	var f *failure
	if errors.As(err, &f) {
		err = f.err
	}
	v.find(name, CodeUnreadable, fmt.Sprint(cause(err)), mendHint)
}

// top looks at one entry of the state directory.
func (v *verifier) top(name string) {
	switch name {
	case slotsName, trustName, crlName, servicesName:
		v.entry(name, unix.S_IFDIR, dirPermissions)
	case lockName, "audit.jsonl", "audit.jsonl.1", "alerts.json":
		v.entry(name, unix.S_IFREG, filePermissions)
	case inboxName, "lost+found":
	default:
		if !hidden(name) || ownTemporary(name) { // it may be a user's home
			v.odd(name)
		}
	}
}

// inbox looks at the directories of the inbox; what is in them is not the state's.
func (v *verifier) inbox() {
	for _, name := range []string{inboxName, inboxName + "/done", inboxName + "/rejected"} {
		if !v.d.exists(name) {
			v.find(name, CodeMissing, "is missing", "systemd-tmpfiles --create spinecert.conf; without that file the daemon makes it when it starts")
			continue
		}
		v.entry(name, unix.S_IFDIR, inboxPermissions, olderInbox)
	}
}

// list returns the names in a directory that may belong there.
func (v *verifier) list(dir string) []string {
	names, err := v.d.names(dir)
	if err != nil {
		v.broken(dir, err)
	}
	var out []string
	for _, name := range names {
		if !hidden(name) && checkName("slot", name) == nil {
			out = append(out, name)
		} else {
			v.odd(join(dir, name))
		}
	}
	return out
}

// odd reports what does not belong where it is: a temporary that nobody writes any
// more, or a stray file.
func (v *verifier) odd(name string) {
	base := name[strings.LastIndex(name, "/")+1:]
	if !hidden(base) {
		v.find(name, CodeStray, "does not belong here", "look what it is, and move it out of the state directory")
		return
	}
	st, err := v.d.lstat(name)
	if err != nil {
		return // gone
	}
	changed := time.Unix(st.Ctim.Unix())
	if m := time.Unix(st.Mtim.Unix()); m.After(changed) {
		changed = m
	}
	if v.d.lock != nil || changed.Before(v.old) {
		v.find(name, CodeTemporary, "was left behind by a crash", "it goes when the daemon starts, or with the next change; it may hold a key: rm -r it otherwise")
	}
}

// entry looks at kind, owner and mode of something that may be there, and reports
// whether it is, and of this kind. Other modes may do as well.
func (v *verifier) entry(name string, kind, mode uint32, also ...uint32) bool {
	st, err := v.d.lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false
	case err != nil:
		v.broken(name, err)
		return false
	case !isKind(st, kind):
		want := "a regular file"
		if kind == unix.S_IFDIR {
			want = "a directory"
		}
		v.find(name, CodeUnreadable, "is "+kindName(st)+", want "+want, mendHint)
		return false
	}
	path := v.d.abs(name)
	if st.Uid != v.owner {
		v.find(name, CodeOwner, fmt.Sprintf("belongs to user %d, the state directory to %d", st.Uid, v.owner), fmt.Sprintf("chown --reference=%q %q", v.d.path, path))
	}
	if got := st.Mode & anyPermissions; got != mode && !slices.Contains(also, got) {
		v.find(name, CodeMode, fmt.Sprintf("its mode is %#o, want %#o", got, mode), modeHint(name, path, mode))
	}
	return true
}

// modeHint says more where others may have read a key.
func modeHint(name, path string, mode uint32) string {
	hint := fmt.Sprintf("chmod %04o %q", mode, path)
	if strings.HasPrefix(name, slotsName) {
		hint += ", then consider whether the keys below it are still secret"
	}
	return hint
}

func kindName(st unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a pipe"
	}
	return "a device or a socket"
}

// unit looks at a directory that goes as a whole; if it went meanwhile, nothing was
// found in it.
func (v *verifier) unit(dir string, files []string, look func()) {
	before := len(v.findings)
	if v.entry(dir, unix.S_IFDIR, dirPermissions) {
		v.checked++
		v.files(dir, files)
		look()
	}
	if len(v.findings) > before && !v.d.exists(dir) {
		v.findings = v.findings[:before]
	}
}

// files looks at the entries of a directory that holds these files. Those that are
// missing are found by who reads them.
func (v *verifier) files(dir string, known []string) {
	names, err := v.d.names(dir)
	if err != nil {
		v.broken(dir, err)
	}
	for _, name := range names {
		if slices.Contains(known, name) {
			v.entry(join(dir, name), unix.S_IFREG, filePermissions)
		} else {
			v.odd(join(dir, name))
		}
	}
}
