package daemon

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/pki"
)

// TestAdviseListen: who may not listen is told what to do about the one thing that it was.
func TestAdviseListen(t *testing.T) {
	bind := os.NewSyscallError("bind", syscall.EACCES)
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"low port", &net.OpError{Op: "listen", Net: "tcp4", Err: bind}, "prints a socket unit for it"},
		{"low port of admin.http.listen", bind, "a port below 1024"},
		{"directory", &net.OpError{Op: "listen", Net: "unix", Err: bind}, "directory of the socket writable"},
		{"directory that the unit does not give", &net.OpError{Op: "listen", Net: "unix", Err: os.NewSyscallError("bind", syscall.EROFS)}, "spinecert config systemd"},
		{"mode", &os.PathError{Op: "chmod", Path: "/run/x.sock", Err: syscall.EPERM}, "directory of the socket writable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if hint := pki.Hint(adviseListen(fmt.Errorf("open: %w", tc.err))); !strings.Contains(hint, tc.want) {
				t.Errorf("hint %q, want one with %q", hint, tc.want)
			}
		})
	}
}
