package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// runLimit keeps the promise that a run ends within ten minutes, also on a
// machine that is busy with other work.
const runLimit = 9*time.Minute + 30*time.Second

// descriptors is what 2,000 connections need in this process (client and
// backend ends) and in a proxy (both ends), with room to spare.
const descriptors = 16384

type options struct {
	quick  bool
	only   []string
	out    string
	daemon string
	rounds int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	opts, err := parseFlags(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2)
	}
	if err := run(ctx, opts, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var opts options
	var only string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&opts.quick, "quick", false, "one short round: a look, not a result")
	fs.StringVar(&only, "only", "", "comma-separated proxies: "+strings.Join(proxyNames(), ","))
	fs.StringVar(&opts.out, "out", "", "write the tables as markdown to this file")
	fs.StringVar(&opts.daemon, "daemon", filepath.Join("bin", "spinecertd"), "the spinecertd to measure")
	fs.IntVar(&opts.rounds, "rounds", 3, "rounds; the medians over them are reported")
	if err := fs.Parse(args); err != nil {
		return opts, err
	}
	var problem error
	if fs.NArg() > 0 {
		problem = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if opts.rounds < 1 {
		problem = errors.New("-rounds must be at least 1")
	}
	if only != "" {
		opts.only = strings.Split(only, ",")
	}
	for _, name := range opts.only {
		if !slices.Contains(proxyNames(), name) {
			problem = fmt.Errorf("-only %q: not one of %s", name, strings.Join(proxyNames(), ", "))
		}
	}
	if problem != nil {
		fmt.Fprintln(stderr, "error:", problem)
	}
	return opts, problem
}

// run measures everything and writes the report to stdout and, if asked, to a
// file. Progress goes to stderr. An interrupted run stops its proxies and
// reports nothing.
func run(ctx context.Context, opts options, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("run took longer than %s", runLimit))
	defer cancel()
	if err := raiseDescriptorLimit(descriptors); err != nil {
		return err
	}
	begun := time.Now()
	found, missing := selectProxies(opts)
	for _, m := range missing {
		fmt.Fprintln(stderr, m)
	}
	if len(found) == 0 {
		return errors.New("nothing to measure")
	}
	l, err := newLab(ctx, sizesFor(opts), stderr)
	if err != nil {
		return err
	}
	defer l.close()

	rep := &report{machine: describeMachine(), missing: missing, proxies: found, sizes: l.sizes, began: begun}
	rep.samples, rep.failures = l.rounds(ctx, found)
	if p, ok := findProxy(found, spinecertName); ok && ctx.Err() == nil {
		facts, err := l.facts(ctx, p)
		rep.facts = facts
		if err != nil {
			rep.failures = append(rep.failures, err)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("run stopped: %w", context.Cause(ctx))
	}
	rep.took = time.Since(begun)
	text := rep.markdown()
	fmt.Fprint(stdout, text)
	if opts.out != "" {
		if err := os.WriteFile(opts.out, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write report %q: %w", opts.out, err)
		}
	}
	return errors.Join(rep.failures...)
}

// raiseDescriptorLimit sets the limit explicitly: Go's own silent raise at
// start is undone for children, and the proxies need theirs as well.
func raiseDescriptorLimit(need uint64) error {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	if lim.Max < need {
		return fmt.Errorf("hard limit of open files is %d, %d are needed (ulimit -Hn)", lim.Max, need)
	}
	lim.Cur = max(lim.Cur, need)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("raise limit of open files: %w", err)
	}
	return nil
}
