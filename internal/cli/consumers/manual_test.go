package consumers

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// directoryPattern is the directory that a section of the manual exports to.
var directoryPattern = regexp.MustCompile(`/etc/[a-z0-9]+/spine`)

// blocks returns the fenced blocks of a section of docs/export.md in a language,
// "" for commands.
func blocks(t *testing.T, section, language string) []string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/export.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	var in, code, take bool
	for line := range strings.Lines(string(page)) {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && !code:
			if code, take = true, in && strings.TrimSpace(fence) == language; take {
				out = append(out, "")
			}
		case isFence:
			code, take = false, false
		case take:
			out[len(out)-1] += line
		case !code && strings.HasPrefix(line, "## "):
			in = strings.TrimSpace(line[3:]) == section
		}
	}
	return out
}

// setting returns block number n of the section in a language, with the directories
// of the test in the place of the manual's, and what else is to be replaced. What
// is not there to be replaced is a failure.
func (h *host) setting(language string, n int, replace ...string) string {
	h.t.Helper()
	found := blocks(h.t, h.section, language)
	if n >= len(found) {
		h.t.Fatalf("docs/export.md, %s: there is no block %d of %s", h.section, n, language)
	}
	text := h.here(found[n])
	for pair := range slices.Chunk(replace, 2) {
		if !strings.Contains(text, pair[0]) {
			h.t.Fatalf("docs/export.md, %s: there is no %q in block %d of %s", h.section, pair[0], n, language)
		}
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	return text
}

// here puts the directory of the test in the place of the manual's.
func (h *host) here(text string) string {
	return directoryPattern.ReplaceAllLiteralString(text, h.path("spine"))
}

// commands returns the commands of the section whose words begin with these, each
// as its words.
func (h *host) commands(begin ...string) [][]string {
	h.t.Helper()
	var out [][]string
	for _, block := range blocks(h.t, h.section, "") {
		for line := range strings.Lines(h.here(block)) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
			if !ok {
				continue
			}
			words := split(strings.TrimPrefix(command, "sudo "))
			if len(words) >= len(begin) && slices.Equal(words[:len(begin)], begin) {
				out = append(out, words)
			}
		}
	}
	if len(out) == 0 {
		h.t.Fatalf("docs/export.md, %s: there is no command %q", h.section, begin)
	}
	return out
}

// split is a command in words, of which one may stand in double quotes.
func split(command string) []string {
	var words []string
	for i, part := range strings.Split(command, `"`) {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// export runs the commands of the section that make files, in their order.
func (h *host) export() {
	h.t.Helper()
	for _, words := range h.commands() {
		switch words[0] {
		case "spinecert":
			h.spinecert(words[1:]...)
		case "sh":
			if out, err := h.run(nil, nil, words[0], words[1:]...); err != nil {
				h.t.Fatalf("%q: %v: %s", words, err, out)
			}
		case "chown":
			if as := testprogram.Nobody(h.t); as != nil { // it stands for postgres
				if err := os.Chown(words[2], int(as.Uid), int(as.Gid)); err != nil {
					h.t.Fatal(err)
				}
			}
		}
	}
}
