package config

import (
	"strings"
	"testing"
)

// problemsOf reads a configuration, and returns what it is refused for and warned of, with the keys.
func problemsOf(t *testing.T, data string) (refused, warned string) {
	t.Helper()
	c, err := Parse([]byte(data), "/etc/spinecert/spinecert.yaml")
	if err != nil {
		return err.Error(), ""
	}
	var b strings.Builder
	for _, w := range c.Warnings() {
		b.WriteString(w.Error() + "\n")
	}
	return "", b.String()
}

// Directories of the system, of the configuration and of what the daemon reads are not those of a service.
func TestServiceDirectory(t *testing.T) {
	const refused, warned, fine = "is refused", "is warned of", "is fine"
	for directory, want := range map[string]struct{ what, text string }{
		"/etc":                         {refused, "must not be /etc itself"},
		"/usr":                         {refused, "is /usr, or lies in it"},
		"/usr/local/etc/nginx":         {refused, "is /usr, or lies in it"},
		"/usr-local/nginx":             {fine, ""},
		"/bin":                         {refused, "/bin"},
		"/sbin/nginx":                  {refused, "/sbin"},
		"/lib/x":                       {refused, "/lib"},
		"/lib64":                       {refused, "/lib64"},
		"/boot/x":                      {refused, "/boot"},
		"/proc/1/root":                 {refused, "/proc"},
		"/sys/fs":                      {refused, "/sys"},
		"/dev/shm":                     {refused, "/dev"},
		"/run/spinecert":               {refused, "/run/spinecert"},
		"/run/spinecert/nginx":         {refused, "/run/spinecert"},
		"/etc/systemd":                 {refused, "/etc/systemd"},
		"/etc/systemd/system":          {refused, "/etc/systemd"},
		"/etc/spinecert":               {refused, "holds the configuration"},
		"/etc/spinecert/../spinecert/": {refused, "holds the configuration"},
		"/etc/spinecert/nginx":         {fine, ""},
		"/etc/spinecert/trust":         {refused, "holds files with the trust of environment live"},
		"/srv/lists":                   {refused, "holds files with the trust of environment live"},
		"/srv":                         {refused, "holds files with the trust of environment live"},
		"/etc/pki":                     {refused, "holds the files that slot pcs is read from"},
		"/etc/pki/spine":               {fine, ""},
		"/etc/keys":                    {refused, "holds the files that slot pcs is read from"},
		"/etc/other":                   {fine, ""},
		"/etc/nginx/spine":             {fine, ""},
		"/run/nginx":                   {warned, "what lies in /run is gone after a restart"},
		"/tmp/nginx":                   {warned, "what lies in /tmp is gone after a restart"},
		"/var/run/nginx":               {warned, "what lies in /var/run is gone after a restart"},
		"/runner":                      {fine, ""},
	} {
		data := `environments: {live: {trust: [trust/live.pem], crl: {files: [/srv/lists/a.crl]}}}
slots:
  pcs: {files: {certificate: /etc/pki/pcs.crt, key: /etc/keys/deep/pcs.key}}
  sds: {files: {certificate: /etc/other/sds.crt, key: /etc/other/sds.key}}
services: {a: {slot: pcs, reload: none, probe: {address: "127.0.0.1:443"}, deliver: {directory: ` + directory + `, files: [{format: combined, name: a}]}}}
`
		problems, warnings := problemsOf(t, data)
		got := fine
		switch {
		case problems != "":
			got = refused
		case warnings != "":
			got = warned
		}
		if text := problems + warnings; got != want.what || !strings.Contains(text, want.text) || got != fine && !strings.Contains(text, ": services.a.deliver.directory: ") {
			t.Errorf("%s %s, want that it %s with %q:\n%s", directory, got, want.what, want.text, text)
		}
	}
}

