package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/format"
)

// The formats of the configuration are those that there are.
func TestFormats(t *testing.T) {
	field, _ := reflect.TypeFor[rawServiceFile]().FieldByName("Format")
	if diff := cmp.Diff(format.Names(), words(field.Tag, "enum")); diff != "" {
		t.Errorf("the tag of format names others (-format +tag):\n%s", diff)
	}
}

// TestFileModes: what is written for a format, without mode and with the modes around each limit.
func TestFileModes(t *testing.T) {
	for _, f := range format.Formats() {
		for _, tc := range []struct {
			fields string
			mode   string // "" is refused
		}{
			{"", map[bool]string{false: "-rw-r--r--", true: "-rw-------"}[f.Private]},
			{", mode: ''", map[bool]string{false: "-rw-r--r--", true: "-rw-------"}[f.Private]},
			{", group: g", map[bool]string{false: "-rw-r--r--", true: "-rw-r-----"}[f.Private]},
			{", owner: o", map[bool]string{false: "-rw-r--r--", true: "-rw-------"}[f.Private]},
			{", mode: 0400", "-r--------"},
			{", mode: 640", "-rw-r-----"},
			{", mode: 0644", map[bool]string{false: "-rw-r--r--", true: ""}[f.Private]},
			{", mode: 0641", map[bool]string{false: "-rw-r----x", true: ""}[f.Private]},
			{", mode: 0660, group: g", map[bool]string{false: "-rw-rw----", true: ""}[f.Private]},
			{", mode: 0642", ""},
			{", mode: 0777", ""},
			{", mode: 0200", ""},
			{", mode: 01640", ""},
			{", mode: 1640", ""},
			{", mode: 40", ""},
			{", mode: 0648", ""},
		} {
			fields := tc.fields
			if f.Password {
				fields += ", password_file: /p"
			}
			data := service(fmt.Sprintf("[{format: %s, name: x%s}, {format: trust-pem, name: a}, {format: fullchain, name: b}, {format: key, name: c}]", f.Name, fields), "none", "none")
			c, err := Parse([]byte(data), "/etc/f.yaml")
			switch {
			case tc.mode == "" && (err == nil || !strings.Contains(err.Error(), "files[0].mode: ")):
				t.Errorf("%s%s: %v, want a problem with its mode", f.Name, tc.fields, err)
			case tc.mode != "" && err != nil:
				t.Errorf("%s%s: %v", f.Name, tc.fields, err)
			case tc.mode != "" && c.Services[0].Files[0].Mode.String() != tc.mode:
				t.Errorf("%s%s: %v, want %s", f.Name, tc.fields, c.Services[0].Files[0].Mode, tc.mode)
			}
		}
	}
}

// service returns a configuration with one service.
func service(files, reload, probe string) string {
	return "environments: {live: {trust: [live.pem]}}\nslots: {pcs: {files: {certificate: a.crt, key: a.key}}}\n" +
		"services: {a: {slot: pcs, deliver: {directory: /etc/a, files: " + files + "}, reload: " + reload + ", probe: " + probe + "}}\n"
}

func TestUnits(t *testing.T) {
	for name, good := range map[string]bool{
		"a.service": true, "a@b.service": true, "a@b-c:d_e.f.service": true, `dev-disk\x2d1.service`: true, "a.b.service": true,
		"spinecertd-exporter.service": true, "spinecert-hooks.service": true,
		strings.Repeat("a", 247) + ".service": true, strings.Repeat("a", 248) + ".service": false,
		"": false, "a": false, ".service": false, "a.socket": false, "a@.service": false, "@b.service": false, "a@b@c.service": false,
		"a b.service": false, "/a.service": false, "a/b.service": false, "a.service ": false, "ä.service": false, "a*.service": false,
		"spinecertd.service": false, "spinecert-hook@.service": false, "spinecert-hook@a:reload.service": false,
	} {
		r := &reading{wrong: map[string]bool{}, broken: map[string]bool{}}
		if r.unit(textOf(name)); (len(r.problems) == 0) != good {
			t.Errorf("unit %q: %v, want good %t", name, r.problems, good)
		}
	}
}

func TestServiceLookup(t *testing.T) {
	c, err := Parse(read(t, "testdata/good_services.yaml"), "/etc/f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := c.Service("java"); !ok || s.Slot != "sds" || s.Directory != "/etc/relative/java" {
		t.Errorf("Service = %+v, %t", s, ok)
	}
	if s, ok := c.Service("pcs"); ok {
		t.Errorf("Service finds %+v", s)
	}
	if len(c.services.at) != len(c.Services) {
		t.Errorf("%d of %d services are indexed", len(c.services.at), len(c.Services))
	}
}

// Many services that wait for each other in one long row are read, and a row that ends where it began is told once.
func TestManyServices(t *testing.T) {
	const n = 2000
	row := func(first string) string {
		var b strings.Builder
		b.WriteString("environments: {live: {trust: [live.pem]}}\nslots: {pcs: {files: {certificate: a.crt, key: a.key}}}\nservices:\n")
		for i := range n {
			after := first
			if i > 0 {
				after = fmt.Sprintf("s%d", i-1)
			}
			fmt.Fprintf(&b, "  s%d: {slot: pcs, deliver: {directory: /etc/s/%d, files: [{format: cert, name: a}]}, reload: none, probe: none, after: [%s]}\n", i, i, after)
		}
		return b.String()
	}
	c, err := Parse([]byte(row("")), "/etc/f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Services) != n || c.Services[n-1].After[0] != "s1998" {
		t.Errorf("%d services, the last is %+v", len(c.Services), c.Services[len(c.Services)-1])
	}
	_, err = Parse([]byte(row("s1999")), "/etc/f.yaml")
	problems, _ := errors.AsType[Problems](err)
	if len(problems) != 1 || !strings.Contains(problems[0].Message, " -> ... -> ") || len(problems[0].Message) > 200 {
		t.Errorf("a circle of %d: %v", n, err)
	}
}

// What misses a word of none says so, and so does what has none where it is not one.
func TestNoneIsWritten(t *testing.T) {
	const files = "[{format: cert, name: a}]"
	for name, data := range map[string]string{
		"reload": strings.Replace(service(files, "none", "none"), "reload: none, ", "", 1),
		"probe":  strings.Replace(service(files, "none", "none"), ", probe: none", "", 1),
	} {
		_, err := Parse([]byte(data), "/etc/f.yaml")
		problems, _ := errors.AsType[Problems](err)
		if len(problems) != 1 || problems[0].Key != "services.a."+name || !strings.Contains(problems[0].Hint, "the word none, which must be written out") {
			t.Errorf("%s: %v, %s", name, err, problems.Hint())
		}
	}
}
