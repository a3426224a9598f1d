package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
)

// The exit statuses of the contract.
const (
	exitDone   = 0
	exitFailed = 1 // could not be done
	exitUsage  = 2 // usage or configuration
	exitJudged = 3 // --check: something would not be ready
)

const usage = `Usage: spinecertd --config FILE [--check]

  --config FILE  the configuration (default /etc/spinecert/spinecert.yaml)
  --check        load everything, publish nothing, say what would be ready:
                 0 all, 2 the configuration is wrong, 3 something would not be
  --version      say which version this is
`

// Main is the program: it returns the exit status.
func Main(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	// A program of Go that panics, or that the watchdog ends, would otherwise exit with status 2: a wrong configuration, after which
	// systemd does not start it again. So it ends by SIGABRT.
	debug.SetTraceback("crash")
	flags := flag.NewFlagSet("spinecertd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	file := flags.String("config", "/etc/spinecert/spinecert.yaml", "")
	check := flags.Bool("check", false, "")
	show := flags.Bool("version", false, "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitDone
	} else if err != nil || flags.NArg() > 0 {
		if err == nil {
			fmt.Fprintf(stderr, "error: unexpected argument %q\n", flags.Arg(0))
		}
		return exitUsage
	}
	o := Options{ConfigFile: *file, Version: version, Log: stderr}
	switch {
	case *show:
		fmt.Fprintln(stdout, "spinecertd", version)
		return exitDone
	case *check:
		return runCheck(ctx, o, stdout, stderr)
	}
	return report(Run(ctx, o), asErrors(stderr))
}

func runCheck(ctx context.Context, o Options, stdout, stderr io.Writer) int {
	text, ready, err := Check(ctx, o)
	if err != nil {
		return report(err, stderr)
	}
	fmt.Fprint(stdout, text)
	if !ready {
		return exitJudged
	}
	return exitDone
}

// report prints what ended the program, each problem of a configuration on its own.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return exitDone
	}
	var problems config.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			fmt.Fprintf(stderr, "error: %v\n", p)
			if p.Hint != "" {
				fmt.Fprintf(stderr, "hint: %s\n", p.Hint)
			}
		}
		return exitUsage
	}
	fmt.Fprintf(stderr, "error: %v\n", err)
	if hint := pki.Hint(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return exitFailed
}
