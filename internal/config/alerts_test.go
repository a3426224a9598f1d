package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const sinksBase = "environments: {live: {trust: [live.pem]}}\nslots: {pcs: {files: {certificate: a.crt, key: a.key}}}\n"

// Nothing is needed: the steps are there, and who makes the daemon adds the journal.
func TestAlertDefaults(t *testing.T) {
	const day = 24 * time.Hour
	want := Alerts{
		Leaf:           []time.Duration{90 * day, 30 * day, 14 * day, 7 * day, day},
		CA:             []time.Duration{365 * day, 90 * day, 30 * day},
		RequestPending: []time.Duration{14 * day, 28 * day},
		RepeatWarning:  7 * day,
		RepeatCritical: day,
	}
	for _, alerts := range []string{"", "alerts: {}\n", "alerts:\n", "alerts: {expiry: {}, repeat: {}, sinks: {}}\n"} {
		c, err := Parse([]byte(sinksBase+alerts), "/etc/f.yaml")
		if err != nil {
			t.Fatalf("%q: %v", alerts, err)
		}
		if diff := cmp.Diff(want, c.Alerts); diff != "" {
			t.Errorf("%q (-want +got):\n%s", alerts, diff)
		}
	}
}

// Each key of a sink is taken by the types that its tag names, and refused by the others with their names.
func TestKeysOfSinks(t *testing.T) {
	needed := map[string]string{ // of each type, besides the key that is tried
		SinkEmail:        "to: [a@b.c], from: a@b.c, smtp: 'a:25'",
		SinkAlertmanager: "url: 'https://a.b'",
		SinkWebhook:      "url: 'https://a.b'",
		SinkExec:         "command: [/a]",
		SinkJournal:      "",
	}
	values := map[string]string{
		"min": "critical", "timeout": "5s", "to": "[a@b.c]", "from": "a@b.c", "smtp": "'a:25'", "tls": "tls", "server_name": "a.b", "username": "u, password_file: /p",
		"password_file": "/p, username: u", "ca": "/c", "url": "'https://a.b'", "url_file": "/u, url: ''", "format": "json", "template": "/t", "command": "[/a]",
	}
	raw := reflect.TypeFor[rawSink]()
	field, _ := raw.FieldByName("Type")
	types := words(field.Tag, "enum")
	if len(types) != len(needed) {
		t.Fatalf("types %v", types)
	}
	for i := range raw.NumField() {
		key := raw.Field(i).Tag.Get("yaml")
		only := words(raw.Field(i).Tag, "only")
		for _, other := range only {
			if !slices.Contains(types, other) {
				t.Errorf("%s: the tag names %s, which is no type", key, other)
			}
		}
		if key == "" || key == "type" {
			continue
		}
		value, ok := values[key]
		if !ok {
			t.Errorf("%s is not tried", key)
		}
		for _, kind := range types {
			var keys []string
			for _, pair := range strings.SplitAfter(needed[kind], ", ") {
				if pair = strings.TrimSuffix(pair, ", "); pair != "" && !strings.HasPrefix(pair, key+":") && (key != "url_file" || !strings.HasPrefix(pair, "url:")) {
					keys = append(keys, pair)
				}
			}
			keys = append(keys, "type: "+kind, key+": "+value)
			_, err := Parse([]byte(sinksBase+"alerts: {sinks: {s: {"+strings.Join(keys, ", ")+"}}}\n"), "/etc/f.yaml")
			problems, _ := errors.AsType[Problems](err)
			at := slices.IndexFunc(problems, func(p Problem) bool { return p.Key == "alerts.sinks.s."+key })
			switch {
			case len(only) == 0 || slices.Contains(only, kind):
				if err != nil {
					t.Errorf("%s of %s: %v", key, kind, err)
				}
			case at < 0 || problems[at].Message != "is only for sinks of type "+oneOf(only):
				t.Errorf("%s of %s: %v", key, kind, err)
			}
		}
	}
}

