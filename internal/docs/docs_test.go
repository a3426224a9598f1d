package docs

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spinecert/spinecert/internal/config"
)

const root = "../.."

// page is one file of the manual, by its path from the root of the repository.
type page struct {
	path string
	text string
}

// manual returns README.md and its siblings, and all of docs/.
func manual(t *testing.T) []page {
	t.Helper()
	paths := []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".md" {
			rel, relErr := filepath.Rel(root, path)
			paths = append(paths, rel)
			return relErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var pages []page
	for _, p := range paths {
		pages = append(pages, page{p, read(t, p)})
	}
	return pages
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// line is one line of a page, and the language of the code block it stands in.
type line struct {
	number int
	text   string
	code   bool   // within a fenced block
	lang   string // of that block
}

func (p page) lines() []line {
	var out []line
	var code bool
	var lang string
	s := bufio.NewScanner(strings.NewReader(p.text))
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		if fence, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), "```"); ok {
			code, lang = !code, fence
			continue
		}
		out = append(out, line{n, s.Text(), code, lang})
	}
	return out
}

// explained returns what docs/refusals.md has a heading or the first cell of a row for.
func explained(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, l := range (page{text: read(t, "docs/refusals.md")}).lines() {
		title := ""
		switch {
		case l.code:
		case strings.HasPrefix(l.text, "#"):
			title = l.text
		case strings.HasPrefix(l.text, "|"):
			cells := strings.Split(strings.Trim(l.text, "| "), "|")
			title = cells[0]
			if strings.Contains(title, "watch_") && len(cells) > 1 {
				title = cells[1] // the table of watching has the event first
			}
		}
		for _, m := range regexp.MustCompile("`([a-z_-]+)`").FindAllStringSubmatch(title, -1) {
			out[m[1]] = true
		}
	}
	return out
}

// TestEveryRefusalIsExplained: an operator finds each word that the program says.
func TestEveryRefusalIsExplained(t *testing.T) {
	have := explained(t)
	for _, tc := range []struct {
		name string
		want []string
		min  int // a collector that finds nothing proves nothing
	}{
		{"trust.Reason", trustReasons(t), 22},
		{"rotate", rotateReasons(t), 9},
		{"guard rules of the configuration", guardRules(t), 3},
		{"tunnel limits", tunnelReasons(t), 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if len(tc.want) < tc.min {
				t.Fatalf("found %d words in the source, expected at least %d: %q", len(tc.want), tc.min, tc.want)
			}
			for _, word := range tc.want {
				if !have[word] {
					t.Errorf("docs/refusals.md has no heading and no row for `%s`", word)
				}
			}
		})
	}
}

// TestEveryCauseIsMentioned: so are the words for the end of a connection.
func TestEveryCauseIsMentioned(t *testing.T) {
	causes, text := tunnelCauses(t), read(t, "docs/refusals.md")
	if len(causes) < 5 {
		t.Fatalf("found only the causes %q in internal/tunnel", causes)
	}
	for _, word := range causes {
		if !strings.Contains(text, "`"+word+"`") {
			t.Errorf("docs/refusals.md does not mention the cause `%s`", word)
		}
	}
}

var linkPattern = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks: every relative link leads to a file, and every anchor to a heading.
func TestLinks(t *testing.T) {
	found := 0
	for _, p := range manual(t) {
		for _, l := range p.lines() {
			if l.code {
				continue
			}
			for _, m := range linkPattern.FindAllStringSubmatch(l.text, -1) {
				if strings.Contains(m[1], "://") {
					continue
				}
				found++
				checkLink(t, p, l.number, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d relative links found: is the pattern right?", found)
	}
}

func checkLink(t *testing.T, p page, number int, link string) {
	t.Helper()
	file, anchor, _ := strings.Cut(link, "#")
	target := p.path
	if file != "" {
		target = filepath.Join(filepath.Dir(p.path), file)
	}
	if inside := "docs" + string(filepath.Separator); strings.HasPrefix(p.path, inside) && !strings.HasPrefix(target, inside) {
		t.Errorf("%s:%d: link %q leads out of docs/, and nowhere where a package put the pages: say where the file is", p.path, number, link)
	}
	if _, err := os.Stat(filepath.Join(root, target)); err != nil {
		t.Errorf("%s:%d: link %q: there is no %s", p.path, number, link, target)
		return
	}
	if anchor == "" {
		return
	}
	if !slices.Contains(anchors(page{text: read(t, target)}), anchor) {
		t.Errorf("%s:%d: link %q: %s has no heading for #%s", p.path, number, link, target, anchor)
	}
}

// anchors returns the anchors of the headings as code hosts make them.
func anchors(p page) []string {
	var out []string
	for _, l := range p.lines() {
		if l.code || !strings.HasPrefix(l.text, "#") {
			continue
		}
		title := strings.ToLower(strings.TrimSpace(strings.TrimLeft(l.text, "#")))
		out = append(out, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return r
			}
			return -1
		}, title))
	}
	return out
}

