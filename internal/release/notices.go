package release

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

// license are the files of a module that those who hand out its code must hand out, too.
var license = regexp.MustCompile(`(?i)^(licen[cs]e|notice|copying|copyright)`)

// modules returns what is linked into a program, sorted by path.
func modules(program string) (*buildinfo.BuildInfo, []*debug.Module, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, nil, fmt.Errorf("read what is linked into %q: %w", program, err)
	}
	deps := slices.Clone(info.Deps)
	for i, m := range deps {
		if m.Replace != nil {
			deps[i] = m.Replace
		}
	}
	slices.SortFunc(deps, func(a, b *debug.Module) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Version, b.Version))
	})
	return info, deps, nil
}

// linked returns the modules of all programs, each once, sorted.
func (b *Build) linked() ([]*debug.Module, error) {
	var all []*debug.Module
	for _, name := range programs {
		_, deps, err := modules(b.Program(name))
		if err != nil {
			return nil, err
		}
		all = append(all, deps...)
	}
	slices.SortStableFunc(all, func(x, y *debug.Module) int {
		return cmp.Or(strings.Compare(x.Path, y.Path), strings.Compare(x.Version, y.Version))
	})
	return slices.CompactFunc(all, func(x, y *debug.Module) bool { return x.Path == y.Path && x.Version == y.Version }), nil
}

// notices writes the licenses of everything that is linked in.
func (b *Build) notices(ctx context.Context) error {
	linked, err := b.linked()
	if err != nil {
		return err
	}
	directories, err := b.directories(ctx)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	out.WriteString("The programs contain the Go standard library and these modules. Their licenses follow.\n\n")
	for _, m := range linked {
		fmt.Fprintf(&out, "%s %s\n", m.Path, m.Version)
	}
	if err := appendLicenses(&out, "the Go standard library", directories[""]); err != nil {
		return err
	}
	for _, m := range linked {
		if err := appendLicenses(&out, m.Path, directories[m.Path+" "+m.Version]); err != nil {
			return err
		}
	}
	text, err := compressed(out.Bytes())
	if err != nil {
		return err
	}
	return b.put("doc/THIRD-PARTY-LICENSES.gz", text)
}

// directories returns where the sources of each module are, by "path version". That
// of the standard library has no name.
func (b *Build) directories(ctx context.Context) (map[string]string, error) {
	goroot, err := goOutput(ctx, b.Root, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	list, err := goOutput(ctx, b.Root, "list", "-m", "-json", "all")
	if err != nil {
		return nil, err
	}
	directories := map[string]string{"": strings.TrimSpace(string(goroot))}
	for decoder := json.NewDecoder(bytes.NewReader(list)); ; {
		var m struct {
			Path, Version, Dir string
			Replace            *struct{ Path, Version string }
		}
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			return directories, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the list of modules: %w", err)
		}
		if m.Replace != nil {
			m.Path, m.Version = m.Replace.Path, m.Replace.Version
		}
		directories[m.Path+" "+m.Version] = m.Dir
	}
}

func goOutput(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run go %s: %w", args[0], err)
	}
	return out, nil
}

// appendLicenses writes what a module says of its license. A module without one is
// an error: nobody may hand that out.
func appendLicenses(out *bytes.Buffer, module, dir string) error {
	if dir == "" {
		return fmt.Errorf("find the sources of %s: they are not downloaded (go mod download)", module)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	found := false
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !license.MatchString(entry.Name()) || strings.HasSuffix(entry.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\n\n==== %s: %s\n\n%s\n", module, entry.Name(), bytes.TrimSpace(text))
		found = true
	}
	if !found {
		return fmt.Errorf("find the license of %s: there is none in %q", module, dir)
	}
	return nil
}