// The files of sinks are named with what they are, and asked for where they are credentials.
func TestSinkCredentials(t *testing.T) {
	c, err := Parse([]byte(sinksBase+`alerts: {sinks: {a: {type: webhook, url_file: "credential:u", username: x, password_file: "credential:p", ca: "credential:c", template: "credential:t"}}}`+"\n"), "/etc/f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const dir = "/run/credentials/spinecertd.service/"
	want := []Credential{
		{"c", dir + "c", []string{"the roots of sink a"}}, {"p", dir + "p", []string{"the password of sink a"}},
		{"t", dir + "t", []string{"the template of sink a"}}, {"u", dir + "u", []string{"the URL of sink a"}},
	}
	if diff := cmp.Diff(want, c.Credentials()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(c.Warnings()) != 1 || !strings.Contains(c.Warnings()[0].Message, "reads its password, URL, roots and template from credentials") {
		t.Errorf("warnings %v", c.Warnings())
	}
}

// What Load sees of files: secrets that are open to everybody, and templates that cannot be any.
func TestSinkFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
	write("open", "https://hooks.slack.com/"+planted+"\n", 0o644)
	write("closed", planted+"\n", 0o640)
	write("template", `{"text":"{{text}}"}`, 0o644)
	write("largest", strings.Repeat("a", maxTemplate), 0o644)
	write("large", strings.Repeat("a", maxTemplate+1), 0o644)
	write("empty", " \n", 0o644)
	write("binary", "a\x00b", 0o644)
	write("latin1", "caf\xe9", 0o644)
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	const readable = "every local user may read "
	for _, tc := range []struct{ name, keys, warning, problem string }{
		{"closed", "url_file: closed, username: u, password_file: closed", "", ""},
		{"missing", "url_file: none, username: u, password_file: none, ca: none", "", ""},
		{"an open URL", "url_file: open", "url_file: " + readable + "the URL in it", ""},
		{"an open password", "url_file: closed, username: u, password_file: open", "password_file: " + readable + "the password in it", ""},
		{"open roots", "url_file: closed, ca: open", "", ""},
		{"a template", "url_file: closed, template: template", "", ""},
		{"the largest template", "url_file: closed, template: largest", "", ""},
		{"no template", "url_file: closed, template: none", "", "read template: no such file or directory"},
		{"a large template", "url_file: closed, template: large", "", "read template: larger than 64 KiB"},
		{"an empty template", "url_file: closed, template: empty", "", "read template: the file is empty"},
		{"a binary template", "url_file: closed, template: binary", "", "read template: not UTF-8 text"},
		{"another encoding", "url_file: closed, template: latin1", "", "read template: not UTF-8 text"},
		{"a directory", "url_file: closed, template: .", "", "read template: not a regular file"},
		{"a FIFO", "url_file: closed, template: fifo", "", "read template: not a regular file"},
		{"a credential", `url_file: closed, template: "credential:t"`, "reads its template from a credential", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(dir, "spinecert.yaml")
			text := sinksBase + "alerts: {sinks: {s: {type: webhook, " + tc.keys + "}}}\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Load(file)
			switch {
			case tc.problem != "":
				if problems, _ := errors.AsType[Problems](err); len(problems) != 1 || problems[0].Key != "alerts.sinks.s.template" || problems[0].Message != tc.problem || problems[0].Line == 0 {
					t.Errorf("%v, want %q", err, tc.problem)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			got := fmt.Sprint(c.Warnings())
			if (len(c.Warnings()) > 0) != (tc.warning != "") || !strings.Contains(got, tc.warning) || strings.Contains(got, planted) {
				t.Errorf("warnings %s, want %q", got, tc.warning)
			}
			if _, err := Parse([]byte(text), file); err != nil {
				t.Errorf("Parse, which opens nothing: %v", err)
			}
		})
	}
}

// A template that another user may read, and this one not, is no reason to refuse the file to who only checks it.
func TestTemplateOfAnother(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "t"), []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "spinecert.yaml")
	if err := os.WriteFile(file, []byte(sinksBase+"alerts: {sinks: {s: {type: webhook, url: 'https://a.b', template: t}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(file); err != nil || len(c.Warnings()) != 1 || !strings.Contains(c.Warnings()[0].Message, "cannot be read by this user") {
		t.Errorf("Load = %v, %v", c, err)
	}
}

// Who may look at the pages, and from where.
func TestAdminHTTP(t *testing.T) {
	for _, tc := range []struct {
		http string
		want string // the one problem, "" for none
	}{
		{"{listen: ''}", ""},
		{"{listen: '', slot: '', peers: []}", ""},
		{"{listen: '127.0.0.1:9090'}", ""},
		{"{listen: '[::1]:0'}", ""},
		{"{listen: '127.0.0.1:9443', slot: pcs, peers: [a.b]}", ""},
		{"{listen: '0.0.0.0:9443', slot: pcs, peers: [a.b, c.d]}", ""},
		{"{listen: ':9443', slot: pcs, peers: [a.b]}", ""},
		{"{listen: '192.0.2.1:9443', slot: pcs, peers: [a.b]}", ""},
		{"{listen: '0.0.0.0:9090'}", "admin.http.listen: must be a loopback address"},
		{"{listen: ':9090'}", "admin.http.listen: must be a loopback address"},
		{"{listen: '192.0.2.1:9090', slot: '', peers: []}", "admin.http.listen: must be a loopback address"},
		{"{listen: '0.0.0.0:0', slot: pcs, peers: [a.b]}", "admin.http.listen: port 0 is for loopback addresses only"},
		{"{listen: 'localhost:9090', slot: pcs, peers: [a.b]}", "admin.http.listen: must begin with an address"},
		{"{listen: '0.0.0.0:9443', slot: pcs}", "admin.http.peers: slot is named, and nobody who may look"},
		{"{listen: '127.0.0.1:9443', slot: pcs, peers: []}", "admin.http.peers: slot is named, and nobody who may look"},
		{"{listen: '0.0.0.0:9443', peers: [a.b]}", "admin.http.slot: peers are named, and no slot"},
		{"{listen: '0.0.0.0:9443', slot: none, peers: [a.b]}", `admin.http.slot: there is no slot called "none"`},
		{"{slot: pcs, peers: [a.b]}", "admin.http.listen: slot and peers are named, and no address to listen on"},
		{"{listen: '127.0.0.1:9443', slot: pcs, peers: ['*']}", "admin.http.peers: must name each peer"},
		{"{listen: '0.0.0.0:9443', slot: pcs, peers: ['*.b']}", "admin.http.peers[0]: wildcards are not accepted"},
		{"{listen: '0.0.0.0:9443', slot: pcs, peers: [A.b]}", "admin.http.peers[0]: must be a host name in lower case"},
		{"{listen: '0.0.0.0:9443', slot: pcs, peers: [a.b, a.b]}", "admin.http.peers[1]: the name is listed twice"},
		{"{listen: '0.0.0.0:9443', slot: pcs, peers: [192.0.2.1]}", "admin.http.peers[0]: must be a host name, not an address"},
	} {
		c, err := Parse([]byte(sinksBase+"admin: {http: "+tc.http+"}\n"), "/etc/f.yaml")
		problems, _ := errors.AsType[Problems](err)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.http, err)
		case tc.want == "" && (c.Admin.HTTPSlot == "") != (len(c.Admin.HTTPPeers) == 0):
			t.Errorf("%s: %+v", tc.http, c.Admin)
		case tc.want != "" && (len(problems) != 1 || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", tc.http, err, tc.want)
		}
	}
	// The address is one of those that must not be taken twice.
	_, err := Parse([]byte(sinksBase+"tunnels: {in: {direction: inbound, listen: ['127.0.0.1:9443'], forward: '127.0.0.1:80', slot: pcs, peers: [a.b]}}\nadmin: {http: {listen: '0.0.0.0:9443', slot: pcs, peers: [a.b]}}\n"), "/etc/f.yaml")
	if err == nil || !strings.Contains(err.Error(), "the address is taken by admin.http") {
		t.Errorf("an address twice: %v", err)
	}
}