// A key alone proves nothing: the handshake would show a certificate that was not delivered.
func TestKeyAlone(t *testing.T) {
	for files, good := range map[string]bool{
		"[{format: key, name: k}]":                                                                                                                 false,
		"[{format: chain, name: c}, {format: key, name: k}]":                                                                                       false,
		"[{format: key, name: k}, {format: trust-pem, name: t}, {format: crl-pem, name: l}]":                                                       false,
		"[{format: key, name: k}, {format: trust-pkcs12, name: t, password_file: /p}]":                                                             false,
		"[{format: key, name: k}, {format: cert, name: c}]":                                                                                        true,
		"[{format: key, name: k}, {format: fullchain, name: c}]":                                                                                   true,
		"[{format: key, name: k}, {format: der, name: c}]":                                                                                         true,
		"[{format: key, name: k}, {format: combined, name: c}]":                                                                                    true,
		"[{format: key, name: k}, {format: pkcs12, name: c, password_file: /p}]":                                                                   true,
		"[{format: key, name: k}, {format: jks, name: c, password_file: /p}]":                                                                      true,
		"[{format: chain, name: c}, {format: trust-pem, name: t}]":                                                                                 true,
		"[{format: ldaprc, name: l}, {format: key, name: k}, {format: trust-pem, name: t}, {format: cert, name: c}, {format: fullchain, name: f}]": true,
	} {
		problems, _ := problemsOf(t, service(files, "none", "none"))
		if good != (problems == "") || !good && (strings.Count(problems, "\n") > 0 || !strings.Contains(problems, ".format: a private key is delivered without its certificate")) {
			t.Errorf("%s: %q, want good %t", files, problems, good)
		}
	}
}

// Whoever asks a tunnel of spinecert is answered by spinecert, and learns nothing of the service.
func TestProbeOfTunnel(t *testing.T) {
	const refused, warned, fine = "is refused", "is warned of", "is fine"
	for _, tc := range []struct{ listen, probe, want string }{
		{"127.0.0.1:4430", "127.0.0.1:4430", refused},
		{"127.0.0.1:4430", "127.0.0.1:4431", fine},
		{"127.0.0.1:4430", "127.0.0.2:4430", fine},
		{"127.0.0.1:4430", "[::1]:4430", fine},
		{"127.0.0.1:4430", "[::ffff:127.0.0.1]:4430", refused},
		{"127.0.0.1:4430", "0.0.0.0:4430", refused},
		{"127.0.0.1:4430", "localhost:4430", refused},
		{"[::1]:4430", "LOCALHOST:4430", refused},
		{"192.0.2.1:4430", "localhost:4430", fine},
		{"192.0.2.1:4430", "192.0.2.1:4430", refused},
		{"192.0.2.1:4430", "web.local:4430", warned},
		{"192.0.2.1:4430", "web.local:443", fine},
		{"0.0.0.0:4430", "127.0.0.1:4430", refused},
		{"0.0.0.0:4430", "192.0.2.1:4430", refused},
		{"0.0.0.0:4430", "[::1]:4430", fine},
		{"[::]:4430", "[::1]:4430", refused},
		{"[::]:4430", "127.0.0.1:4430", refused},
		{":4430", "127.0.0.1:4430", refused},
		{"unix:/run/a.sock", "unix:/run/a.sock", refused},
		{"unix:/run/a.sock", "unix:/run/b.sock", fine},
		{"unix:/run/4430", "127.0.0.1:4430", fine},
	} {
		data := `environments: {live: {trust: [live.pem], crl: {hosts: [crl.nhs.uk]}}}
slots: {pcs: {files: {certificate: a.crt, key: a.key}}}
tunnels: {in: {direction: inbound, listen: ["` + tc.listen + `"], forward: 127.0.0.1:8080, slot: pcs, peers: [a.nhs.uk]}}
services: {a: {slot: pcs, deliver: {directory: /etc/a, files: [{format: combined, name: a}]}, reload: none, probe: [{address: "127.0.0.1:1"}, {address: "` + tc.probe + `"}]}}
`
		problems, warnings := problemsOf(t, data)
		got, text := fine, problems+warnings
		switch {
		case problems != "":
			got = refused
		case warnings != "":
			got = warned
		}
		if got != tc.want || got != fine && (!strings.Contains(text, ": services.a.probe[1].address: ") || !strings.Contains(text, "tunnel in")) {
			t.Errorf("a probe of %s %s while a tunnel listens on %s, want that it %s:\n%s", tc.probe, got, tc.listen, tc.want, text)
		}
	}
}
