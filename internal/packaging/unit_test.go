package packaging

import (
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// maxExposure is the promise: overall exposure of the unit without drop-ins.
const maxExposure = 1.5

func text(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// analyze returns the rows that systemd-analyze complains of, with their exposure,
// and the overall one, of the unit with some lines more.
func analyze(t *testing.T, more ...string) (rows map[string]string, overall float64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spinecertd.service")
	unit := text(t, "systemd/spinecertd.service") + "\n[Service]\n" + strings.Join(more, "\n") + "\n"
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) []byte {
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", append([]string{"security", "--offline=true"}, append(args, path)...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("systemd-analyze: %v\n%s", err, out)
		}
		return out
	}
	var list []struct {
		Name     string
		Exposure *string
	}
	if err := json.Unmarshal(ask("--json=short"), &list); err != nil {
		t.Fatal(err)
	}
	rows = map[string]string{}
	for _, row := range list {
		if row.Exposure != nil {
			rows[row.Name] = *row.Exposure
		}
	}
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(ask())
	if m == nil {
		t.Fatal("systemd-analyze does not say the overall exposure")
	}
	overall, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return rows, overall
}

// table returns the cells of the tables of a section of docs/hardening.md.
func table(t *testing.T, section string) [][]string {
	t.Helper()
	_, after, found := strings.Cut(text(t, "docs/hardening.md"), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/hardening.md has no section %q", section)
	}
	body, _, _ := strings.Cut(after, "\n## ")
	var out [][]string
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
		var cells []string
		for cell := range strings.SplitSeq(line, "|") {
			cells = append(cells, strings.ReplaceAll(strings.TrimSpace(cell), "\x00", "|"))
		}
		out = append(out, cells)
	}
	if len(out) == 0 {
		t.Fatalf("section %q of docs/hardening.md has no rows", section)
	}
	return out
}

// TestExposure holds the unit against its limit, and the page against the unit.
func TestExposure(t *testing.T) {
	testprogram.Need(t, "systemd-analyze")
	rows, overall := analyze(t)
	if overall > maxExposure {
		t.Errorf("the overall exposure is %.1f, want at most %.1f", overall, maxExposure)
	}
	explained := map[string]string{}
	for _, row := range table(t, "What is left, and why") {
		explained[strings.Trim(row[0], "`")] = row[1]
		if len(row) != 3 || row[2] == "" {
			t.Errorf("%s is not explained", row[0])
		}
	}
	if diff := gocmp.Diff(rows, explained); diff != "" {
		t.Errorf("docs/hardening.md explains (+) other rows than systemd-analyze has (-):\n%s", diff)
	}
	page := text(t, "docs/hardening.md")
	if says := "gives " + strconv.FormatFloat(overall, 'f', 1, 64) + " ("; !strings.Contains(page, says) {
		t.Errorf("docs/hardening.md does not say %q", says)
	}
}

// TestDropIns: what the page says that each drop-in costs.
func TestDropIns(t *testing.T) {
	testprogram.Need(t, "systemd-analyze")
	for _, row := range table(t, "Drop-ins, and what they cost") {
		t.Run(row[0], func(t *testing.T) {
			var lines []string
			for i, part := range strings.Split(row[0], "`") {
				if i%2 == 1 {
					lines = append(lines, part)
				}
			}
			want, err := strconv.ParseFloat(row[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			if _, got := analyze(t, lines...); cmp.Compare(got, want) != 0 {
				t.Errorf("the overall exposure is %.1f, and the page says %.1f", got, want)
			}
		})
	}
}

// TestLimits: the lines that the page names are those of the unit.
func TestLimits(t *testing.T) {
	unit := text(t, "systemd/spinecertd.service")
	for _, section := range []string{"What the daemon cannot do", "Limits"} {
		page := text(t, "docs/hardening.md")
		_, body, _ := strings.Cut(page, "\n## "+section+"\n")
		body, _, _ = strings.Cut(body, "\n## ")
		found := 0
		for _, m := range regexp.MustCompile("`([A-Z][A-Za-z]+=)([^`]*)`").FindAllStringSubmatch(body, -1) {
			found++
			line := "\n" + m[1] + m[2]
			if m[2] != "" {
				line += "\n"
			}
			if !strings.Contains(unit, line) {
				t.Errorf("section %q names %s%s, which the unit does not have", section, m[1], m[2])
			}
		}
		if found < 8 {
			t.Errorf("section %q names %d lines of the unit", section, found)
		}
	}
}
