package tunnel

import (
	"context"
	"io/fs"
	"net"
)

// ListenUnix listens on a unix socket as a tunnel does: a file left behind by a
// killed process is replaced, a live one is an error, and nobody but the owner
// can connect before group and mode are as wanted. group is a name or number;
// "" leaves it. The file is removed when the listener is closed.
func ListenUnix(ctx context.Context, path string, mode fs.FileMode, group string) (net.Listener, error) {
	l := listen{Listen: Listen{Network: "unix", Address: path, Mode: mode, Group: group}, gid: -1}
	if group != "" {
		gid, err := lookupGroup(group)
		if err != nil {
			return nil, err
		}
		l.gid = gid
	}
	ln, err := l.openUnix(ctx)
	if err != nil {
		return nil, err
	}
	if unix, ok := ln.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(true)
	}
	return ln, nil
}
