package services

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// page is one page of docs/services.
type page struct {
	t    *testing.T
	name string
	text string
}

func openPage(t *testing.T, name string) *page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/services", name))
	if err != nil {
		t.Fatal(err)
	}
	return &page{t, name, string(text)}
}

// block returns the only fenced block of a section (a heading of any level) in a
// language, with what is to be replaced: pairs of what stands in the page and what
// comes in its place, each everywhere. What is not there to be replaced is a failure.
func (p *page) block(section, language string, replace ...string) string {
	p.t.Helper()
	found := p.blocks(section, language)
	if len(found) != 1 {
		p.t.Fatalf("docs/services/%s, %q: %d blocks of %s, want 1", p.name, section, len(found), language)
	}
	return replaced(p.t, found[0], replace...)
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

// blocks returns all fenced blocks of a section in a language, as they stand; section "" is
// the whole page.
func (p *page) blocks(section, language string) []string {
	var out []string
	var in, code, take bool
	for line := range strings.Lines(p.text) {
		fence, isFence := strings.CutPrefix(line, "```")
		heading := strings.TrimLeft(line, "#")
		switch {
		case isFence && !code:
			if code, take = true, (in || section == "") && strings.TrimSpace(fence) == language; take {
				out = append(out, "")
			}
		case isFence:
			code, take = false, false
		case take:
			out[len(out)-1] += line
		case !code && heading != line:
			in = strings.TrimSpace(heading) == section
		}
	}
	return out
}

// TestPages has spinecert read what the page of every program has for its configuration: the blocks that tests
// run with other ways to reload, and those for systemd, which they do not.
func TestPages(t *testing.T) {
	for _, name := range []string{"nginx.md", "haproxy.md", "apache.md", "postgresql.md", "stunnel.md", "java.md"} {
		p := openPage(t, name)
		whole := ""
		for _, block := range p.blocks("", "yaml") {
			if strings.HasPrefix(block, "services:") {
				whole = block
			}
		}
		for _, block := range p.blocks("", "yaml") {
			h := &host{t: t, dir: t.TempDir()}
			h.configure(with(whole, block))
			if exit, _, code := h.spinecert("config", "check"); exit != 0 {
				t.Errorf("docs/services/%s: exit status %d, %s, of\n%s", p.name, exit, code, with(whole, block))
			}
		}
	}
}

// with puts a block into the place of what the whole has: keys of a service, or files of
// its set.
func with(whole, block string) string {
	if strings.HasPrefix(block, "services:") {
		return block
	}
	kept, file := "", strings.HasPrefix(strings.TrimSpace(block), "- ")
	for line := range strings.Lines(whole) {
		what := strings.FieldsFunc(line, func(r rune) bool { return r == ':' || r == ',' })
		switch {
		case file && strings.HasPrefix(line, "        - ") && strings.Contains(block, what[0]+":"+what[1]+","):
			kept += block
		case file || !strings.Contains("\n"+block, "\n"+what[0]+":"):
			kept += line
		}
	}
	if file {
		return kept
	}
	return kept + block
}