// commandPattern finds `spinecert word word`; a flag, a path or a placeholder ends it.
var commandPattern = regexp.MustCompile(`(?:^|[\s/$+(])spinecert ([a-z][a-z-]*)(?: ([a-z]+))?`)

// userPattern is where spinecert is a user or group.
var userPattern = regexp.MustCompile(`(-[a-z]|--[a-z]+id|group) spinecert`)

// TestCommands: every command that the manual names exists.
func TestCommands(t *testing.T) {
	have := commands(t)
	if len(have) < 20 {
		t.Fatalf("found the commands %q in internal/cli: is the collector right?", have)
	}
	found := 0
	for _, p := range manual(t) {
		for _, l := range p.lines() {
			for _, code := range l.codeSpans() {
				for _, m := range commandPattern.FindAllStringSubmatch(userPattern.ReplaceAllString(code, ""), -1) {
					found++
					checkCommand(t, p, l, m[1], m[2], have)
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d commands found: is the pattern right?", found)
	}
}

func checkCommand(t *testing.T, p page, l line, name, next string, have []string) {
	t.Helper()
	full := name
	if (name == "config" || name == "csr" || name == "alerts" || name == "trust") && next != "" { // they only hold others
		full = name + " " + next
	}
	if !slices.Contains(have, name) || full != name && !slices.Contains(have, next) {
		t.Errorf("%s:%d: there is no command `spinecert %s`", p.path, l.number, full)
	}
}

// codeSpans returns what is code in the line: all of it within a block.
func (l line) codeSpans() []string {
	if l.code {
		// What a program printed is not what somebody should type.
		if strings.Contains(l.text, "level=") || strings.HasPrefix(l.text, "Usage") {
			return nil
		}
		return []string{l.text}
	}
	var out []string
	for i, part := range strings.Split(l.text, "`") {
		if i%2 == 1 {
			out = append(out, part)
		}
	}
	return out
}

// TestExamples: every whole configuration in the manual is one.
func TestExamples(t *testing.T) {
	found := 0
	for _, p := range manual(t) {
		for number, text := range yamlBlocks(p) {
			if !strings.Contains("\n"+text, "\nenvironments:") {
				continue // a part of a configuration
			}
			found++
			if _, err := config.Parse([]byte(text), "/etc/spinecert/spinecert.yaml"); err != nil {
				t.Errorf("%s:%d: the example is no valid configuration:\n%v", p.path, number, err)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d whole examples found: is the pattern right?", found)
	}
}

// yamlBlocks returns the blocks marked as yaml, by the number of their first line.
func yamlBlocks(p page) map[int]string {
	out := map[int]string{}
	start, last := 0, 0
	for _, l := range p.lines() {
		if !l.code || l.lang != "yaml" {
			start = 0
			continue
		}
		if start == 0 || l.number != last+1 {
			start = l.number
		}
		last = l.number
		out[start] += l.text + "\n"
	}
	return out
}

// query begins a command that reads the journal; ofUnit makes it one of a unit alone.
var (
	query  = regexp.MustCompile("journalctl [^`#|;]*")
	ofUnit = regexp.MustCompile(` -u '?[a-zA-Z]| _SYSTEMD_UNIT=[a-z]`)
)

// TestQueriesNameTheirUnit: any user of the host may write to the journal, with any field but those that begin with an underscore.
func TestQueriesNameTheirUnit(t *testing.T) {
	seen := 0
	for _, p := range manual(t) {
		if p.path == "CHANGELOG.md" { // what it says of a version stays
			continue
		}
		for _, l := range p.lines() {
			for _, command := range query.FindAllString(l.text, -1) {
				seen++
				if !ofUnit.MatchString(command) {
					t.Errorf("%s:%d: %q shows what anybody wrote: -u spinecertd", p.path, l.number, command)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d queries of the journal were found", seen)
	}
}

// TestNoForeignPaths: the manual names no file that only its authors have.
func TestNoForeignPaths(t *testing.T) {
	absent := regexp.MustCompile(`\]\([^)]*(DESIGN|CONTRACT|SPINE|STYLE)\.md[^)]*\)`)
	for _, p := range manual(t) {
		for _, l := range p.lines() {
			if m := absent.FindString(l.text); m != "" {
				t.Errorf("%s:%d: %q leads nowhere for a reader", p.path, l.number, m)
			}
		}
	}
}
