package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/doctor"
	"github.com/spinecert/spinecert/internal/state"
)

// doctorWait is how long an examination may take: far ends and CRL servers that do
// not answer cost most of it.
const doctorWait = 30 * time.Second

// doctorOptions are those of doctor.
type doctorOptions struct {
	daemon  daemonAddress
	config  string
	named   bool // config was given
	version string
	patient time.Duration
	now     time.Time
	kernel  func() (doctor.KernelClock, error)               // nil asks it
	unit    func(context.Context) (*doctor.UnitState, error) // nil asks systemd
}

// newDoctorCmd builds the command doctor.
func newDoctorCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Examine everything: configuration, unit, clock, permissions, trust, CRLs, slots, both ends of each tunnel, and services",
		Long: "Examines configuration, daemon, its unit, clock, permissions, trust, the route to each CRL, the certificate of each slot, each tunnel (the\n" +
			"service behind an inbound one, and the far end of an outbound one, to which the daemon connects with the identity of its slot), and each\n" +
			"service that is delivered to: directory, owners and groups, labels, how it is reloaded, and what it serves.\n" +
			"It changes nothing. One line for each finding: ok, warn or fail, its code, a sentence, and below it what to do. The codes are\n" +
			"explained in docs/doctor.md. Without a daemon it examines what the files hold. --timeout says how long it may take (default 30s).\n\n" +
			"Exit status: 0 nothing says fail, 3 something does, 1 there is neither a daemon nor a configuration to examine.",
		Example: "  spinecert doctor\n  spinecert doctor --timeout 2m --output json",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := &doctorOptions{daemon: a.global.findDaemon(), config: a.global.config, named: a.global.config != "", version: a.version, patient: a.global.timeout, now: time.Now()}
			if !o.named {
				o.config = defaultConfig
			}
			if o.patient == 0 {
				o.patient = doctorWait
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), o.patient)
			defer cancel()
			result, err := runDoctor(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
}

// doctorResult is the result of doctor.
type doctorResult struct {
	Lines []doctor.Line `json:"lines"`
}

// runDoctor examines. There is a result unless nothing could be examined.
func runDoctor(ctx context.Context, o *doctorOptions) (*doctorResult, error) {
	out := doctor.Outside{Now: o.now, Version: o.version, Socket: o.daemon.socket, Kernel: o.kernel, Unit: o.unit}
	out.Status, out.StatusErr = o.askStatus(ctx)
	out.File = o.config
	if out.Config, out.ConfigErr = config.Load(out.File); out.ConfigErr != nil && !o.named && out.Status != nil {
		out.File = out.Status.Config.File // the daemon knows better where it is
		out.Config, out.ConfigErr = config.Load(out.File)
	}
	if exit, _ := classify(out.ConfigErr); out.ConfigErr != nil && exit == exitFailed && out.Status == nil {
		return nil, &exitError{exit: exitFailed, code: codeUnreachable, err: fmt.Errorf("nothing to examine: %w; %w", out.StatusErr, out.ConfigErr),
			hint: "name the configuration with --config, or start spinecertd"}
	}
	if info, err := os.Stat(out.File); err == nil {
		out.Modified = info.ModTime()
	}
	if out.Config != nil && out.Status == nil {
		out.Holder = state.Holder(out.Config.State.Directory)
	}
	r := &doctorResult{Lines: out.Examine(ctx)}
	switch {
	case out.Status != nil:
		r.Lines = append(r.Lines, o.throughDaemon(ctx)...)
	case out.Config != nil && o.mayRead(out.StatusErr):
		r.Lines = append(r.Lines, fromFiles(ctx, out.Config, o.now)...)
	}
	if out.Status != nil {
		r.Lines = doctor.WithConditions(r.Lines, out.Status.Conditions)
	}
	doctor.Sort(r.Lines)
	if n := doctor.Failed(r.Lines); n > 0 {
		err := judged(codeFindings, fmt.Errorf("%d of %s failed", n, count(len(r.Lines), "check")))
		err.told = true
		return r, err
	}
	return r, nil
}

// askStatus leaves enough time for the rest to a daemon that does not answer.
func (o *doctorOptions) askStatus(ctx context.Context) (*admin.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, min(usualWait, o.patient/3))
	defer cancel()
	s, err := o.daemon.client().Status(ctx)
	if err != nil {
		return nil, o.daemon.explain(err)
	}
	return &s, nil
}

// mayRead: who may not even ask the daemon may not read its keys either, and what
// comes of that would say nothing about the host.
func (o *doctorOptions) mayRead(err error) bool {
	return noDaemon(err) || !errors.Is(err, os.ErrPermission)
}

// throughDaemon has the daemon look at what only it has. It is given less time than
// there is, so that it can say what it did not come to.
func (o *doctorOptions) throughDaemon(ctx context.Context) []doctor.Line {
	patience := o.patient
	if end, ok := ctx.Deadline(); ok {
		patience = time.Until(end)
	}
	found, err := o.daemon.client().Doctor(ctx, patience*9/10)
	lines := make([]doctor.Line, 0, len(found.Lines)+1)
	if err != nil {
		lines = append(lines, doctor.Line{Level: doctor.Fail, Code: doctor.Daemon, Subject: o.daemon.socket,
			Message: "the daemon did not examine what it has: " + err.Error(), Hint: doctorHint(err)})
	}
	for _, l := range found.Lines {
		lines = append(lines, doctor.Line{Level: doctor.Level(l.Level), Code: l.Code, Subject: l.Subject, Message: l.Message, Hint: l.Hint, Condition: l.Condition})
	}
	return lines
}

func doctorHint(err error) string {
	var refusal *admin.Error
	if errors.As(err, &refusal) && refusal.Code == admin.CodeUsage {
		return "it is of an earlier version: restart it once it is upgraded"
	}
	return hintOr(err, "see its log: journalctl -u spinecertd")
}

// show writes a line for each finding, and its hint below it.
func (r *doctorResult) show(p *page) {
	for _, l := range r.Lines {
		p.line("%s", l)
		if l.Hint != "" {
			p.line("  hint: %s", l.Hint)
		}
	}
}
