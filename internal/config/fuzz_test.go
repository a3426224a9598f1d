package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: nothing panics, every error is Problems with a place inside the file, and a secret that stands anywhere in
// the file as a value is never quoted.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good_*.yaml", "testdata/bad_*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(data))
		}
	}
	f.Add("environments: {live: {trust: [SECRET, \"SECRET\"]}}\nSECRET\n")
	f.Add("environments:\n  live:\n    crl: {proxy: SECRET}\n    revocation: SECRET\n")
	f.Add("log: {level: |SECRET\n")
	f.Add("services:\n  a: {slot: SECRET, deliver: {directory: SECRET, files: [SECRET, {format: SECRET, name: SECRET, owner: SECRET, group: SECRET, mode: SECRET, password_file: SECRET}]}}\n")
	f.Add("services:\n  a: {reload: SECRET, probe: SECRET, validate: {exec: [/a, SECRET], unit: SECRET}, after: [SECRET], on_failure: SECRET}\n")
	f.Add("services:\n  a: {reload: {unit: SECRET, action: SECRET, signal: SECRET, haproxy: \"@SECRET\", exec: [SECRET, SECRET], window: SECRET}, probe: {exec: [SECRET], address: SECRET}}\n")
	f.Add("services:\n  a: {reload: {unit: a, exec: \"/a SECRET\"}, probe: [{address: SECRET, server_name: SECRET, protocol: SECRET, stable: SECRET}, SECRET]}\n")
	f.Add("alerts: {expiry: {leaf: [SECRET], ca: SECRET}, request_pending: [SECRET, 1d], repeat: {warning: SECRET}, sinks: {SECRET: {}, a: {type: SECRET, SECRET: a}}}\n")
	f.Add("alerts: {sinks: {a: {type: email, to: [SECRET, \"a <SECRET>\"], from: SECRET, smtp: \"SECRET:25\", tls: SECRET, server_name: SECRET, username: SECRET, password_file: \"https://SECRET\", ca: \"credential:SECRET/\"}}}\n")
	f.Add("alerts: {sinks: {a: {type: webhook, url: \"https://u:SECRET@a.b/SECRET?SECRET#SECRET\", url_file: \"https://SECRET\", format: SECRET, template: \"~/SECRET\"}, b: {type: alertmanager, url: \"http://SECRET:9093/\"}}}\n")
	f.Add("alerts: {sinks: {a: {type: exec, command: [SECRET, SECRET]}, b: {type: exec, command: SECRET}}}\nadmin: {http: {listen: SECRET, slot: SECRET, peers: [SECRET]}}\n")
	f.Fuzz(func(t *testing.T, data string) {
		const secret = "p@ssw0rd=s3cr3t"
		data = strings.ReplaceAll(data, "SECRET", secret) + "\nadmin_password: " + secret + "\n"
		c, err := Parse([]byte(data), "/etc/spinecert/f.yaml")
		if err == nil {
			t.Fatalf("the unknown key was not found: %+v", c)
		}
		problems, ok := errors.AsType[Problems](err)
		if !ok || c != nil || len(problems) == 0 {
			t.Fatalf("Parse = %v, %v", c, err)
		}
		lines := 1 + strings.Count(data, "\n") + strings.Count(data, "\r")
		for _, p := range problems {
			if strings.Contains(p.Error()+p.Hint, secret) {
				t.Errorf("a secret is quoted: %v, %s", p, p.Hint)
			}
			if p.Line < 0 || p.Line > lines || p.Column < 0 {
				t.Errorf("line %d of %d, column %d", p.Line, lines, p.Column)
			}
			if strings.ContainsAny(p.Error()+p.Hint, "\n\r\t") {
				t.Errorf("a problem has several lines: %q", p)
			}
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"90d", "1d12h", "10s", "100ms", "30", "1h1d", "99999999999d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil && d < 0 {
			t.Errorf("ParseDuration(%q) = %v", s, d)
		}
		if n, err := ParseSize(s); err == nil && n < 0 {
			t.Errorf("ParseSize(%q) = %d", s, n)
		}
	})
}
