// Command make builds what is handed out, of the sources in the current directory:
//
//	go run ./internal/release/make [-out DIR] [-version VERSION] [-arch ARCH] deb|rpm|release...
//
// release is everything: both packages, the archive, the SBOM and SHA256SUMS. The
// paths of what was made go to stdout. Version and time are those of the last commit;
// where there is no git, -version and the environment variable SOURCE_DATE_EPOCH say them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spinecert/spinecert/internal/release"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("make", flag.ContinueOnError)
	out := flags.String("out", "dist", "where to")
	version := flags.String("version", "", "instead of what git says")
	arch := flags.String("arch", runtime.GOARCH, "for machines of this kind, as Go calls it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b := release.Build{Root: ".", Arch: *arch}
	var err error
	if b.Version, b.At, err = release.Describe(ctx, b.Root, *version); err != nil {
		return err
	}
	return packages(ctx, b, *out, flags.Args())
}

func packages(ctx context.Context, b release.Build, out string, what []string) (err error) {
	temporary, err := os.MkdirTemp("", "spinecert-release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	built, err := release.New(ctx, b, temporary)
	if err != nil {
		return err
	}
	deb := func() (string, error) { return built.Deb(ctx, out) }
	rpm := func() (string, error) { return built.RPM(ctx, out) }
	archive := func() (string, error) { return built.Archive(out) }
	sbom := func() (string, error) { return built.SBOM(out) }
	steps := map[string][]func() (string, error){"deb": {deb}, "rpm": {rpm}, "release": {deb, rpm, archive, sbom}}
	for _, name := range what {
		if steps[name] == nil {
			return fmt.Errorf("make %q: want deb, rpm or release", name)
		}
		var made []string
		for _, step := range steps[name] {
			path, err := step()
			if err != nil {
				return err
			}
			made = append(made, path)
		}
		if name == "release" {
			if err := release.Sums(out, made); err != nil {
				return err
			}
			made = append(made, filepath.Join(out, "SHA256SUMS"))
		}
		fmt.Println(strings.Join(made, "\n"))
	}
	return nil
}
