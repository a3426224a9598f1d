package sandbox

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// program is a server that may take part in a rehearsal: what is its own.
type program struct {
	name        string   // of the executable, and of the service
	pkg         string   // of Debian, that has it
	files       []string // delivered: the items of deliver.files
	run         []string // arguments to run it in the foreground
	validate    []string // arguments to judge its configuration
	reload      string   // the section reload of the service; a text like those below
	file        string   // of its configuration
	config      string   // what is in it
	needs       string   // the delivered file that it does not start without
	unknownLine string   // what breaks its configuration
}

// programs returns those there are. Their texts have places for what belongs to one
// sandbox: see service.fill.
//
// Each reads a second file of configuration, which breaks it on demand, and answers
// requests itself: whatever fails is not of a server behind it.
func programs() []program {
	nginx := []string{"-e", "{dir}/error.log", "-p", "{dir}", "-c", "{dir}/nginx.conf"}
	return []program{{
		name: "nginx", pkg: "nginx-light",
		files:       []string{"{format: fullchain, name: fullchain.pem}", "{format: key, name: key.pem}"},
		run:         nginx,
		validate:    append([]string{"-t", "-q"}, nginx...),
		reload:      "{exec: [{program}, " + strings.Join(nginx, ", ") + ", -s, reload]}",
		needs:       "key.pem",
		unknownLine: "no_such_directive on;\n",
		file:        "nginx.conf",
		config: `# Written by spinecert sandbox.
{user}daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {
    worker_connections 256;
}
http {
    access_log off;
    client_body_temp_path {dir}/tmp;
    proxy_temp_path {dir}/tmp;
    fastcgi_temp_path {dir}/tmp;
    uwsgi_temp_path {dir}/tmp;
    scgi_temp_path {dir}/tmp;
    server {
        listen {address} ssl;
        server_name {host};
        ssl_protocols TLSv1.2;
        ssl_certificate {dir}/spine/current/fullchain.pem;
        ssl_certificate_key {dir}/spine/current/key.pem;
        return 200 "{answer}";
    }
    include {dir}/extra.conf;
}
`,
	}, {
		name: "haproxy", pkg: "haproxy",
		files:       []string{"{format: combined, name: combined.pem}"},
		run:         []string{"-db", "-f", "{dir}/haproxy.cfg", "-f", "{dir}/extra.conf"},
		validate:    []string{"-c", "-q", "-f", "{dir}/haproxy.cfg", "-f", "{dir}/extra.conf"},
		reload:      "{haproxy: {socket}}",
		needs:       "combined.pem",
		unknownLine: "no-such-section\n",
		file:        "haproxy.cfg",
		config: `# Written by spinecert sandbox.
global
    nbthread 1
    maxconn 100
    stats socket {socket} mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend service
    bind {address} ssl crt {dir}/spine/current/combined.pem ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2
    http-request return status 200 content-type text/plain string "{answer}"
`,
	}}
}

// Programs returns the names of the programs that [RehearseOptions.Services] may name.
func Programs() []string {
	var names []string
	for _, p := range programs() {
		names = append(names, p.name)
	}
	return names
}

// installed is a program that is there.
type installed struct {
	program
	path string
}

// serverDirectories are where programs of administrators are, which the PATH of
// others does not name.
func serverDirectories() []string { return []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} }

// findPrograms looks for programs in PATH and in directories. All that is missing is
// in the error, which is one of usage.
func findPrograms(names, directories []string) ([]installed, error) {
	var found []installed
	var missing, packages []string
	for i, name := range names {
		n := slices.IndexFunc(programs(), func(p program) bool { return p.name == name })
		switch {
		case n < 0:
			return nil, usageError{message: fmt.Sprintf("service %q: unknown", name), hint: "use " + strings.Join(Programs(), " or ") + ", or both with a comma"}
		case slices.Contains(names[:i], name):
			return nil, usageError{message: fmt.Sprintf("service %q is named twice", name), hint: "name it once"}
		}
		p := programs()[n]
		path := find(name, directories)
		if path == "" {
			missing, packages = append(missing, name), append(packages, p.pkg)
			continue
		}
		found = append(found, installed{p, path})
	}
	if len(missing) > 0 {
		where := strings.Join(append([]string{"PATH"}, directories...), ", ")
		return nil, usageError{
			message: fmt.Sprintf("services: not installed: %s (looked in %s)", strings.Join(missing, ", "), where),
			hint:    "apt-get install " + strings.Join(packages, " ") + ", or leave them out",
		}
	}
	return found, nil
}

// find returns the absolute path of a program, "" if it is nowhere.
func find(name string, directories []string) string {
	if path, err := exec.LookPath(name); err == nil && filepath.IsAbs(path) {
		return path
	}
	for _, dir := range directories {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}
