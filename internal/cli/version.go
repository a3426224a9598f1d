package cli

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// newVersionCmd builds the command version.
func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := runVersion(cmd.Context(), a.version)
			return outcome(a, cmd, result, err)
		},
	}
}

// versionResult is the result of version.
type versionResult struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"` // "" where the build did not record it
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// runVersion reads what the build recorded.
func runVersion(_ context.Context, version string) (*versionResult, error) {
	r := &versionResult{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return r, nil
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			r.Commit = s.Value
		case "vcs.modified":
			r.Modified = s.Value == "true"
		}
	}
	return r, nil
}

// show writes one line.
func (r *versionResult) show(p *page) {
	commit := ""
	if r.Commit != "" {
		commit = "commit " + r.Commit + ", "
	}
	p.line("spinecert %s (%s%s, %s)", r.Version, commit, r.Go, r.Platform)
}
