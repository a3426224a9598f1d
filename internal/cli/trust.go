package cli

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
)

// newTrustCmd builds the command trust, which holds list, diff, add, accept, fetch and crl.
func newTrustCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Look at the CAs of an environment, and change them step by step",
		Args:  cobra.ArbitraryArgs,
		RunE:  needCommand,
	}
	cmd.AddCommand(newTrustListCmd(a), newTrustDiffCmd(a), newTrustAddCmd(a), newTrustAcceptCmd(a), newTrustFetchCmd(a), newTrustCRLCmd(a))
	return cmd
}

// Codes of the trust commands.
const (
	codeDifferent = "different" // the trust would change
	codeDeclined  = "declined"  // somebody was asked, and did not say yes
)

// trustOptions are those that every trust command has.
type trustOptions struct {
	environment string
	config      string
	daemon      daemonAddress
}

func (o *trustOptions) addEnvironment(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.environment, "environment", "", "`E` of the configuration (default the configuration's, or the only one)")
}

// find fills in what the global flags say.
func (o *trustOptions) find(a *app) {
	o.config, o.daemon = a.global.config, a.global.findDaemon()
}

// noDaemon tells an error that says that no daemon runs. One that does not answer,
// or does not let us in, may be there.
func noDaemon(err error) bool {
	var gone *admin.Unreachable
	return errors.As(err, &gone) && (errors.Is(gone.Err, fs.ErrNotExist) || errors.Is(gone.Err, syscall.ECONNREFUSED))
}

// loadConfig reads the configuration, in place of a daemon that does not run.
func (o *trustOptions) loadConfig(gone error) (*config.Config, error) {
	file := o.config
	if file == "" {
		file = defaultConfig
	}
	c, err := config.Load(file)
	if err == nil {
		return c, nil
	}
	if exit, _ := classify(err); exit == exitFailed && gone != nil {
		// Neither is there: that nobody answers is what is to be mended first.
		return nil, o.daemon.explain(gone)
	}
	return nil, err
}

// pick finds the environment that is meant: the one that was named, else the only
// one, else the default of the configuration.
func (o *trustOptions) pick(names []string, otherwise string) (string, error) {
	sorted := strings.Join(slices.Sorted(slices.Values(names)), ", ")
	switch {
	case o.environment != "" && slices.Contains(names, o.environment):
		return o.environment, nil
	case o.environment != "":
		f := usagef("there is "+sorted, "there is no environment %q", o.environment)
		f.code = admin.CodeUnknown
		return "", f
	case len(names) == 1:
		return names[0], nil
	case slices.Contains(names, otherwise):
		return otherwise, nil
	}
	return "", usagef("name one of "+sorted+" with --environment", "there are several environments and no default")
}

func environmentNames(c *config.Config) []string {
	var names []string
	for _, e := range c.Environments {
		names = append(names, e.Name)
	}
	return names
}

// pickFromDaemon asks the daemon what there is. Only the configuration knows the
// default, and it is not needed where there is one environment.
func (o *trustOptions) pickFromDaemon(ctx context.Context) (string, error) {
	if o.environment != "" {
		return o.environment, nil
	}
	s, err := o.daemon.client().Status(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range s.Environments {
		names = append(names, e.Name)
	}
	otherwise := ""
	if c, err := config.Load(s.Config.File); err == nil {
		otherwise = c.DefaultEnvironment
	}
	return o.pick(names, otherwise)
}

// readFiles reads files for the daemon, which opens no paths for others.
func readFiles(names []string, stdin io.Reader) ([]admin.File, error) {
	var out []admin.File
	for _, name := range names {
		in, err := readInput(name, stdin)
		if err != nil {
			return nil, err
		}
		out = append(out, admin.File{Name: name, Data: in.data})
	}
	return out, nil
}

// fingerprints reads SHA-256 fingerprints in any form in which they are printed.
func fingerprints(flag string, values []string) ([]string, error) {
	var out []string
	for _, v := range values {
		sum := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(v))
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != 32 {
			return nil, usagef("write the SHA-256 as 64 hex digits, with or without colons", "--%s %q: no SHA-256 fingerprint", flag, v)
		}
		out = append(out, sum)
	}
	return out, nil
}

// colons writes a fingerprint as openssl x509 -fingerprint -sha256 does.
func colons(sum string) string {
	var parts []string
	for sum = strings.ToUpper(sum); len(sum) >= 2; sum = sum[2:] {
		parts = append(parts, sum[:2])
	}
	return strings.Join(parts, ":")
}

// question is somebody on a terminal who can be asked.
type question struct {
	in  io.Reader
	out io.Writer // not stdout, where the result goes
}

// newQuestion is nil where nobody can be asked: stdin is no terminal, or the
// result is for a program.
func newQuestion(a *app) *question {
	f, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || a.global.output == outputJSON {
		return nil
	}
	return &question{in: a.in, out: a.err}
}

// ask shows a page and asks. Only a plain yes is one; the end of the input is no.
func (q *question) ask(show func(*page), text string) (bool, error) {
	p := &page{}
	show(p)
	if _, err := fmt.Fprintf(q.out, "%s\n%s [y/N] ", p.buffer.String(), safe(text)); err != nil {
		return false, failed(codeFailed, fmt.Errorf("ask: %w", err))
	}
	line, err := bufio.NewReader(q.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, failed(codeFailed, fmt.Errorf("read answer: %w", err))
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

func declined(what string) *exitError {
	f := judged(codeDeclined, errors.New(what))
	f.hint = "answer y to do it"
	return f
}
