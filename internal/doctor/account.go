package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// account is the user that the daemon runs as, as far as the kernel asks who it is.
type account struct {
	uid, gid     int
	groups       []int  // beside gid
	capabilities uint64 // effective
	running      bool   // read of the process; else of the user database, which does not know drop-ins
}

// packaged is the user that the packages make.
const packaged = "spinecert"

// daemon returns who the daemon is, or will be once it is started.
func (in Inside) daemon() account {
	if in.PID > 0 {
		// What says that it holds the state directory need not be what it was.
		if a, err := processAccount(in.PID); err == nil && (in.UID < 0 || a.uid == in.UID) {
			return a
		}
	}
	uid := in.UID
	if uid < 0 {
		uid = os.Geteuid()
		if u, err := user.Lookup(packaged); err == nil {
			uid, _ = strconv.Atoi(u.Uid)
		}
	}
	return databaseAccount(uid)
}

// processAccount reads who a process is, proc_pid_status(5).
func processAccount(pid int) (account, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return account{}, err
	}
	a := account{uid: -1, gid: -1, running: true}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		words := strings.Fields(value)
		switch key {
		case "Uid", "Gid": // real, effective, saved, of the file system
			if len(words) != 4 {
				return account{}, fmt.Errorf("read /proc/%d/status: unknown form", pid)
			}
			id, err := strconv.Atoi(words[1])
			if err != nil {
				return account{}, err
			}
			if key == "Uid" {
				a.uid = id
			} else {
				a.gid = id
			}
		case "Groups":
			a.groups = numbers(words)
		case "CapEff":
			if a.capabilities, err = strconv.ParseUint(strings.Join(words, ""), 16, 64); err != nil {
				return account{}, err
			}
		}
	}
	if a.uid < 0 || a.gid < 0 {
		return account{}, fmt.Errorf("read /proc/%d/status: it does not say who it is", pid)
	}
	return a, nil
}

// databaseAccount is a user as it comes of a login, or of a unit without drop-ins.
func databaseAccount(uid int) account {
	a := account{uid: uid, gid: uid}
	if uid == 0 {
		a.capabilities = ^uint64(0)
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return a
	}
	if gid, err := strconv.Atoi(u.Gid); err == nil {
		a.gid = gid
	}
	if groups, err := u.GroupIds(); err == nil {
		a.groups = numbers(groups)
	}
	return a
}

func numbers(words []string) []int {
	var out []int
	for _, w := range words {
		if n, err := strconv.Atoi(w); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// may reports whether it has a capability.
func (a account) may(capability int) bool { return a.capabilities&(1<<capability) != 0 }

// member reports whether it may give its files to a group.
func (a account) member(gid int) bool { return gid == a.gid || slices.Contains(a.groups, gid) }

// name is the user as people know it.
func (a account) name() string {
	id := strconv.Itoa(a.uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// errNotDaemon is for who may not look as the daemon does.
var errNotDaemon = errors.New("only root, and the user of the daemon, can find out what the daemon may do")

// errLate is for a file system that does not answer.
var errLate = errors.New("its file system does not answer in time")

// diskWait is how long a file system is waited for.
const diskWait = 5 * time.Second

// as asks the kernel something as the user of the daemon: modes, access lists and
// mounts are judged by who applies them, and not once more here. A file system that
// hangs holds up nothing else.
func as[T any](ctx context.Context, a account, look func() T) (T, error) {
	var zero T
	own := os.Geteuid()
	if own != a.uid && own != 0 {
		return zero, errNotDaemon
	}
	type answer struct {
		found T
		err   error
	}
	answers := make(chan answer, 1)
	go elsewhere(own != a.uid, func() {
		var got answer
		if own != a.uid {
			got.err = a.become()
		}
		if got.err == nil {
			got.found = look()
		}
		answers <- got
	})
	ctx, cancel := context.WithTimeout(ctx, diskWait)
	defer cancel()
	select {
	case got := <-answers:
		return got.found, got.err
	case <-ctx.Done():
		return zero, errLate
	}
}

// elsewhere does something on a thread that ends with it, if that is to be so. It is
// never the first thread, which cannot end: that one is who the process is for others.
func elsewhere(ends bool, do func()) {
	if !ends {
		do()
		return
	}
	runtime.LockOSThread() // and never unlocked, but below
	if unix.Gettid() != os.Getpid() {
		do()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		do()
	}()
	<-done // held meanwhile, the first thread is not taken for it
	runtime.UnlockOSThread()
}

// become makes this thread, and no other, one of the user. The functions of package
// syscall would change all of them.
func (a account) become() error {
	if err := unix.Setgroups(a.groups); err != nil { // of the thread: it is the plain system call
		return os.NewSyscallError("setgroups", err)
	}
	uid, gid := uintptr(a.uid), uintptr(a.gid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return os.NewSyscallError("setresgid", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return os.NewSyscallError("setresuid", errno)
	}
	if os.Geteuid() != a.uid || os.Getegid() != a.gid {
		return fmt.Errorf("become user %d: the kernel made it another", a.uid)
	}
	return nil
}
