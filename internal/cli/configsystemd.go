package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/unit"
)

// configSystemdOptions are those of config systemd.
type configSystemdOptions struct {
	file string
	host unit.Host
}

func newConfigSystemdCmd(a *app) *cobra.Command {
	o := &configSystemdOptions{host: unit.ThisHost()}
	return &cobra.Command{
		Use:   "systemd",
		Short: "Print what the configuration needs of systemd and polkit beyond the shipped unit",
		Long: "Reads the configuration and prints the files that this host needs beyond the shipped unit spinecertd.service: a drop-in (directories, groups,\n" +
			"capabilities, credentials), socket units, and the rule of polkit for the units of services. Each begins with its path. Nothing is written.\n" +
			"spinecert doctor says which of it is missing.\n\n" +
			"Exit status: 0 printed, or nothing is needed. 2 the configuration is wrong. 1 it cannot be read.",
		Example: "  spinecert config systemd\n  spinecert config systemd --config spinecert.yaml --output json",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.file = a.global.config; o.file == "" {
				o.file = defaultConfig
			}
			result, err := runConfigSystemd(cmd.Context(), o)
			return outcome(a, cmd, result, err)
		},
	}
}

// configSystemdResult is the result of config systemd.
type configSystemdResult struct {
	unit.Plan
	nothing bool
}

// runConfigSystemd reads the configuration and makes the files.
func runConfigSystemd(_ context.Context, o *configSystemdOptions) (*configSystemdResult, error) {
	c, err := config.Load(o.file)
	if err != nil {
		return nil, err
	}
	needs := unit.Of(c, o.host)
	return &configSystemdResult{Plan: needs.Plan(), nothing: needs.Nothing()}, nil
}

// show writes the files, and around them, as comments, what to do with them.
func (r *configSystemdResult) show(p *page) {
	if r.nothing {
		p.line("# nothing is needed beyond the shipped unit")
	}
	for _, note := range r.Notes {
		p.line("# note: %s", note)
	}
	for i, file := range r.Files {
		if i > 0 || len(r.Notes) > 0 {
			p.line("")
		}
		p.raw(file.Content)
	}
	if len(r.Commands) == 0 {
		return
	}
	p.line("")
	p.line("# then, as root; what does not begin with systemctl, before the files are there:")
	for _, command := range r.Commands {
		p.line("#   %s", command)
	}
}
