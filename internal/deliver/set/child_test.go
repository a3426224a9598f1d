package set

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/durable"
)

const envChild = "SPINECERT_TEST_SET_CHILD"

// The users and groups of these tests, which no host has.
const (
	daemonID  = 47110 // user and group of the daemon
	serviceID = 47111 // of a service
	sharedID  = 47112 // a group that the daemon may belong to
)

// errand is what a child does as the daemon's user.
type errand struct {
	Dir     string
	Files   []File
	Set     string // if not "", it checks and reads this one and writes nothing
	Entries []Entry
}

// told is what came of it.
type told struct {
	Reason, Error, Hint string
	Set                 string
	Entries             []Entry
}

func child(what string) int {
	var e errand
	if err := json.Unmarshal([]byte(what), &e); err != nil {
		panic(err)
	}
	var out told
	err := func() error {
		t, err := Open(e.Dir, durable.Disk{})
		if err != nil {
			return err
		}
		defer t.Close()
		if e.Set != "" {
			_, err := t.Read(e.Set, e.Entries[0])
			out.Set = failure.ReasonOf(err, "")
			return t.Check(e.Set, e.Entries, true)
		}
		if out.Set, out.Entries, err = t.Write(e.Files, now); err != nil {
			return err
		}
		if err := t.Switch(out.Set); err != nil {
			return err
		}
		if _, err := t.See(out.Set, out.Entries); err != nil {
			return err
		}
		return t.Prune()
	}()
	if err != nil {
		out.Reason, out.Error = failure.ReasonOf(err, "none"), err.Error()
		var f *failure.Error
		if errors.As(err, &f) {
			out.Hint = f.Hint()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		return 1
	}
	return 0
}

// asDaemon delivers in a process of the daemon's user.
func asDaemon(t *testing.T, e errand, groups []uint32, caps ...uintptr) told {
	t.Helper()
	what, err := json.Marshal(e)
	must(t, err)
	// By this name the path to the test's file does not matter, which root alone may go.
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), envChild+"="+string(what), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: daemonID, Gid: daemonID, Groups: groups}, AmbientCaps: caps}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	data, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, stderr.String())
	}
	var out told
	must(t, json.Unmarshal(data, &out))
	return out
}

// wantTold wants a reason, and words in the error or the hint.
func (o told) want(t *testing.T, reason string, words ...string) {
	t.Helper()
	if o.Reason != reason {
		t.Errorf("%s, reason %q, want %q", o.Error, o.Reason, reason)
	}
	for _, w := range words {
		if !strings.Contains(o.Error+"\n"+o.Hint, w) {
			t.Errorf("%q is neither in %q nor in the hint %q", w, o.Error, o.Hint)
		}
	}
}

