package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/alert/sink"
	"github.com/spinecert/spinecert/internal/config"
)

// newConfigCmd builds the command config, which holds check, schema and systemd.
func newConfigCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration, print its schema, or what it needs of systemd",
		Args:  cobra.ArbitraryArgs,
		RunE:  needCommand,
	}
	cmd.AddCommand(newConfigCheckCmd(a), newConfigSchemaCmd(a), newConfigSystemdCmd(a))
	return cmd
}

// configCheckOptions are those of config check.
type configCheckOptions struct {
	file string
}

func newConfigCheckCmd(a *app) *cobra.Command {
	o := &configCheckOptions{}
	return &cobra.Command{
		Use:   "check",
		Short: "Say everything that is wrong with the configuration",
		Long: "Reads the configuration and says everything that is wrong with it, as FILE:LINE:COLUMN: KEY: cause. It opens no file that the\n" +
			"configuration names and starts nothing. Exit status 2: it is wrong. 1: it cannot be read.",
		Example: "  spinecert config check --config spinecert.yaml",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("spinecert config check --config "+quoted(args[0]), "config check: the file is named by --config")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.file = a.global.config; o.file == "" {
				o.file = defaultConfig
			}
			result, err := runConfigCheck(cmd.Context(), o)
			return outcome(a, cmd, result, err)
		},
	}
}

// configCheckResult is the result of config check.
type configCheckResult struct {
	File     string           `json:"file"`
	Problems []config.Problem `json:"problems"`
	Warnings []config.Problem `json:"warnings"`
}

// runConfigCheck reads the configuration. There is a result unless the file
// cannot be read.
func runConfigCheck(_ context.Context, o *configCheckOptions) (*configCheckResult, error) {
	result := &configCheckResult{File: o.file, Problems: []config.Problem{}, Warnings: []config.Problem{}}
	c, err := config.Load(o.file)
	if err == nil {
		err = templates(c)
	}
	if err == nil {
		result.Warnings = append(result.Warnings, c.Warnings()...)
		return result, nil
	}
	exit, code := classify(err)
	var problems config.Problems
	if !errors.As(err, &problems) || exit != exitUsage {
		return nil, err
	}
	result.Problems = problems
	wrong := fmt.Errorf("the configuration %q is wrong: %s", o.file, count(len(problems), "problem"))
	return result, &exitError{exit: exit, code: code, err: wrong}
}

// templates reports what only the making of a sink finds: words that a template may not
// have. One that this user may not read is a warning already.
func templates(c *config.Config) error {
	_, err := sink.All(c, c.Alerts.Sinks, sink.Options{})
	var problems config.Problems
	if !errors.As(err, &problems) {
		return err
	}
	problems = slices.DeleteFunc(problems, func(p config.Problem) bool { return errors.Is(p, fs.ErrPermission) })
	if len(problems) == 0 {
		return nil
	}
	return problems
}

// show writes one line for each problem, in the form that editors know.
func (r *configCheckResult) show(p *page) {
	for _, problem := range r.Problems {
		p.line("%s", problem.Error())
		showHint(p, problem)
	}
	for _, warning := range r.Warnings {
		p.line("warning: %s", warning.Error())
		showHint(p, warning)
	}
	if len(r.Problems) == 0 {
		p.line("%s: ok", r.File)
	}
}

func showHint(p *page, problem config.Problem) {
	if problem.Hint != "" {
		p.line("    hint: %s", problem.Hint)
	}
}

func newConfigSchemaCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, for editors",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := runConfigSchema(cmd.Context())
			return outcome(a, cmd, result, err)
		},
	}
}

// schemaResult is the schema itself.
type schemaResult struct {
	json.RawMessage
}

// runConfigSchema makes the schema.
func runConfigSchema(context.Context) (*schemaResult, error) {
	schema, err := config.Schema()
	if err != nil {
		return nil, fmt.Errorf("make schema: %w", err)
	}
	return &schemaResult{schema}, nil
}

// show writes the schema as it is.
func (r *schemaResult) show(p *page) { p.raw(string(r.RawMessage)) }
