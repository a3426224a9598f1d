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

// runLimit keeps the promise that a run ends within twenty minutes, also on
// a machine that is busy with other work.
const runLimit = 19*time.Minute + 30*time.Second

// descriptors is what 2,000 connections need in this process (client and
// backend ends) and in a proxy (both ends), with room to spare.
const descriptors = 16384

type options struct {
	quick  bool
	only   []string // proxies; nil: all that are there, or none if only revocation is wanted
	peers  bool     // measure beside other proxies
	revoke bool     // measure revocation
	feed   bool     // measure services
	lives  []string // names of livesOf, what to measure
	out    string
	daemon string
	rounds int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if is, err := child(os.Args[1:]); is {
		if err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
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
	fs.StringVar(&only, "only", "", "comma-separated: "+strings.Join(parts(), ","))
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
		if !slices.Contains(parts(), name) {
			problem = fmt.Errorf("-only %q: not one of %s", name, strings.Join(parts(), ", "))
		}
	}
	opts.revoke = only == "" || slices.Contains(opts.only, revocationName)
	opts.feed = only == "" || slices.Contains(opts.only, servicesName)
	for _, k := range livesOf() {
		if only == "" || slices.Contains(opts.only, k.name) {
			opts.lives = append(opts.lives, k.name)
		}
	}
	opts.only = slices.DeleteFunc(opts.only, func(name string) bool { return !slices.Contains(proxyNames(), name) })
	opts.peers = only == "" || len(opts.only) > 0
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
	var found, besides []proxy // of the two parts
	var missing, lacking []string
	if opts.peers {
		found, missing = selectProxies(opts.daemon, opts.only)
	}
	if opts.revoke {
		besides, lacking = selectProxies(opts.daemon, []string{spinecertName, "haproxy"})
	}
	if opts.feed || len(opts.lives) > 0 {
		others, lack := selectProxies(opts.daemon, []string{spinecertName, baselineName})
		besides, lacking = append(besides, others...), append(lacking, lack...)
	}
	missing = slices.Compact(slices.Sorted(slices.Values(slices.Concat(missing, lacking))))
	for _, m := range missing {
		fmt.Fprintln(stderr, m)
	}
	if len(found)+len(besides) == 0 {
		return errors.New("nothing to measure")
	}
	l, err := newLab(ctx, sizesFor(opts), stderr)
	if err != nil {
		return err
	}
	defer l.close()

	rep := &report{machine: describeMachine(), missing: missing, proxies: found, versions: found, sizes: l.sizes, began: begun}
	for _, p := range besides {
		if _, known := findProxy(rep.versions, p.name); !known {
			rep.versions = append(rep.versions, p)
		}
	}
	rep.samples, rep.failures = l.rounds(ctx, found)
	if p, ok := findProxy(found, spinecertName); ok && ctx.Err() == nil {
		facts, err := l.facts(ctx, p)
		rep.facts = facts
		if err != nil {
			rep.failures = append(rep.failures, err)
		}
	}
	if opts.revoke && ctx.Err() == nil {
		rep.revocation, err = l.revocations(ctx, besides)
		if err != nil {
			rep.failures = append(rep.failures, err)
		}
	}
	if opts.feed && ctx.Err() == nil {
		rep.services, err = l.services(ctx, besides)
		if err != nil {
			rep.failures = append(rep.failures, err)
		}
	}
	if ctx.Err() == nil {
		rep.lives, err = l.lives(ctx, besides, opts.lives)
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

// parts are what -only selects from.
func parts() []string {
	out := append(proxyNames(), revocationName, servicesName)
	for _, k := range livesOf() {
		out = append(out, k.name)
	}
	return out
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
