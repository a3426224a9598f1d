package config

// The raw structs of services; see raw.go.

type rawService struct {
	Place     place
	Slot      text                `yaml:"slot" doc:"The identity that is delivered. Several services may have one slot. Needed."`
	Deliver   rawDeliver          `yaml:"deliver" doc:"What is written, and where. Needed."`
	Validate  orNone[rawValidate] `yaml:"validate" doc:"What must succeed, with the new files in place, before the service is told: exec or unit; absent, empty or the word none: nothing is run."`
	Reload    orNone[rawReload]   `yaml:"reload" doc:"How the service is told: exactly one of unit, haproxy, signal and exec; or the word none, for one that watches its files itself. Needed."`
	Probe     rawProbes           `yaml:"probe" doc:"What proves that the service has what was delivered: a handshake with it, a list of such handshakes, exec, or the word none. Needed."`
	OnFailure text                `yaml:"on_failure" default:"rollback" enum:"rollback|keep" doc:"rollback: what is not proved is taken back, for the last set that was. keep: it stays, and only the failure is reported."`
	After     list[text]          `yaml:"after" doc:"Services that must be proved first. Others are served at the same time."`
}

type rawDeliver struct {
	Place     place
	Written   written
	Directory path                 `yaml:"directory" doc:"Directory of this service alone, which exists, and not one of the system; the stable paths are DIRECTORY/current/NAME. Needed."`
	Files     list[rawServiceFile] `yaml:"files" doc:"The files of the set; all of them change in one step. Needed."`
}

type rawServiceFile struct {
	Place        place
	Format       text `yaml:"format" enum:"cert|chain|fullchain|key|combined|der|pkcs12|jks|trust-pem|trust-pkcs12|crl-pem|ldaprc" doc:"What is in the file. Needed."`
	Name         text `yaml:"name" doc:"Name of the file in the set, without a directory: letters, digits, '.', '_' and '-'. Needed."`
	Owner        text `yaml:"owner" doc:"User who owns the file, by name or uid; empty: the daemon's own. Needs the drop-in with CAP_CHOWN."`
	Group        text `yaml:"group" doc:"Group of the file, by name or gid, of which the daemon is a member; empty: the daemon's own."`
	Mode         text `yaml:"mode" auto:"0644; with a private key in it 0600, or 0640 if a group is named" doc:"Permissions, octal. A file with a private key (key, combined, pkcs12, jks) must not be for others, nor be writable for its group."`
	PasswordFile path `yaml:"password_file" credential:"yes" doc:"File with the password of pkcs12, jks or trust-pkcs12, which need one: a path or credential:NAME."`
}

type rawValidate struct {
	Place   place
	Exec    list[text] `yaml:"exec" doc:"A program, with its absolute path, and its arguments; no shell reads them. 0 is success."`
	Unit    text       `yaml:"unit" doc:"A unit of systemd, NAME.service, of type oneshot, which is run anew (restarted) each time. Empty: none."`
	Timeout duration   `yaml:"timeout" default:"30s" min:"100ms" max:"1h" doc:"How long it may take."`
}

type rawReload struct {
	Place      place
	Unit       text       `yaml:"unit" doc:"A unit of systemd, NAME.service. Needs the polkit rule for it."`
	Action     text       `yaml:"action" default:"reload" enum:"reload|restart|try-restart" doc:"What the unit is to do. Only with unit."`
	HAProxy    path       `yaml:"haproxy" doc:"Runtime socket of HAProxy, of level admin: its certificates, CAs and CRLs are replaced without a reload. One of unit, signal and exec may stand beside it, for what the socket cannot take."`
	Signal     text       `yaml:"signal" enum:"HUP|USR1|USR2|WINCH|TERM" doc:"A signal to the process of pid_file."`
	PIDFile    path       `yaml:"pid_file" doc:"File with the number of the process. Needed with signal, and only with it."`
	Exec       list[text] `yaml:"exec" doc:"A program, with its absolute path, and its arguments; no shell reads them. 0 is success."`
	Timeout    duration   `yaml:"timeout" default:"90s" min:"100ms" max:"1h" doc:"How long it may take."`
	Window     text       `yaml:"window" doc:"Part of the day, HH:MM-HH:MM in local time, in which the service is told; it may cross midnight. Empty: at any time."`
	WindowWait duration   `yaml:"window_wait" default:"7d" min:"1s" max:"90d" doc:"How long the window is waited for at most. It counts no longer, too, when what the service has would end before the next one. Only with window."`
}

type rawProbe struct {
	Place      place
	Address    text       `yaml:"address" doc:"HOST:PORT or unix:/path of the service, not of a tunnel. Every address of a name is asked."`
	ServerName text       `yaml:"server_name" auto:"host of address, unless an address" doc:"Name sent in SNI."`
	Protocol   text       `yaml:"protocol" default:"tls" enum:"tls|postgres|ldap|smtp" doc:"How TLS begins: at once, or as the protocol asks for it (STARTTLS)."`
	Stable     count      `yaml:"stable" default:"3" min:"1" max:"100" doc:"Handshakes in a row that must show the leaf and chain that were delivered."`
	Within     duration   `yaml:"within" default:"30s" min:"100ms" max:"1h" doc:"How long after it was told the service may take to show them."`
	Exec       list[text] `yaml:"exec" doc:"Instead of a handshake: a program, with its absolute path, and its arguments, which is tried until it ends with 0. Only within stands beside it."`
}
