package cli

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// newCompletionCmd builds the command completion.
func newCompletionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print the completion script of a shell",
		Example:   "  spinecert completion bash > /etc/bash_completion.d/spinecert",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      exactArgs("bash, zsh or fish"),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := runCompletion(cmd.Context(), cmd.Root(), args[0])
			return outcome(a, cmd, result, err)
		},
	}
}

// completionResult is the result of completion.
type completionResult struct {
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

// runCompletion makes the script.
func runCompletion(_ context.Context, root *cobra.Command, shell string) (*completionResult, error) {
	var b bytes.Buffer
	var err error
	switch shell {
	case "bash":
		err = root.GenBashCompletionV2(&b, true)
	case "zsh":
		err = root.GenZshCompletion(&b)
	case "fish":
		err = root.GenFishCompletion(&b, true)
	default:
		return nil, usagef("bash, zsh or fish", "completion %q: no such shell", shell)
	}
	if err != nil {
		return nil, fmt.Errorf("make completion script: %w", err)
	}
	return &completionResult{Shell: shell, Script: b.String()}, nil
}

// show writes the script as it is.
func (r *completionResult) show(p *page) { p.raw(r.Script) }
