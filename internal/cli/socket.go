package cli

import (
	"errors"
	"fmt"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
)

// defaultSocket is the admin socket where no configuration names another.
const defaultSocket = "/run/spinecert/admin.sock"

// daemonAddress says where the daemon listens, and what stood in the way of
// finding out.
type daemonAddress struct {
	socket string
	doubt  string // why socket may be the wrong one
}

// findDaemon takes --socket, else what the configuration says, else the default.
// A configuration that cannot be read is no error: reload is asked for just then.
func (g globalOptions) findDaemon() daemonAddress {
	if g.socket != "" {
		return daemonAddress{socket: g.socket}
	}
	file := g.config
	if file == "" {
		file = defaultConfig
	}
	c, err := config.Load(file)
	if err == nil {
		return daemonAddress{socket: c.Admin.Socket}
	}
	if socket, _ := config.Places(file); socket != "" {
		return daemonAddress{socket: socket} // the daemon may well run on an earlier state of the file
	}
	d := daemonAddress{socket: defaultSocket}
	switch exit, _ := classify(err); {
	case exit == exitUsage:
		d.doubt = fmt.Sprintf("%s has mistakes (spinecert config check), so that its admin.socket.path is not known: name it with --socket", file)
	case g.config != "":
		d.doubt = fmt.Sprintf("%s cannot be read, so that its admin.socket.path is not known: name it with --socket", file)
	}
	return d
}

func (d daemonAddress) client() *admin.Client { return admin.NewClient(d.socket) }

// explain adds the doubt to an error that says nobody is there.
func (d daemonAddress) explain(err error) error {
	var gone *admin.Unreachable
	if d.doubt == "" || !errors.As(err, &gone) {
		return err
	}
	exit, code := classify(err)
	return &exitError{exit: exit, code: code, err: err, hint: d.doubt}
}
