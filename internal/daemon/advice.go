package daemon

import (
	"errors"
	"io/fs"
	"net"
	"os/user"
	"syscall"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// advised adds the next action to an error.
type advised struct {
	error
	hint string
}

// Unwrap returns the error itself.
func (a advised) Unwrap() error { return a.error }

// Hint returns the next action.
func (a advised) Hint() string { return a.hint }

// adviseListen says what to do about an address that cannot be listened on.
func adviseListen(err error) error {
	if pki.Hint(err) != "" {
		return err // it says itself
	}
	var group user.UnknownGroupError
	hint := "see who has the address with ss -lntxp; stop that program, or name another address"
	switch {
	case errors.As(err, &group):
		hint = "make the group first (groupadd), or name another"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "the address is none of this host; ip address lists those that are"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		hint = "a port below 1024 is root's: name another; or have systemd open it for the tunnel: spinecert config systemd prints a socket unit for it"
		if onDisk(err) {
			hint = "make the directory of the socket writable for the daemon's user; spinecert config systemd prints what its unit needs"
		}
	case errors.Is(err, syscall.EROFS):
		hint = "the unit lets the daemon write to /run/spinecert and its state directory alone: put the socket there, or see spinecert config systemd"
	case errors.Is(err, syscall.ENOENT):
		hint = "make the directory of the socket first, writable for the daemon's user"
	}
	return advised{err, hint}
}

// onDisk reports whether it is a file that err is about, such as that of a unix socket.
func onDisk(err error) bool {
	var op *net.OpError
	var path *fs.PathError
	return errors.As(err, &op) && op.Net == "unix" || errors.As(err, &path)
}

// advice is the hint of a refusal, or, where its cause says no more, what can be
// done about its reason.
func advice(r *rotate.Refusal) string {
	if hint := r.Hint(); hint != "" {
		return hint
	}
	switch r.Reason {
	case "unreadable":
		return "name a regular file; a directory, FIFO or device is not read"
	case "too_large":
		return "is it the right file? What is read has at most 1 MiB, a CRL at most crl.max_size"
	case "source_incoherent":
		return "put the whole file there, of the right kind; it is taken by itself (spinecert inspect FILE says what it holds)"
	case "malformed":
		return "spinecert inspect FILE says what a file holds"
	}
	return ""
}

// ruleWay is what lets a candidate pass the guard rule that refused it, in parentheses;
// "" for what no rule refused.
func ruleWay(r *rotate.Refusal) string {
	if hint := advice(r); r.Rule != "" && hint != "" {
		return " (" + hint + ")"
	}
	return ""
}

// adviceOf is advice for what an event carries.
func adviceOf(err error) string {
	var r *rotate.Refusal
	if errors.As(err, &r) {
		return advice(r)
	}
	return pki.Hint(err)
}
