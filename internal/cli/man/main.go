// Command man writes the manual pages: one for each command of spinecert, made from
// its help, spinecertd(8), and spinecert.yaml(5) from docs/configuration.md.
//
//	go run ./internal/cli/man DIR
package main

import (
	_ "embed" // for the page of the daemon
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra/doc"

	"github.com/spinecert/spinecert/internal/cli"
)

//go:embed spinecertd.md
var daemonPage string

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: go run ./internal/cli/man DIR")
	}
	dir := args[0]
	for _, section := range []string{"man1", "man5", "man8"} {
		if err := os.MkdirAll(filepath.Join(dir, section), 0o755); err != nil {
			return err
		}
	}
	// The date of a page is that of the release; the same sources give the same bytes.
	date := time.Unix(0, 0).UTC()
	header := &doc.GenManHeader{Title: "SPINECERT", Section: "1", Source: "Spinecert", Manual: "Spinecert", Date: &date}
	root := cli.Commands()
	root.DisableAutoGenTag = true
	if err := doc.GenManTree(root, header, filepath.Join(dir, "man1")); err != nil {
		return fmt.Errorf("write pages of commands: %w", err)
	}
	config, err := configPage()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		filepath.Join("man8", "spinecertd.8"):     daemonPage,
		filepath.Join("man5", "spinecert.yaml.5"): config,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), md2man.Render([]byte(text)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// configPage is spinecert.yaml(5): the manual's page on the configuration, which a
// test holds to the code.
func configPage() (string, error) {
	text, err := os.ReadFile(filepath.Join("docs", "configuration.md"))
	if err != nil {
		return "", fmt.Errorf("run this where go.mod is: %w", err)
	}
	return `% "SPINECERT.YAML" "5" "" "Spinecert" "Spinecert"

# NAME

spinecert.yaml - configuration of spinecertd(8)

` + lists(string(text)) + `
# SEE ALSO

spinecertd(8), spinecert(1)
`, nil
}

// lists turns tables into lists of terms: the columns of a terminal are too few
// for them.
func lists(markdown string) string {
	var b strings.Builder
	lines := strings.Split(markdown, "\n")
	for i, line := range lines {
		cells := strings.Split(strings.Trim(strings.ReplaceAll(line, `\|`, "\x00"), "|"), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			b.WriteString(line + "\n")
		case strings.Trim(line, "|-: ") == "", i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|--"), i+1 < len(lines) && strings.HasPrefix(lines[i+1], "| --"):
			// the header and the line below it
		default:
			rest := strings.Join(cells[1:], ";")
			fmt.Fprintf(&b, "%s\n: %s\n\n", strings.TrimSpace(cells[0]), strings.ReplaceAll(strings.TrimSpace(rest), "\x00", "|"))
		}
	}
	return b.String()
}
