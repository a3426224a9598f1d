package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/trust"
)

// trustDiffOptions are those of trust diff.
type trustDiffOptions struct {
	trustOptions
	files []string
	stdin io.Reader
	now   time.Time
}

func newTrustDiffCmd(a *app) *cobra.Command {
	o := &trustDiffOptions{}
	cmd := &cobra.Command{
		Use:   "diff [--environment E] [FILE|-...]",
		Short: "Show what other trust files would change, and what would break",
		Long: "Shows which CAs would come and go if the files took the place of the trust files of the configuration, and which slots, and which peers\n" +
			"seen since the daemon started, depend on those that go. Without a file: what the trust files themselves would change, where the\n" +
			"daemon waits for trust accept. Nothing is changed.\n" +
			"Exit status 3: there is a difference. 0: there is none.",
		Example: "  spinecert trust diff --environment live new-live.pem",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.find(a)
			o.files, o.stdin, o.now = args, a.in, time.Now()
			ctx, cancel := a.global.wait(cmd.Context(), usualWait)
			defer cancel()
			result, err := runTrustDiff(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
	o.addEnvironment(cmd)
	return cmd
}

// trustDiffResult is the result of trust diff.
type trustDiffResult struct {
	admin.TrustDiff
	Daemon bool `json:"daemon"` // false: slots and peers are not known, and what would break neither
	now    time.Time
}

// runTrustDiff asks the daemon, or compares with the files where none runs.
func runTrustDiff(ctx context.Context, o *trustDiffOptions) (*trustDiffResult, error) {
	files, err := readFiles(o.files, o.stdin)
	if err != nil {
		return nil, err
	}
	r := &trustDiffResult{Daemon: true, now: o.now}
	environment, err := o.pickFromDaemon(ctx)
	if err == nil {
		r.TrustDiff, err = o.daemon.client().TrustDiff(ctx, admin.TrustDiffRequest{Environment: environment, Files: files})
	}
	if noDaemon(err) {
		r.Daemon = false
		r.TrustDiff, err = o.diffFiles(err, files)
	}
	if err != nil {
		return nil, o.daemon.explain(err)
	}
	if !differs(&r.TrustDiff) {
		return r, nil
	}
	f := judged(codeDifferent, fmt.Errorf("the trust of environment %q would change", r.Environment))
	f.told, f.hint = true, r.next(len(files) > 0)
	return r, f
}

func differs(d *admin.TrustDiff) bool { return len(d.Added)+len(d.Removed) > 0 }

// next is what to do with a difference.
func (r *trustDiffResult) next(files bool) string {
	switch {
	case len(r.Breaks) > 0:
		return "first see to what breaks, as each line says"
	case files:
		return "put them in place of the trust files of the configuration when it is meant"
	}
	return "if it is meant: spinecert trust accept " + r.Environment
}

// diffFiles compares with what a daemon would have in force after its start.
func (o *trustDiffOptions) diffFiles(gone error, files []admin.File) (admin.TrustDiff, error) {
	c, err := o.loadConfig(gone)
	if err != nil {
		return admin.TrustDiff{}, err
	}
	name, err := o.pick(environmentNames(c), c.DefaultEnvironment)
	if err != nil {
		return admin.TrustDiff{}, err
	}
	e, _ := c.Environment(name)
	v, err := fileView(c, e, o.now)
	if err != nil || len(files) == 0 {
		return admin.TrustDiff{Environment: name, Added: []admin.TrustCA{}, Removed: []admin.TrustCA{}, Breaks: []string{}}, err
	}
	added, err := addedTrust(c.State.Directory, name)
	if err != nil {
		return admin.TrustDiff{}, err
	}
	var sources []trust.Source
	for _, f := range files {
		sources = append(sources, trust.Source{Name: f.Name, Data: f.Data})
	}
	next, err := trust.ParseBundle(append(sources, added...)...)
	if err != nil {
		return admin.TrustDiff{}, judged(codeMalformed, err)
	}
	return v.Diff(next)
}

// show writes what comes, what goes, and what breaks.
func (r *trustDiffResult) show(p *page) {
	if !differs(&r.TrustDiff) {
		p.line("environment %s: no difference", r.Environment)
	} else {
		p.line("environment %s: %s", r.Environment, diffCounts(&r.TrustDiff))
		showDiff(p, "", &r.TrustDiff, r.now)
	}
	if !r.Daemon {
		p.line("No daemon runs: slots and peers are not known, and what would break neither.")
	}
}

func diffCounts(d *admin.TrustDiff) string {
	var parts []string
	if n := len(d.Added); n > 0 {
		parts = append(parts, count(n, "CA")+" would come")
	}
	if n := len(d.Removed); n > 0 {
		parts = append(parts, count(n, "CA")+" would go")
	}
	return strings.Join(parts, ", ")
}

// showDiff writes the CAs with a + or -, and the sentences of what breaks.
func showDiff(p *page, indent string, d *admin.TrustDiff, now time.Time) {
	for i := range d.Added {
		showCA(p, indent+"+ ", &d.Added[i], now)
	}
	for i := range d.Removed {
		ca := &d.Removed[i]
		showCA(p, indent+"- ", ca, now)
		if len(ca.Slots) > 0 {
			p.fact(4, "slots", strings.Join(ca.Slots, ", "))
		}
		if len(ca.Peers) > 0 {
			p.fact(4, "peers", peersText(ca.Peers))
		}
	}
	for _, b := range d.Breaks {
		p.line("%sbreaks: %s", indent, b)
	}
}
