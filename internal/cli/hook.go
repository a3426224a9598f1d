package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
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
			"As root it refuses when others than root may write the configuration, the program, or a directory above them.\n\n" +
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
		_, _ = sd.SdNotify(false, systemd.HookStatus(o.step, err)) // without systemd nobody asks
	}
	return err
}

func runStep(ctx context.Context, o *hookOptions) error {
	root := os.Geteuid() == 0
	if root {
		if err := onlyRootWrites(o.config); err != nil {
			return unsafeHook(err, o.config)
		}
	}
	c, err := config.Load(o.config)
	if err != nil {
		return err
	}
	service, run, err := hookCommand(c, o.service, o.step)
	if err != nil {
		return err
	}
	if root {
		if err := onlyRootWrites(run.Exec[0]); err != nil && !errors.Is(err, os.ErrNotExist) { // that is for who runs it to say
			return unsafeHook(err, run.Exec[0])
		}
	}
	ctx, cancel := o.global.wait(ctx, run.Timeout)
	defer cancel()
	no := systemd.Failed(o.step)
	err = command.Run(ctx, run.Exec, deliver.Environment(*service, o.step), no)
	var exit *exec.ExitError
	reason := failure.ReasonOf(err, no)
	switch {
	case err == nil:
		return nil
	case reason == no && errors.As(err, &exit):
		return judged(reason, err)
	}
	return failed(reason, err)
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
	advice := "what root runs must be root's: chown root and chmod go-w; or give the unit a User= in a drop-in"
	return &exitError{exit: exitUsage, code: failure.NotPermitted, err: failure.New(failure.NotPermitted, advice, "run a command of %q as root: %w", path, err), hint: advice}
}