// TestAsTheDaemon delivers as a user who is not root.
func TestAsTheDaemon(t *testing.T) {
	needRoot(t)
	key := func(uid, gid int, mode os.FileMode) []File {
		return []File{{Name: "cert.pem", Data: []byte("c"), Mode: 0o644, UID: -1, GID: -1}, {Name: "key.pem", Data: []byte("k"), Mode: mode, UID: uid, GID: gid}}
	}
	type prepare func(dir string) error
	mine := func(d string) error { return errors.Join(os.Mkdir(d, 0o755), os.Chown(d, daemonID, daemonID)) }
	for name, c := range map[string]struct {
		prepare prepare
		files   []File
		groups  []uint32
		caps    []uintptr
		reason  string
		words   []string
		uid     int
		gid     int
		mode    os.FileMode
	}{
		"its own":        {prepare: mine, files: key(-1, -1, 0o600), uid: daemonID, gid: daemonID, mode: 0o600},
		"by group":       {prepare: mine, files: key(-1, sharedID, 0o640), groups: []uint32{sharedID}, uid: daemonID, gid: sharedID, mode: 0o640},
		"other group":    {prepare: mine, files: key(-1, sharedID, 0o640), reason: failure.NotWritable, words: []string{"usermod -aG 47112 47110", "SupplementaryGroups=47112"}},
		"other owner":    {prepare: mine, files: key(serviceID, -1, 0o600), reason: failure.NotWritable, words: []string{"CAP_CHOWN", "47111"}},
		"with CAP_CHOWN": {prepare: mine, files: key(serviceID, serviceID, 0o600), caps: []uintptr{unix.CAP_CHOWN}, uid: serviceID, gid: serviceID, mode: 0o600},
		"setgid directory": {prepare: func(d string) error {
			return errors.Join(os.Mkdir(d, 0o755), os.Chown(d, daemonID, sharedID), os.Chmod(d, os.ModeSetgid|0o755))
		}, files: key(-1, -1, 0o600), uid: daemonID, gid: daemonID, mode: 0o600},
		"root's directory": {prepare: func(d string) error { return os.Mkdir(d, 0o755) }, files: key(-1, -1, 0o600), reason: failure.NotWritable, words: []string{"chown 47110", "ReadWritePaths="}},
		"read-only":        {prepare: func(d string) error { return errors.Join(mine(d), os.Chmod(d, 0o555)) }, files: key(-1, -1, 0o600), reason: failure.NotWritable},
		"root's group writes, and it is ours": {prepare: func(d string) error { return errors.Join(os.Mkdir(d, 0o755), os.Chmod(d, 0o775)) },
			files: key(-1, -1, 0o600), groups: []uint32{0}, uid: daemonID, gid: daemonID, mode: 0o600},
		"somebody else's": {prepare: func(d string) error { return errors.Join(os.Mkdir(d, 0o755), os.Chown(d, serviceID, daemonID)) }, files: key(-1, -1, 0o600),
			reason: failure.UnsafeDirectory, words: []string{"chown 47110", "belongs to 47111", "0755"}},
		"missing": {prepare: func(string) error { return nil }, files: key(-1, -1, 0o600), reason: failure.DirectoryMissing, words: []string{"install -d -o 47110 -m 0755 "}},
		"above it nobody may look": {prepare: func(d string) error {
			return errors.Join(mine(d), os.Chmod(filepath.Dir(d), 0o711))
		}, files: key(-1, -1, 0o600), uid: daemonID, gid: daemonID, mode: 0o600},
		"above it nobody gets in": {prepare: func(d string) error {
			return errors.Join(mine(d), os.Chmod(filepath.Dir(d), 0o700))
		}, files: key(-1, -1, 0o600), reason: failure.NotWritable, words: []string{"chmod o+x"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(openDirectory(t), "spine")
			must(t, c.prepare(dir))
			out := asDaemon(t, errand{Dir: dir, Files: c.files}, c.groups, c.caps...)
			out.want(t, c.reason, c.words...)
			if c.reason != "" {
				if names, err := os.ReadDir(dir); err == nil && len(names) > 0 {
					t.Errorf("%v is left", names)
				}
				return
			}
			info, err := os.Stat(filepath.Join(dir, Link, "key.pem"))
			must(t, err)
			st := info.Sys().(*syscall.Stat_t)
			if int(st.Uid) != c.uid || int(st.Gid) != c.gid || info.Mode() != c.mode {
				t.Errorf("the key belongs to %d:%d with mode %v, want %d:%d and %v", st.Uid, st.Gid, info.Mode(), c.uid, c.gid, c.mode)
			}
			wantNames(t, dir, out.Set, Link)
		})
	}
}

// TestGivenAway: what the daemon cannot read any more is judged by its ctime.
func TestGivenAway(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(openDirectory(t), "spine")
	must(t, os.Mkdir(dir, 0o755), os.Chown(dir, daemonID, daemonID))
	files := []File{{Name: "key.pem", Data: []byte("k"), Mode: 0o600, UID: serviceID, GID: serviceID}}
	made := asDaemon(t, errand{Dir: dir, Files: files}, nil, unix.CAP_CHOWN)
	made.want(t, "")
	look := errand{Dir: dir, Set: made.Set, Entries: made.Entries}
	out := asDaemon(t, look, nil)
	out.want(t, "")
	if out.Set != failure.NotWritable {
		t.Errorf("reading what may not be read is %q", out.Set)
	}
	tick(t, filepath.Join(dir, made.Set))
	must(t, rewrite(filepath.Join(dir, made.Set, "key.pem")))
	asDaemon(t, look, nil).want(t, failure.Drift, "it was changed")
}
