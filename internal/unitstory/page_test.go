package unitstory

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is a fenced block of a page.
type block struct{ section, language, text string }

// blocksOf returns the fenced blocks of a page of docs.
func blocksOf(t *testing.T, name string) []block {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	var section string
	code := false
	for line := range strings.Lines(string(text)) {
		fence, isFence := strings.CutPrefix(line, "```")
		heading := strings.TrimLeft(line, "#")
		switch {
		case isFence && !code:
			code = true
			out = append(out, block{section: section, language: strings.TrimSpace(fence)})
		case isFence:
			code = false
		case code:
			out[len(out)-1].text += line
		case heading != line:
			section = strings.TrimSpace(heading)
		}
	}
	return out
}

// only returns the text of the only block of a section in a language.
func only(t *testing.T, blocks []block, section, language string) string {
	t.Helper()
	found := slices.DeleteFunc(slices.Clone(blocks), func(b block) bool { return b.section != section || b.language != language })
	if len(found) != 1 {
		t.Fatalf("section %q has %d blocks of %q, want 1", section, len(found), language)
	}
	return found[0].text
}

// A block that is a file begins with its path, in a comment.
var pathLine = regexp.MustCompile(`^(?:#!/bin/sh\n)?(?:#|//) (/\S+)\n`)

// files returns the blocks that are files, by their path.
func files(t *testing.T, blocks []block) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, b := range blocks {
		if m := pathLine.FindStringSubmatch(b.text); m != nil {
			out[m[1]] = b.text
		} else if b.language == "ini" || b.language == "js" || b.language == "sh" {
			t.Errorf("section %q: a file that does not begin with its path:\n%s", b.section, b.text)
		}
	}
	return out
}

// TestRule: the rule on the page is the one that is shipped.
func TestRule(t *testing.T) {
	shipped, err := os.ReadFile("../../systemd/50-spinecert.rules.example")
	if err != nil {
		t.Fatal(err)
	}
	comments := regexp.MustCompile(`(?m)^\s*//.*\n`)
	page := files(t, blocksOf(t, "services/systemd.md"))["/etc/polkit-1/rules.d/50-spinecert.rules"]
	if got, want := comments.ReplaceAllString(page, ""), comments.ReplaceAllString(string(shipped), ""); got != want || got == "" {
		t.Errorf("the page has\n%s\nwant\n%s", got, want)
	}
}

// replaced replaces pairs in a text; what is not there is a failure.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for pair := range slices.Chunk(pairs, 2) {
		if !strings.Contains(text, pair[0]) {
			t.Fatalf("there is no %q to be replaced in:\n%s", pair[0], text)
		}
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	return text
}
