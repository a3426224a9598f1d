package sink

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// manual returns docs/alerts.md, and its code blocks of a language.
func manual(t *testing.T, language string) (page string, blocks []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(data), -1) {
		blocks = append(blocks, block[1])
	}
	if language != "" && len(blocks) == 0 {
		t.Fatalf("no block of %s", language)
	}
	return string(data), blocks
}

// What the manual shows is what the program writes.
func TestManualShowsTheMessages(t *testing.T) {
	page, _ := manual(t, "")
	for _, name := range []string{"one.txt", "resolved.txt"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(page, "```\n"+string(data)+"```\n") {
			t.Errorf("%s is not in the manual as it is", name)
		}
	}
}

// Every sink of the manual can be configured as it stands there, and made.
func TestManualConfigurations(t *testing.T) {
	_, blocks := manual(t, "yaml")
	dir := t.TempDir()
	_, templates := manual(t, "json")
	if err := os.WriteFile(filepath.Join(dir, "hook.json"), []byte(templates[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for _, block := range blocks {
		if !strings.HasPrefix(block, "alerts:") {
			continue
		}
		text := "environments: {live: {trust: [live.pem]}}\n" + strings.ReplaceAll(block, "/etc/spinecert", dir)
		c, err := config.Parse([]byte(text), "/etc/spinecert/spinecert.yaml")
		if err != nil {
			t.Errorf("%v\n%s", err, block)
			continue
		}
		for _, w := range c.Warnings() {
			t.Logf("%s: %s", w.Key, w.Message)
		}
		for _, s := range c.Alerts.Sinks {
			types[s.Type+s.Format] = true
			if _, err := New(s, options()); err != nil {
				t.Errorf("%v\n%s", err, block)
			}
		}
	}
	for _, want := range []string{"email", "alertmanager", "webhookjson", "webhookteams", "webhookslack", "exec", "journal"} {
		if !types[want] {
			t.Errorf("no example of %s", want)
		}
	}
}

func TestManualNamesThePlaceholders(t *testing.T) {
	page, _ := manual(t, "")
	_, table, _ := strings.Cut(page, "| placeholder | |")
	table, _, _ = strings.Cut(table, "\n## ")
	var named []string
	for _, name := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(table, -1) {
		named = append(named, name[1])
	}
	var known []string
	for name := range values(sample(true), "") {
		known = append(known, name)
	}
	slices.Sort(named)
	slices.Sort(known)
	if !slices.Equal(named, known) {
		t.Errorf("the manual has %q, the program %q", named, known)
	}
}

// The program of the manual pages for each alert, and ends it by the same key.
func TestManualProgram(t *testing.T) {
	python := testprogram.Need(t, "/usr/bin/python3")
	_, blocks := manual(t, "python")
	fails := false
	h := startHook(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		if fails {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	script, key := write(t, "page", blocks[0]), write(t, "key", "R0UT1NG\n")
	s := make1(t, config.Sink{Type: config.SinkExec, Command: []string{python, script, h.URL, key}})
	over := one().Notices[0]
	over = resolve(over, at)
	if err := send(t, s, told("slot pcs", one().Notices[0], over)); err != nil {
		t.Fatal(err)
	}
	var sent []string
	for _, body := range h.bodies {
		var v struct {
			Key     string `json:"routing_key"`
			Action  string `json:"event_action"`
			Dedup   string `json:"dedup_key"`
			Payload struct{ Summary, Source, Severity string }
		}
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, strings.Join([]string{v.Key, v.Action, v.Dedup, v.Payload.Severity, v.Payload.Source}, " "))
	}
	if want := []string{"R0UT1NG trigger gateway1/expiring/slot/pcs critical gateway1", "R0UT1NG resolve gateway1/expiring/slot/pcs critical gateway1"}; !slices.Equal(sent, want) {
		t.Errorf("sent %q", sent)
	}
	fails = true
	says(t, send(t, s, one()), "exit status 1", "500")
}
