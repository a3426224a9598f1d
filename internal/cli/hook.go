package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/deliver/command"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/systemd"
)

// hookOptions are those of hook.
type hookOptions struct {
	global        globalOptions
	config        string
	service, step string
}

// newHookCmd builds the command hook, which units call and people do not: the list of commands is without it.
func newHookCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "hook SERVICE STEP",
		Short:  "Run a command that a service has in the configuration: what spinecert-hook@.service does",
		Hidden: true,
		Long: "Runs the command that a service has for a step (validate, reload or probe) in the configuration, with a clean environment and the time that it has there.\n" +
			"spinecert-hook@SERVICE:STEP.service calls it with SERVICE:STEP, outside the sandbox of the daemon.\n" +
			"As root it refuses when others than root may write the configuration, the program, the interpreter in its first line, the script of sh, bash, dash, python, perl or env, or a directory above them.\n" +
			"What a command reads besides is its own matter: as root it must take everything below SPINECERT_DIRECTORY as written by the daemon.\n\n" +
			"Exit status: 0 the command ended with 0, 3 it said no, 1 it could not be run or did not end in time, 2 usage or configuration.",
		Args: hookArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := &hookOptions{global: a.global, config: a.global.config}
			if o.config == "" {
				o.config = defaultConfig
			}
			o.service, o.step, _ = strings.Cut(strings.Join(args, ":"), ":")
			return a.finish(cmd, nil, runHook(cmd.Context(), o))
		},
	}
}

// hookArgs wants SERVICE STEP or SERVICE:STEP.
func hookArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && strings.Count(args[0], ":") == 1 || len(args) == 2 && !strings.Contains(args[0]+args[1], ":") {
		return nil
	}
	return usagef("spinecert hook SERVICE STEP, or spinecert hook SERVICE:STEP", "hook: want a service and a step, got %d arguments", len(args))
}

// runHook runs the command of a step, and tells systemd why it failed.
func runHook(ctx context.Context, o *hookOptions) error {
	err := runStep(ctx, o)
	if err != nil {
		_, _ = sd.SdNotify(false, systemd.HookStatus(err)) // without systemd nobody asks
	}
	return err
}

func runStep(ctx context.Context, o *hookOptions) error {
	root := os.Geteuid() == 0
	c, err := hookConfiguration(o.config, root)
	if err != nil {
		return err
	}
	service, run, err := hookCommand(c, o.service, o.step)
	if err != nil {
		return err
	}
	file := run.Exec[0]
	if root {
		if file, err = rootsProgram(run.Exec); err != nil {
			return unsafeHook(err, run.Exec[0])
		}
	}
	ctx, cancel := o.global.wait(ctx, run.Timeout)
	defer cancel()
	no := systemd.Failed(o.step)
	err = command.RunFile(ctx, file, run.Exec, deliver.Environment(*service, o.step), no)
	var exit *exec.ExitError
	reason := failure.ReasonOf(err, no)
	switch {
	case err == nil:
		return nil
	case reason == no && errors.As(err, &exit):
		return &exitError{exit: exitJudged, code: reason, err: err, hint: "spinecert hook " + o.service + " " + o.step + " runs it again"}
	}
	return failed(reason, err)
}

// hookConfiguration reads the configuration: as root the file that was looked at, whatever a path with links may name a moment later.
func hookConfiguration(path string, root bool) (*config.Config, error) {
	if !root {
		return config.Load(path)
	}
	file, err := rootsPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return config.Load(path) // which says so
	}
	if err != nil {
		return nil, unsafeHook(err, path)
	}
	absolute, err := filepath.Abs(path)
	if err != nil || absolute == file {
		return config.Load(file)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return config.Parse(data, absolute) // what is relative in it starts where it does for the daemon
}

// hookCommand finds the command of a step.
func hookCommand(c *config.Config, name, step string) (*config.Service, config.Command, error) {
	var service *config.Service
	for i := range c.Services {
		if c.Services[i].Name == name {
			service = &c.Services[i]
		}
	}
	if service == nil {
		return nil, config.Command{}, usagef("spinecert config check shows the services", "hook: there is no service %q in %s", name, c.File)
	}
	var run config.Command
	switch step {
	case "validate":
		run = service.Validate
	case "reload":
		run = config.Command{Exec: service.Reload.Exec, Timeout: service.Reload.Timeout}
	case "probe":
		run = service.ProbeExec
	default:
		return nil, run, usagef("use validate, reload or probe", "hook: there is no step %q", step)
	}
	if len(run.Exec) == 0 {
		return nil, run, usagef("write "+step+": {exec: [...]} there", "hook: service %q has no command for %s in %s", name, step, c.File)
	}
	return service, run, nil
}

// unsafeHook says that the set is not to blame: it is tried again once this is mended.
func unsafeHook(err error, path string) error {
	exit, advice := exitUsage, "what root runs must be root's: chown root and chmod go-w; or give the unit a User= in a drop-in"
	if errors.Is(err, fs.ErrNotExist) {
		exit, advice = exitFailed, "check the path, and for a script also the interpreter in its first line"
	}
	return &exitError{exit: exit, code: failure.CommandUnusable, err: failure.New(failure.CommandUnusable, advice, "run a command of %q as root: %w", path, err), hint: advice}
}
