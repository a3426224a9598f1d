package haproxy

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/order"
)

// entry is what HAProxy changes at once: a certificate with its key, a CA file or a CRL file.
type entry struct {
	kind  Kind
	name  string // as HAProxy has it
	files []File
}

// loaded is what HAProxy lists of one kind.
type loaded struct {
	names   []string
	marked  bool   // see guard.go
	pending string // of an uncommitted transaction, "" for none
}

// entries returns what there is to change, certificates first, and takes back leftovers of ours.
func (s *session) entries(ctx context.Context) ([]entry, error) {
	var entries []entry
	for _, kind := range []Kind{Cert, CA, CRL} {
		var files []File
		for _, file := range s.files {
			if file.Kind == kind {
				files = append(files, file)
			}
		}
		if len(files) == 0 && kind != CRL {
			continue
		}
		list, err := s.list(ctx, kind)
		if err != nil {
			return nil, err
		}
		if kind == CRL {
			s.marked = list.marked
		}
		of, err := s.match(kind, files, list)
		if err != nil {
			return nil, err
		}
		if len(of) > 0 {
			if err := s.leftover(ctx, kind, of, list.pending); err != nil {
				return nil, err
			}
		}
		entries = append(entries, of...)
	}
	return entries, s.allowed(entries)
}

// leftover aborts a transaction on a path of ours, and fails for one on another path.
func (s *session) leftover(ctx context.Context, kind Kind, entries []entry, pending string) error {
	if pending == "" {
		return nil
	}
	for _, e := range entries {
		if e.name == pending {
			s.abort(ctx, e)
			return nil
		}
	}
	return failure.New(failure.ReloadFailed, fmt.Sprintf("if nobody works on it, end it: echo 'abort ssl %s %s' | socat stdio %s", kind, printable(pending), s.socket),
		"update HAProxy at %q: %w, on %q", s.socket, errBusy, printable(pending))
}

// list asks what HAProxy has loaded of a kind.
func (s *session) list(ctx context.Context, kind Kind) (loaded, error) {
	answer, err := s.ask(ctx, "show ssl "+string(kind), nil)
	if err != nil {
		return loaded{}, err
	}
	if !strings.Contains(answer, "# filename") && !strings.Contains(answer, "# transaction") {
		return loaded{}, s.refused("list", entry{kind: kind}, s.socket, answer)
	}
	var list loaded
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if kind == CA { // PATH - 2 certificate(s)
			if i := strings.LastIndex(line, " - "); i > 0 {
				line = line[:i]
			}
		}
		switch {
		case line == "", strings.HasPrefix(line, "#"), strings.HasPrefix(line, "@"): // @system-ca
		case line == mark:
			list.marked = true
		case strings.HasPrefix(line, "*"):
			list.pending = line[1:]
		default:
			list.names = append(list.names, line)
		}
	}
	return list, nil
}

// match finds each file among what is loaded, and brings those of one certificate together.
func (s *session) match(kind Kind, files []File, list loaded) ([]entry, error) {
	var entries []entry
	for _, file := range files {
		if strings.ContainsFunc(file.Path, func(r rune) bool { return r <= ' ' || r == ';' || r == '\\' || r == '<' || r == 0x7f }) {
			return nil, failure.New(failure.ReloadFailed, "give it another name", "update HAProxy %s %q: its socket cannot be told this path", kind, file.Path)
		}
		name, file := find(file, list.names)
		if name == "" {
			return nil, failure.New(failure.ReloadFailed, missingAdvice(file), "update HAProxy at %q: HAProxy does not have %s %q loaded; it has: %s", s.socket, kind, file.Path, some(list.names))
		}
		i := slices.IndexFunc(entries, func(e entry) bool { return e.name == name })
		if i < 0 {
			entries = append(entries, entry{kind: kind, name: name})
			i = len(entries) - 1
		}
		entries[i].files = append(entries[i].files, file)
	}
	for _, e := range entries {
		order.Stable(e.files, func(a, b File) int { return last(a) - last(b) })
	}
	return entries, nil
}

// last sorts a key in a file of its own behind its certificate.
func last(file File) int {
	if strings.HasSuffix(file.Path, ".key") {
		return 1
	}
	return 0
}

// find returns the name under which HAProxy has a file, "" for none, and the file with the path that HAProxy knows.
func find(file File, names []string) (string, File) {
	for _, name := range names {
		if path.Clean(name) == path.Clean(file.Path) {
			file.Path = name
			return name, file
		}
	}
	base, isKey := strings.CutSuffix(file.Path, ".key")
	if !isKey || file.Kind != Cert {
		return "", file
	}
	for _, name := range names {
		switch path.Clean(name) {
		case path.Clean(base):
			file.Path = name + ".key"
			return name, file
		case path.Clean(base) + ".crt": // ssl-load-extra-del-ext
			file.Path = strings.TrimSuffix(name, ".crt") + ".key"
			return name, file
		}
	}
	return "", file
}

func missingAdvice(file File) string {
	option := map[Kind]string{Cert: "crt", CA: "ca-file", CRL: "crl-file"}[file.Kind]
	advice := fmt.Sprintf("name it in HAProxy's configuration with %s %s, and restart HAProxy once", option, file.Path)
	if file.Kind == Cert {
		advice += "; a key of its own is named as its certificate with .key added, or deliver format combined"
	}
	return advice
}

// some returns the first few of a list, for an error.
func some(names []string) string {
	const shown = 5
	if len(names) == 0 {
		return "none"
	}
	text := printable(strings.Join(names[:min(shown, len(names))], ", "))
	if len(names) > shown {
		text += fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return clip(text)
}

// inRounds returns what may be set together: all, if there is one of each kind, or else each by itself.
func inRounds(entries []entry) [][]entry {
	seen := map[Kind]bool{}
	for _, e := range entries {
		if seen[e.kind] {
			return slices.Collect(slices.Chunk(entries, 1))
		}
		seen[e.kind] = true
	}
	return [][]entry{entries}
}
