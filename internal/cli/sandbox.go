package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/sandbox"
)

// newSandboxCmd builds the command sandbox, and rehearse below it.
func newSandboxCmd(a *app) *cobra.Command {
	o := &sandbox.Options{}
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run a small Spine on this machine, whose identities rotate under live traffic",
		Long: "Runs a small Spine on this machine: a CA, a consumer and a provider behind the daemon's tunnels, and a stand-in for the Spine\n" +
			"Secure Proxy between them. HTTP traffic flows while every identity rotates. No root, no configuration, loopback only.\n" +
			"It ends at Ctrl-C, SIGTERM or after --duration. Exit status 3: a request failed.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args)
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			o.Out = a.pictureOut()
			result, err := runSandbox(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
	addSandboxFlags(cmd, o)
	cmd.Flags().DurationVar(&o.Duration, "duration", 0, "how long (default until Ctrl-C on a terminal, else 60s)")
	cmd.Flags().DurationVar(&o.RotateEvery, "rotate-every", sandbox.DefaultRotateEvery, "time between two rotations")
	cmd.AddCommand(newRehearseCmd(a))
	return cmd
}

func addSandboxFlags(cmd *cobra.Command, o *sandbox.Options) {
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", "", "put the files into `DIR`, where they stay (default a temporary directory)")
	flags.BoolVar(&o.Keep, "keep", false, "keep the temporary directory")
	flags.StringVar(&o.Profile, "profile", sandbox.ProfileG1, "g1 (names in the CN) or g2 (names in the SAN)")
	flags.StringVar(&o.Daemon, "daemon", "", "`PATH` of spinecertd (default beside this program)")
	complete(cmd, "profile", sandbox.ProfileG1, sandbox.ProfileG2)
}

// pictureOut is where the sandbox is watched. It is stderr where stdout is for a
// program.
func (a *app) pictureOut() io.Writer {
	if a.global.output == outputJSON {
		return a.err
	}
	return a.out
}

// untilSignal ends when somebody wants the sandbox to end; it then takes down
// what it started. A second signal ends the program at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// sandboxResult is the result of sandbox.
type sandboxResult struct {
	sandbox.Summary
}

// runSandbox runs until ctx ends or the time is over.
func runSandbox(ctx context.Context, o *sandbox.Options) (*sandboxResult, error) {
	s, err := sandbox.Run(ctx, *o)
	if err != nil {
		return nil, err
	}
	if s.Causes == nil {
		s.Causes = []sandbox.Cause{}
	}
	if s.Passed() {
		return &sandboxResult{s}, nil
	}
	f := judged(codeRehearsal, fmt.Errorf("%d of %d requests failed, %d handshakes showed a broken identity, %d requests of revoked peers were served, %d connections of others cut",
		s.Failed, s.Requests, s.BrokenServed, s.RevokedServed, s.WronglyCut))
	f.hint = "see the daemon's log in the directory of the sandbox: run again with --keep"
	return &sandboxResult{s}, f
}

// codeRehearsal is the code of a sandbox in which something got lost.
const codeRehearsal = "lost"

// show writes what happened.
func (r *sandboxResult) show(p *page) {
	p.line("requests %d, failed %d, connections %d, resumed %d, rotations %d in %.1f s", r.Requests, r.Failed, r.Connections, r.Resumed, r.Rotations, r.DurationSeconds)
	showLatency(p, r.LatencyMS)
	showRevocations(p, r.Revocations, r.RevokedCut, r.WronglyCut, r.CutLatencyMS)
	showCauses(p, r.Causes)
	if r.Directory != "" {
		p.line("files are in %s", r.Directory)
	}
}

func showLatency(p *page, l sandbox.Latency) {
	if l.Samples > 0 {
		p.line("latency of a rotation in ms: p50 %.1f, p99 %.1f, max %.1f of %d", l.P50, l.P99, l.Max, l.Samples)
	}
}

func showRevocations(p *page, revocations, cut, wrongly int64, l sandbox.Latency) {
	if revocations > 0 || wrongly > 0 {
		p.line("revocations %d, connections of revoked peers cut or refused %d, of others cut %d", revocations, cut, wrongly)
	}
	if l.Samples > 0 {
		p.line("latency of a cut in ms: p50 %.1f, p99 %.1f, max %.1f of %d", l.P50, l.P99, l.Max, l.Samples)
	}
}

func showCauses(p *page, causes []sandbox.Cause) {
	for _, c := range causes {
		p.line("  %d x %s", c.Count, c.Cause)
	}
}

// newRehearseCmd builds the command sandbox rehearse.
func newRehearseCmd(a *app) *cobra.Command {
	o := &sandbox.RehearseOptions{}
	cmd := &cobra.Command{
		Use:   "rehearse --rotations N --duration D [--revocations R] [--scenario g2] [--services nginx,haproxy]",
		Short: "Rotate N times and revoke R peers within D, unattended, with broken rotations in between",
		Long: "Makes N good rotations spread over D while requests flow, and for every ten of them at least one broken one, which must be refused.\n" +
			"With --scenario g2 everything moves from one hierarchy of CAs to another meanwhile, as from G1 to G2: both trusted, slots moved, the\n" +
			"old chain dropped; N rotations on either side, 12 where none are named.\n" +
			"With --revocations R peers are revoked through the CRL of the sandbox's CA while they talk: what they have open must be cut, what they\n" +
			"try then refused, with a ticket too, and nobody else may notice. The CRL server misbehaves now and then.\n" +
			"With --services the installed nginx and HAProxy are fed by the daemon: each rotation of their slot must be proved, under load, and one\n" +
			"delivery to each, made while its configuration is broken, must be rolled back. Exit status 2: one is not installed.\n" +
			"Exit status 3: a request failed, a broken identity was served, fewer than N rotations happened, a step did not hold, a revoked peer\n" +
			"was served, a connection of another one was cut, a service did not get a certificate or was not rolled back.",
		Example: "  spinecert sandbox rehearse --rotations 1000 --duration 120s --output json\n" +
			"  spinecert sandbox rehearse --rotations 20 --revocations 5 --duration 20s --output json\n" +
			"  spinecert sandbox rehearse --rotations 20 --services nginx,haproxy --duration 20s --output json\n" +
			"  spinecert sandbox rehearse --scenario g2 --duration 30s",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			o.Out = a.pictureOut()
			result, err := runRehearse(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
	addSandboxFlags(cmd, &o.Options)
	flags := cmd.Flags()
	flags.DurationVar(&o.Duration, "duration", sandbox.DefaultDuration, "how long; the rotations are spread over it")
	flags.IntVar(&o.Rotations, "rotations", 0, "how many good rotations")
	flags.IntVar(&o.Revocations, "revocations", 0, "how many peers are revoked while they talk, at most "+strconv.Itoa(sandbox.MaxRevocations))
	flags.StringVar(&o.Scenario, "scenario", "", "`NAME` of the scenario to follow: g2")
	complete(cmd, "scenario", sandbox.ScenarioG2)
	flags.StringSliceVar(&o.Services, "services", nil, "`LIST` of programs that are delivered to, reloaded and rolled back meanwhile: "+strings.Join(sandbox.Programs(), ","))
	complete(cmd, "services", sandbox.Programs()...)
	return cmd
}

// rehearseResult is the result of sandbox rehearse (CONTRACT.md, 3).
type rehearseResult struct {
	sandbox.Result
}

// runRehearse rehearses. There is a result also where it was broken off.
func runRehearse(ctx context.Context, o *sandbox.RehearseOptions) (*rehearseResult, error) {
	r, err := sandbox.Rehearse(ctx, *o)
	switch {
	case errors.Is(err, sandbox.ErrUsage):
		return nil, err
	case err != nil:
		return &rehearseResult{r}, err
	case r.Passed():
		return &rehearseResult{r}, nil
	}
	f := judged(codeRehearsal, errors.New(strings.Join(r.Problems, "; ")))
	f.hint = "see the daemon's log in the directory of the sandbox: run again with --keep"
	return &rehearseResult{r}, f
}

// show writes what happened.
func (r *rehearseResult) show(p *page) {
	p.line("requests %d, failed %d, connections %d, resumed %d in %.1f s", r.Requests, r.Failed, r.Connections, r.Resumed, r.DurationSeconds)
	p.line("rotations %d, broken ones refused %d, broken ones served %d", r.Rotations, r.RefusedRotations, r.BrokenServed)
	for i, s := range r.Steps {
		state := "not done"
		if s.Done {
			state = "done"
		}
		p.line("step %d of %d, %s: %s, %s, %.1f s", i+1, len(r.Steps), s.Name, state, count(len(s.Checks), "check"), s.Seconds)
		for _, c := range s.Checks {
			if !c.Held {
				p.line("  not so: %s: %s", c.What, c.Detail)
			}
		}
	}
	showLatency(p, r.LatencyMS)
	showRevocations(p, r.Revocations, r.RevokedCut, r.WronglyCut, r.CutLatencyMS)
	if r.ResumptionsRefused > 0 {
		p.line("refused although a session was resumed: %d", r.ResumptionsRefused)
	}
	if c := r.CRLRequests; c.Full+c.Unchanged > 0 {
		p.line("CRL server: %d lists, %d times not changed, %d requests spoiled in %d faults that were got over", c.Full, c.Unchanged, c.Spoiled, r.CRLFaults)
	}
	for _, s := range r.Services {
		p.line("%s: rotations %d, proved %d, rolled back %d; requests %d, failed %d, sent again %d", s.Name, s.Rotations, s.Proved, s.RolledBack, s.Requests, s.FailedRequests, s.SentAgain)
		if l := s.LatencyMS; l.Samples > 0 {
			p.line("%s: latency of a proof in ms: p50 %.1f, p99 %.1f, max %.1f of %d", s.Name, l.P50, l.P99, l.Max, l.Samples)
		}
	}
	showCauses(p, r.Causes)
}
