package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/state"
)

// codeFindings is the code of a state directory that is not as it should be.
const codeFindings = "findings"

// newStateCmd builds the command state, which holds verify.
func newStateCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state",
		Short: "Look at the state directory",
		Args:  cobra.ArbitraryArgs,
		RunE:  needCommand,
	}
	cmd.AddCommand(newStateVerifyCmd(a))
	return cmd
}

// stateVerifyOptions are those of state verify.
type stateVerifyOptions struct {
	config string
}

func newStateVerifyCmd(a *app) *cobra.Command {
	o := &stateVerifyOptions{}
	return &cobra.Command{
		Use:   "verify",
		Short: "Check everything that is kept: keys, chains, digests, modes",
		Long: "Looks at every generation, request and added CA certificate in the state directory: whether keys fit their certificates, each\n" +
			"certificate issued the one before it, content is what its description says, and nobody else may read it. It changes nothing, and may\n" +
			"run beside the daemon, as root or as the user that the daemon runs as.\n\n" +
			"Exit status: 0 all is well, 3 something was found, 1 the directory cannot be read.",
		Example: "  spinecert state verify\n  spinecert state verify --config spinecert.yaml --output json",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.config = a.global.config; o.config == "" {
				o.config = defaultConfig
			}
			result, err := runStateVerify(cmd.Context(), o)
			return outcome(a, cmd, result, err)
		},
	}
}

// stateVerifyResult is the result of state verify.
type stateVerifyResult struct {
	Directory string         `json:"directory"`
	Checked   int            `json:"checked"` // generations, requests and added CA certificates
	Findings  []stateFinding `json:"findings"`
}

type stateFinding struct {
	Path    string `json:"path"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// runStateVerify looks at the state directory of the configuration. There is a
// result unless it cannot be read.
func runStateVerify(ctx context.Context, o *stateVerifyOptions) (*stateVerifyResult, error) {
	_, dir := config.Places(o.config)
	if c, err := config.Load(o.config); err == nil {
		dir = c.State.Directory
	} else if dir == "" { // mistakes elsewhere in the file are no reason not to look
		return nil, err
	}
	d, err := state.Open(dir)
	if err != nil {
		return nil, unreadableState(dir, err)
	}
	defer d.Close()
	checked, findings, err := d.Verify(ctx)
	if err != nil {
		return nil, unreadableState(dir, err)
	}
	r := &stateVerifyResult{Directory: dir, Checked: checked, Findings: []stateFinding{}}
	for _, f := range findings {
		r.Findings = append(r.Findings, stateFinding(f))
	}
	if len(r.Findings) > 0 {
		return r, judged(codeFindings, fmt.Errorf("verify state directory %q: %s", dir, count(len(r.Findings), "finding")))
	}
	return r, nil
}

func unreadableState(dir string, err error) error {
	f := failed(codeUnreadable, err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.hint = "the daemon makes it when it starts; state.directory in the configuration says where"
	case errors.Is(err, fs.ErrPermission):
		f.hint = "run as root, or as the user that owns " + quoted(dir)
	}
	return f
}

// show writes two lines for each finding.
func (r *stateVerifyResult) show(p *page) {
	for _, f := range r.Findings {
		p.line("%s: %s: %s", f.Path, f.Code, f.Message)
		if f.Hint != "" {
			p.line("    hint: %s", f.Hint)
		}
	}
	p.line("%s: %d checked, %s", r.Directory, r.Checked, count(len(r.Findings), "finding"))
}
