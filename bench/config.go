package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// suiteOpenSSL is the one suite of the run, by OpenSSL's name; the client
// offers nothing else, so that spinecertd may keep its default list.
const suiteOpenSSL = "ECDHE-RSA-AES256-GCM-SHA384"

// site is what a configuration is written for: where a proxy listens, what it
// serves and whom it trusts.
type site struct {
	Dir     string   // of this instance: configuration, logs, state
	Backend string   // HOST:PORT
	Root    string   // file: the root alone
	Bundle  string   // file: root and subCA
	Clients []string // DNS names of the clients
	Suite   string
	// CRLs are files in DER, CRLFile is one in PEM for HAProxy. Without any,
	// revocation is not looked at.
	CRLs        []string
	CRLFile     string
	Connections int    // of a tunnel
	Doors       []door // one each, except in the run with ten slots
	Services    []told // what slot-0 is delivered to
	// What only one of the templates needs.
	Superuser    bool
	User, Group  string
	StreamModule string
}

// door is one listener with its identity.
type door struct {
	Listen      string // 127.0.0.1:PORT
	Certificate string // file: leaf and subCA
	Key         string // file
	Combined    string // file: certificate, then key
}

// told is a service: where its files go, and how it is told.
type told struct {
	Name    string
	Dir     string
	Reload  string // as in spinecert.yaml
	Address string // where it is looked at
}

// write renders the configuration of p and returns its file name.
func (s *site) write(p proxy) (string, error) {
	tmpl, err := template.New(p.name).Option("missingkey=error").Parse(p.config)
	if err != nil {
		return "", fmt.Errorf("parse template of %s: %w", p.name, err)
	}
	var text strings.Builder
	if err := tmpl.Execute(&text, s); err != nil {
		return "", fmt.Errorf("render configuration of %s: %w", p.name, err)
	}
	file := filepath.Join(s.Dir, p.name+".conf")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return "", fmt.Errorf("write configuration %q: %w", file, err)
	}
	return file, nil
}

// All of them log as they do by default, to a file in their directory.

// spinecertConfig follows CONTRACT.md, section 4. The limits are raised because
// all clients come from one address.
const spinecertConfig = `default_environment: bench
environments:
  bench:
    profile: private
    trust: ["{{.Bundle}}"]
{{- if .CRLs}}
    revocation: require
    crl: {hosts: [], files: [{{range $i, $f := .CRLs}}{{if $i}}, {{end}}"{{$f}}"{{end}}]}
{{- else}}
    revocation: off
{{- end}}
slots:
{{- range $i, $d := .Doors}}
  slot-{{$i}}:
    environment: bench
    files: {certificate: "{{$d.Certificate}}", key: "{{$d.Key}}"}
{{- end}}
tunnels:
{{- range $i, $d := .Doors}}
  door-{{$i}}:
    direction: inbound
    listen: ["{{$d.Listen}}"]
    forward: "{{$.Backend}}"
    slot: slot-{{$i}}
    peers: [{{range $i, $c := $.Clients}}{{if $i}}, {{end}}"{{$c}}"{{end}}]
    connections: {{$.Connections}}
{{- end}}
admin:
  socket: {path: "{{.Dir}}/admin.sock", group: "{{.Group}}"}
  writers: ["{{.User}}"]
state: {directory: "{{.Dir}}/state"}
limits: {per_source: 4000, connections: 12000}
{{- if .Services}}
services:
{{- range .Services}}
  {{.Name}}:
    slot: slot-0
    deliver: {directory: "{{.Dir}}", files: [{format: fullchain, name: fullchain.pem}, {format: key, name: key.pem}]}
    reload: {{.Reload}}
    probe: {address: "{{.Address}}", stable: 3, within: 30s}
{{- end}}
{{- end}}
`

// worker_processes auto and nbthread's default use every core, as Go does.
const nginxConfig = `load_module {{.StreamModule}};
daemon off;
{{if .Superuser}}user {{.User}};{{end}}
worker_processes auto;
worker_rlimit_nofile 16384;
pid {{.Dir}}/nginx.pid;
events { worker_connections 8192; }
stream {
    server {
{{- with index .Doors 0}}
        listen {{.Listen}} ssl;
        ssl_certificate {{.Certificate}};
        ssl_certificate_key {{.Key}};
{{- end}}
        ssl_client_certificate {{.Root}};
        ssl_verify_client on;
        ssl_verify_depth 2;
        ssl_protocols TLSv1.2;
        ssl_ciphers {{.Suite}};
        ssl_ecdh_curve X25519;
        ssl_session_cache shared:bench:10m;
        proxy_pass {{.Backend}};
    }
}
`

const haproxyConfig = `global
    maxconn 8000
defaults
    mode tcp
    timeout connect 5s
    timeout client 15m
    timeout server 15m
frontend door
{{- with index .Doors 0}}
    bind {{.Listen}} ssl crt {{.Combined}} ca-file {{$.Root}} verify required{{if $.CRLFile}} crl-file {{$.CRLFile}}{{end}} ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2 ciphers {{$.Suite}} curves X25519
{{- end}}
    default_backend plain
backend plain
    server one {{.Backend}}
`

// stunnel would also write each line to syslog, which is slow where there is none.
const stunnelConfig = `foreground = yes
syslog = no
pid =
[door]
{{- with index .Doors 0}}
accept = {{.Listen}}
cert = {{.Certificate}}
key = {{.Key}}
{{- end}}
connect = {{.Backend}}
CAfile = {{.Root}}
verifyChain = yes
sslVersion = TLSv1.2
ciphers = {{.Suite}}
curves = X25519
sessionCacheSize = 4000
`
