package config

import (
	"io/fs"
	"time"
)

// A Service is a local program that reads files: they are delivered, it is told, and it is seen to serve them.
type Service struct {
	Name      string
	Slot      string // exists
	Directory string // absolute; the stable paths are Directory/current/NAME
	Files     []ServiceFile
	Validate  Command // the zero value: none
	Reload    Reload
	Probes    []Probe       // what must serve the identity of the slot; nil for none
	ProbeExec Command       // in place of Probes: a command that ends with 0 once the service is right; its Unit is ""
	Within    time.Duration // how long ProbeExec may be tried; the largest Within of Probes
	KeepBad   bool          // on_failure: keep; what was not proved stays in place
	After     []string      // services of this configuration that must be proved first; no cycles
}

// A ServiceFile is one file of a set.
type ServiceFile struct {
	Format       string // one of [format.Names]
	Name         string // without a directory, each once in a service
	Owner        string // name or uid; "" keeps the daemon's own
	Group        string // name or gid; "" keeps the daemon's own
	Mode         fs.FileMode
	PasswordFile string // of pkcs12, jks and trust-pkcs12; else ""
}

// A Command is a program to run, or a unit of systemd that runs it.
type Command struct {
	Exec    []string // the first is an absolute path; nil for a unit or none
	Unit    string   // NAME.service; "" for a program or none
	Timeout time.Duration
}

// The ways to have a service read its files again.
const (
	ReloadUnit    = "unit"    // a job of systemd, over D-Bus
	ReloadHAProxy = "haproxy" // its runtime socket
	ReloadSignal  = "signal"
	ReloadExec    = "exec"
	ReloadNone    = "none" // it watches its files itself
)

// A Reload says how a service is told, and when it may be.
type Reload struct {
	Kind       string   // one of the above; beside ReloadHAProxy there may be one more, which is Otherwise
	Unit       string   // ReloadUnit: NAME.service
	Action     string   // ReloadUnit: "reload", "restart" or "try-restart"
	Socket     string   // ReloadHAProxy: absolute path
	Signal     string   // ReloadSignal: HUP, USR1, USR2, WINCH or TERM
	PIDFile    string   // ReloadSignal: absolute path
	Exec       []string // ReloadExec
	Timeout    time.Duration
	Window     *Window       // nil: at any time
	WindowWait time.Duration // how long the window is waited for at most
}

// Otherwise is the way to reload beside HAProxy's socket, for what that cannot take, or "".
func (r Reload) Otherwise() string {
	switch {
	case r.Kind != ReloadHAProxy:
	case r.Unit != "":
		return ReloadUnit
	case r.Signal != "":
		return ReloadSignal
	case len(r.Exec) > 0:
		return ReloadExec
	}
	return ""
}

// A Window is a part of each day in local time.
type Window struct {
	From, To time.Duration // since midnight, below 24h; To before From is on the next day
}

// The protocols of a Probe.
const (
	ProbeTLS      = "tls"
	ProbePostgres = "postgres"
	ProbeLDAP     = "ldap"
	ProbeSMTP     = "smtp"
)

// A Probe is a handshake with a service.
type Probe struct {
	Address    string // host:port, or unix:/path
	ServerName string // SNI; "" sends none where Address is an address, else its host
	Protocol   string // one of the above
	Stable     int    // handshakes in a row
	Within     time.Duration
}
