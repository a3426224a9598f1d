package cli

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultConfig is where the configuration is looked for; no variable and no
// file of a user's own changes that.
const defaultConfig = "/etc/spinecert/spinecert.yaml"

// app is one run of the program.
type app struct {
	version string
	in      io.Reader
	out     io.Writer
	err     io.Writer
	global  globalOptions
	exit    int
	done    bool // the outcome was printed
}

// globalOptions are the flags that every command has.
type globalOptions struct {
	config  string
	socket  string
	output  string
	timeout time.Duration
}

// Main runs the command that args name, without the name of the program, and
// returns the exit status. The version is what the build says of itself.
func Main(ctx context.Context, version string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{version: version, in: stdin, out: stdout, err: stderr}
	root := newRootCmd(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.done {
		// Flags were perhaps not read to their end.
		a.global.output = requestedOutput(args)
		_ = a.finish(cmd, nil, err) // it returns what it was given
	}
	return a.exit
}

// Commands returns the tree of commands, for pages made of their help.
func Commands() *cobra.Command {
	return newRootCmd(&app{version: "devel", in: strings.NewReader(""), out: io.Discard, err: io.Discard})
}

// newRootCmd builds the tree of commands.
func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "spinecert",
		Short: "NHS Spine identities: request, inspect, verify, rotate",
		Long: "spinecert makes requests, says what certificates are, judges them against the trust of Spine, and talks to the daemon spinecertd.\n\n" +
			"Exit status: 0 done, 1 could not be done or examined, 2 usage or configuration, 3 examined and judged bad. check has its own.",
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.checkFlags(cmd)
		},
		RunE: needCommand,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	flags.StringVar(&a.global.config, "config", "", "configuration `FILE` (default "+defaultConfig+")")
	flags.StringVar(&a.global.socket, "socket", "", "admin socket of the daemon (default the configuration's, else "+defaultSocket+")")
	flags.StringVar(&a.global.output, "output", outputText, "text or json; check has textfile as well")
	flags.DurationVar(&a.global.timeout, "timeout", 0, "how long to wait for daemon or peer (default 10s, or 30s for what changes something)")
	complete(root, "output", outputText, outputJSON)
	root.AddCommand(newCSRCmd(a), newImportCmd(a), newExportCmd(a), newInspectCmd(a), newVerifyCmd(a), newStatusCmd(a), newCheckCmd(a), newDoctorCmd(a), newRotateCmd(a), newRollbackCmd(a), newDeliverCmd(a), newServicesCmd(a), newAlertsCmd(a), newReloadCmd(a), newUpgradeCmd(a), newTrustCmd(a), newStateCmd(a),
		newConfigCmd(a), newSandboxCmd(a), newCompletionCmd(a), newVersionCmd(a), newHookCmd(a))
	root.SetHelpCommand(newHelpCmd())
	return root
}

// newHelpCmd replaces cobra's, which is content with a command that does not exist.
func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(about, rest)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// checkFlags refuses values of global flags and flags of later versions.
func (a *app) checkFlags(cmd *cobra.Command) error {
	if textfile := a.global.output == outputTextfile && isPlugin(cmd); a.global.output != outputText && a.global.output != outputJSON && !textfile {
		return usagef("--output text or json", "--output %q: unknown", a.global.output)
	}
	if cmd.Flags().Changed("timeout") && a.global.timeout <= 0 {
		return usagef("write for example --timeout 10s", "--timeout %s: must be more than nothing", a.global.timeout)
	}
	return nil
}

// needCommand is what a command does that only holds others.
func needCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args)
	}
	return usagef(cmd.CommandPath()+" --help lists them", "%s: which command?", cmd.CommandPath())
}

func unknownCommand(parent *cobra.Command, args []string) error {
	if len(args) == 0 {
		return needCommand(parent, nil)
	}
	name := args[0]
	if parent.HasParent() {
		name = commandName(parent) + " " + name
	}
	hint := parent.CommandPath() + " --help lists the commands"
	parent.SuggestionsMinimumDistance = 2
	if near := parent.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef(hint, "unknown command %q", name)
}

// flagError makes a usage error of what pflag refuses. Where the command itself
// does not exist, that is what is wrong, and not its flags.
func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return unknownCommand(cmd, cmd.Flags().Args())
	}
	hint := cmd.CommandPath() + " --help lists the flags"
	if !cmd.HasParent() && strings.HasSuffix(err.Error(), "--version") {
		hint = "spinecert version"
	}
	return usagef(hint, "%v", err)
}

// exactArgs wants as many arguments as names.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		want := strings.Join(names, " and ")
		if want == "" {
			want = "no argument"
		}
		return usagef("spinecert "+strings.TrimPrefix(cmd.UseLine(), "spinecert "), "%s: want %s, got %d arguments", commandName(cmd), want, len(args))
	}
}

// commandName is the path of a command without the name of the program.
func commandName(cmd *cobra.Command) string {
	if cmd == nil || !cmd.HasParent() {
		return ""
	}
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// complete offers the values of a flag to the shell.
func complete(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// requestedOutput finds --output in arguments that may not parse.
func requestedOutput(args []string) string {
	output := outputText
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if value, ok := strings.CutPrefix(arg, "--output="); ok {
			output = value
		} else if arg == "--output" && i+1 < len(args) {
			output = args[i+1]
		}
	}
	return output
}

// wait bounds a command that waits for somebody else.
func (g globalOptions) wait(ctx context.Context, usual time.Duration) (context.Context, context.CancelFunc) {
	if g.timeout > 0 {
		usual = g.timeout
	}
	return context.WithTimeout(ctx, usual)
}
