package unit

import (
	"fmt"
	"slices"

	"github.com/spinecert/spinecert/internal/config"
)

func (n *Needs) note(format string, args ...any) {
	n.Notes = append(n.Notes, fmt.Sprintf(format, args...))
}

// hidden notes the files that the unit does not let the daemon see, and which no drop-in should give back.
func (n *Needs) hidden(c *config.Config) {
	var told []string
	look := func(what, path string) {
		for _, place := range []struct{ dir, why string }{
			{"/home", "ProtectHome="}, {"/root", "ProtectHome="}, {"/run/user", "ProtectHome="}, {"/tmp", "PrivateTmp="}, {"/var/tmp", "PrivateTmp="},
		} {
			if path != "" && config.Within(path, place.dir) && !slices.Contains(told, path) {
				told = append(told, path)
				n.note("%s, %q, lies where the daemon does not look (%s): move it, such as to /etc/spinecert", what, path, place.why)
			}
		}
	}
	if c.File != "" && c.File != configFile {
		n.note("the unit reads %s, and this is %q: copy it there once it is right", configFile, c.File)
	}
	look("the state directory", c.State.Directory)
	for _, e := range c.Environments {
		for _, path := range slices.Concat(e.Trust, e.CRL.Files) {
			look("a file of environment "+e.Name, path)
		}
	}
	for _, s := range c.Slots {
		for _, path := range []string{s.Files.Certificate, s.Files.Chain, s.Files.Key, s.Files.PKCS12, s.Files.PasswordFile} {
			look("a file of slot "+s.Name, path)
		}
	}
	for _, s := range c.Services {
		look("the directory of service "+s.Name, s.Directory)
		look("the runtime socket of service "+s.Name, s.Reload.Socket)
		look("the PID file of service "+s.Name, s.Reload.PIDFile)
		for _, f := range s.Files {
			look("a password of service "+s.Name, f.PasswordFile)
		}
	}
	for _, s := range c.Alerts.Sinks {
		for _, path := range []string{s.PasswordFile, s.URLFile, s.CA, s.Template} {
			look("a file of sink "+s.Name, path)
		}
	}
	for _, t := range c.Tunnels {
		if t.Forward.Network == "unix" {
			look("the socket that tunnel "+t.Name+" forwards to", t.Forward.Address)
		}
		for _, l := range t.Listen {
			if l.Network == "unix" {
				look("the socket of tunnel "+t.Name, l.Address)
			}
		}
	}
}
