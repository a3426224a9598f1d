package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/anchor"
	"github.com/spinecert/spinecert/internal/config"
)

func newTrustListCmd(a *app) *cobra.Command {
	o := &trustOptions{}
	cmd := &cobra.Command{
		Use:   "list [--environment E]",
		Short: "Show the CAs of each environment, and what depends on them",
		Long: "Shows the CAs that are in force in each environment: until when, what the program knows of them, which slots stand under them, and\n" +
			"which peers were accepted under them since the daemon started. Without a daemon: those of the files, and the slots are not known.\n" +
			"Exit status 2: there is no such environment. 1: the files cannot be read.",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.find(a)
			ctx, cancel := a.global.wait(cmd.Context(), usualWait)
			defer cancel()
			result, err := runTrustList(ctx, o, time.Now())
			return outcome(a, cmd, result, err)
		},
	}
	o.addEnvironment(cmd)
	return cmd
}

// trustListResult is the result of trust list.
type trustListResult struct {
	Daemon       bool                     `json:"daemon"` // false: read from the files, and slots and peers are not known
	Environments []admin.TrustEnvironment `json:"environments"`
	now          time.Time
}

// runTrustList asks the daemon, or reads the files where none runs.
func runTrustList(ctx context.Context, o *trustOptions, now time.Time) (*trustListResult, error) {
	r := &trustListResult{Daemon: true, Environments: []admin.TrustEnvironment{}, now: now}
	all, err := o.daemon.client().Trust(ctx)
	if noDaemon(err) {
		r.Daemon = false
		all, err = o.listFiles(err, now)
	}
	if err != nil {
		return nil, o.daemon.explain(err)
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
		if o.environment == "" || o.environment == e.Name {
			r.Environments = append(r.Environments, e)
		}
	}
	if o.environment != "" {
		_, err = o.pick(names, "")
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// listFiles reads what a daemon would have in force after its start.
func (o *trustOptions) listFiles(gone error, now time.Time) ([]admin.TrustEnvironment, error) {
	c, err := o.loadConfig(gone)
	if err != nil {
		return nil, err
	}
	var out []admin.TrustEnvironment
	for _, e := range c.Environments {
		if o.environment != "" && o.environment != e.Name {
			out = append(out, admin.TrustEnvironment{Name: e.Name, CAs: []admin.TrustCA{}})
			continue
		}
		te := admin.TrustEnvironment{Name: e.Name, CAs: []admin.TrustCA{}}
		v, err := fileView(c, e, now)
		switch {
		case err == nil:
			te.Bundle, te.CAs = fmt.Sprintf("%x", v.Bundle.Digest()), v.CAs(v.Bundle)
		case codeOf(err, "") == codeMalformed:
			te.Refused = err.Error()
		default:
			return nil, err
		}
		out = append(out, te)
	}
	return out, nil
}

// fileView is an environment as a daemon would find it: the trust files, and what
// trust add has added. No slot and no peer is known.
func fileView(c *config.Config, e config.Environment, now time.Time) (anchor.View, error) {
	added, err := addedTrust(c.State.Directory, e.Name)
	if err != nil {
		return anchor.View{}, err
	}
	bundle, err := readTrust(e.Trust, nil, added...)
	if err != nil {
		return anchor.View{}, err
	}
	return anchor.View{Environment: e.Name, Bundle: bundle, AcceptableCAs: e.AcceptableCAs, Now: now}, nil
}

// show writes a paragraph for each CA.
func (r *trustListResult) show(p *page) {
	for _, e := range r.Environments {
		p.blank()
		p.line("environment %s: %s", e.Name, count(len(e.CAs), "CA"))
		if e.Refused != "" {
			p.line("  not in force: %s", e.Refused)
		}
		for i := range e.CAs {
			showCA(p, "  ", &e.CAs[i], r.now)
			r.showDependents(p, &e.CAs[i])
		}
		if e.Proposed != nil {
			p.line("  the trust files would change this, which waits for: spinecert trust accept %s", e.Name)
			showDiff(p, "  ", e.Proposed, r.now)
		}
	}
	if !r.Daemon {
		p.blank()
		p.line("No daemon runs: this is what the files hold. Slots and peers are not known.")
	}
}

func (r *trustListResult) showDependents(p *page, ca *admin.TrustCA) {
	if !r.Daemon {
		return
	}
	p.fact(4, "slots", orNone(strings.Join(ca.Slots, ", ")))
	p.fact(4, "peers", peersText(ca.Peers))
}

// showCA writes what a CA is. more are other forms of its fingerprint.
func showCA(p *page, mark string, ca *admin.TrustCA, now time.Time, more ...string) {
	kind := roleSubCA
	if ca.Root {
		kind = roleRoot
	}
	p.line("%s%-5s %s, until %s, %s", mark, kind, ca.Subject, stamp(ca.NotAfter), remaining(ca.NotAfter, now))
	p.fact(4, "sha256", append([]string{ca.SHA256}, more...)...)
	known := "no CA of the NHS that this program knows"
	if ca.Known != "" {
		known = ca.Known
	}
	p.fact(4, "known as", known)
	p.fact(4, "file", ca.File)
}

// peersText says how many peers were accepted under a CA, and which was the last.
func peersText(peers []admin.SeenPeer) string {
	if len(peers) == 0 {
		return "none seen"
	}
	last := peers[0]
	for _, s := range peers {
		if s.LastSeen.After(last.LastSeen) {
			last = s
		}
	}
	return fmt.Sprintf("%d seen, last %s on %s at %s", len(peers), last.Name, last.Tunnel, stamp(last.LastSeen))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
