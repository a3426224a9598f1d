package sink

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/config"
)

func withTemplate(t *testing.T, text string) (Sink, error) {
	t.Helper()
	return New(config.Sink{Name: "hook", Type: config.SinkWebhook, URL: "http://127.0.0.1:1/", Template: write(t, "body.json", text)}, options())
}

func TestTemplate(t *testing.T) {
	const text = "{\n \"summary\": \"{{subject}}\", \"host\": \"{{ host }}\", \"n\": {{total}}, \"of\": [{{critical}}, {{warning}}, {{resolved}}, {{groups}}],\n \"all\": {{notices}}, \"a\": \"{{message}} {{left}}\", \"action\": {\"id\": \"{{id}}\"}}\n"
	v := post(t, config.Sink{Template: write(t, "body.json", text)}, one()).(map[string]any)
	if v["summary"] != subject(tidy(one())) || v["host"] != "gateway1" || v["n"] != 1.0 || v["a"] != "its certificate ends on 2026-11-29 6 days" || len(v["all"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
	// Every placeholder, filled with what somebody wrote to break out of it.
	var b strings.Builder
	b.WriteString("{")
	for name := range values(sample(false), "") {
		b.WriteString(`"` + name + `": "`)
		if name != "notices" {
			b.WriteString("{{" + name + "}}")
		}
		b.WriteString(`", `)
	}
	b.WriteString(`"notices": {{notices}}}`)
	for _, m := range []*alert.Message{wicked(), one(), many(60), told("environment live", stale()), {}} {
		v := post(t, config.Sink{Template: write(t, "body.json", b.String())}, m).(map[string]any)
		for name, value := range v {
			if s, ok := value.(string); ok {
				harmless(t, name, s)
			}
		}
		if len(m.Notices) > 0 && m.Notices[0].Condition.Message == nasty && !strings.Contains(v["message"].(string), "{{text}}") {
			t.Errorf("what was filled in was looked at for placeholders: %s", v["message"])
		}
	}
}

func TestBadTemplates(t *testing.T) {
	for text, want := range map[string]string{
		"{\"a\": \"{{no_such}}\"}":                        "line 1: there is no placeholder {{no_such}}",
		"{\n\n\"a\": \"{{subject}\"}":                     "line 3: {{ without }}",
		"{\"a\": \"{{ \n}}\", \"b\": \"{{sub\"":           "line 1: what stands between {{ and }} is not the name",
		"{\"k\": {{ \"routing_key\": \"R0SECRET\" }}}":    "is not the name of a placeholder",
		"{\n\"a\": {{subject}}}":                          "does not make JSON: line 2",
		"{\"a\": {{left}}}":                               "does not make JSON",
		"{\"a\": \"{{notices}}\"}":                        "does not make JSON",
		"":                                                "does not make JSON",
		"payload={{subject}}&R0SECRET":                    "does not make JSON",
		"{\"a\": \"{{subject}}\"} {\"R0SECRET\": 1}":      "does not make JSON",
		"{\"a\": \"" + strings.Repeat("x", bound) + "\"}": "larger than 64 KiB",
		"{\"a\": \"{{text}}\", \"b\": \"\x00R0SECRET\"}":  "does not make JSON",
	} {
		_, err := withTemplate(t, text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "body.json") {
			t.Errorf("%q: %v, want %q", clip(text, 40), err, want)
			continue
		}
		says(t, err)
		without(t, err, "R0SECRET")
	}
	for path, want := range map[string]string{"/no/such/template": "no such file", t.TempDir(): "not a regular file"} {
		if _, err := New(config.Sink{Name: "hook", Type: config.SinkWebhook, URL: "http://x/", Template: path}, options()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// New reads the template and no secret: those may come later.
func TestNewReadsNoSecrets(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	for _, c := range []config.Sink{
		{Name: "a", Type: config.SinkWebhook, URLFile: missing, Username: "u", PasswordFile: missing, CA: missing, Template: write(t, "t", `"{{text}}"`)},
		{Name: "b", Type: config.SinkAlertmanager, URLFile: missing, CA: missing},
		{Name: "c", Type: config.SinkEmail, To: []string{"a@b.c"}, From: "a@b.c", SMTP: "relay:25", TLS: config.TLSStartTLS, PasswordFile: missing, Username: "u", CA: missing},
		{Name: "d", Type: config.SinkExec, Command: []string{missing}},
		{Name: "e", Type: config.SinkJournal},
	} {
		s, err := New(c, options())
		if err != nil {
			t.Error(err)
		}
		if (s.Sender == nil) == (s.Mirror == nil) || s.Name != c.Name || s.Type != c.Type {
			t.Errorf("%+v", s)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(`{"a": "{{subject}}", "b": {{notices}}}`, nasty)
	f.Add(`"{{message}}"`, `"},{`)
	f.Fuzz(func(t *testing.T, text, name string) {
		if err := tryTemplate(text, "1"); err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "t")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tmpl, err := readTemplate(path, "1")
		if err != nil {
			t.Fatalf("taken, and then not: %v", err)
		}
		m := one()
		m.Notices[0].Condition.Message, m.Notices[0].Condition.Subject, m.Host = name, name, name
		body, err := tmpl.body(tidy(m))
		if err != nil || !json.Valid(body) {
			t.Errorf("%v\n%s", err, body)
		}
	})
}
