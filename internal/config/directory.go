package config

import (
	"path/filepath"
	"slices"
)

// Directories of the system, in which nothing of a service belongs: what is delivered there is pruned, too.
var (
	systemDirectories  = []string{"/bin", "/boot", "/dev", "/etc/systemd", "/lib", "/lib32", "/lib64", "/proc", "/run/spinecert", "/sbin", "/sys", "/usr"}
	passingDirectories = []string{"/run", "/tmp", "/var/run"} // empty after a start of the host
)

// meantDirectory reports directories that cannot be meant: those of the system, and those that hold what the operator
// wrote or what the daemon reads. Paths are compared as they are written.
func (r *reading) meantDirectory(p place, s *Service, c *Config) {
	hint := "make a directory for the service alone, such as /etc/" + s.Name + "/spine"
	below := func(root string) bool { return Within(s.Directory, root) }
	if i := slices.IndexFunc(systemDirectories, below); i >= 0 {
		r.fail(p, "is "+systemDirectories[i]+", or lies in it, which is no place for the files of a service", hint)
		return
	}
	if s.Directory == "/etc" {
		r.fail(p, "must not be /etc itself", hint)
		return
	}
	if what := r.held(s, c); what != "" {
		r.fail(p, "holds "+what, hint)
		return
	}
	if i := slices.IndexFunc(passingDirectories, below); i >= 0 {
		r.warn(p, "what lies in "+passingDirectories[i]+" is gone after a restart of the host: the service finds no files until they are delivered again", hint)
	}
}

// held names what a directory holds that is not of a service, or returns "".
func (r *reading) held(s *Service, c *Config) string {
	holds := func(file string) bool { return file != "" && Within(filepath.Dir(file), s.Directory) }
	if filepath.IsAbs(r.directory) && Within(r.directory, s.Directory) {
		return "the configuration"
	}
	for _, e := range c.Environments {
		if slices.ContainsFunc(e.Trust, holds) || slices.ContainsFunc(e.CRL.Files, holds) {
			return "files with the trust of environment " + e.Name
		}
	}
	slot, _ := c.Slot(s.Slot)
	if f := slot.Files; slices.ContainsFunc([]string{f.Certificate, f.Chain, f.Key, f.PKCS12, f.PasswordFile}, holds) {
		return "the files that slot " + s.Slot + " is read from, and could not be told from what is delivered"
	}
	return ""
}
