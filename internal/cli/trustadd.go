package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/anchor"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
)

// trustAddOptions are those of trust add.
type trustAddOptions struct {
	trustOptions
	files  []string
	sha256 []string
	yes    bool
	stdin  io.Reader
	ask    *question // nil: nobody can be asked
	known  bool      // the program knows each by its fingerprint: nobody need name it
	now    time.Time
}

func newTrustAddCmd(a *app) *cobra.Command {
	o := &trustAddOptions{}
	cmd := &cobra.Command{
		Use:   "add [--environment E] FILE|-... [--yes --sha256 HEX...]",
		Short: "Trust more CAs, once their fingerprints were compared",
		Long: "Shows the CA certificates in the files with their fingerprints, asks, and adds them to the trust of the environment. They are kept below\n" +
			"the state directory of the daemon, beside its trust files, and are in force at once. A script says --yes, and the fingerprint of each with\n" +
			"--sha256. Without a daemon they are put there, and in force from its start on.\n" +
			"Exit status 3: refused, or not confirmed. 2: nobody can be asked.",
		Example: "  spinecert trust add --environment live NHSRootAuthorityG2.crt NHSauthG2.crt",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.find(a)
			o.files, o.stdin, o.ask, o.now = args, a.in, newQuestion(a), time.Now()
			result, err := runTrustAdd(cmd.Context(), o, a.global)
			return outcome(a, cmd, result, err)
		},
	}
	o.addEnvironment(cmd)
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask; needs --sha256")
	cmd.Flags().StringSliceVar(&o.sha256, "sha256", nil, "SHA-256 of a certificate that may be added, as `HEX` (repeatable)")
	return cmd
}

// trustAddResult is the result of trust add.
type trustAddResult struct {
	admin.TrustAddResult
	Daemon bool `json:"daemon"` // false: in force when it starts
	now    time.Time
	intro  []string // lines about where they come from
	shown  bool     // to who was asked
}

// adder adds CAs, or says what would be added where no fingerprint is named.
type adder func(sha256 []string) (admin.TrustAddResult, error)

// runTrustAdd shows first and adds then, and adds exactly what was shown.
func runTrustAdd(ctx context.Context, o *trustAddOptions, g globalOptions) (*trustAddResult, error) {
	sums, err := o.check()
	if err != nil {
		return nil, err
	}
	files, err := readFiles(o.files, o.stdin)
	if err != nil {
		return nil, err
	}
	return o.offer(ctx, g, files, sums, nil)
}

// offer shows what is in files, asks, and adds it. intro is shown before the CAs.
func (o *trustAddOptions) offer(ctx context.Context, g globalOptions, files []admin.File, sums, intro []string) (*trustAddResult, error) {
	r := &trustAddResult{Daemon: true, now: o.now, intro: intro}
	add := o.throughDaemon(ctx, g, files)
	var err error
	r.TrustAddResult, err = add(nil)
	if noDaemon(err) {
		r.Daemon = false
		if add, err = o.throughFiles(err, files); err == nil {
			r.TrustAddResult, err = add(nil)
		}
	}
	if err != nil {
		return nil, o.daemon.explain(err)
	}
	if len(r.Added) == 0 {
		return r, nil
	}
	if sums, err = o.confirm(r, sums); err != nil {
		return r, err
	}
	done, err := add(sums)
	if err != nil && !done.Done {
		return r, o.daemon.explain(err)
	}
	r.TrustAddResult = done
	return r, err
}

func (o *trustAddOptions) check() ([]string, error) {
	const usage = "spinecert trust add --environment E FILE..."
	switch {
	case len(o.files) == 0:
		return nil, usagef(usage, "trust add: want at least one FILE, or - for standard input")
	case o.yes && len(o.sha256) == 0:
		return nil, usagef("run it without --yes to see the fingerprints, compare them, and confirm each with --sha256", "--yes: needs --sha256 HEX for each certificate")
	}
	return fingerprints("sha256", o.sha256)
}

// confirm returns the fingerprints that were confirmed: on the command line, or by
// who was asked, for what was shown.
func (o *trustAddOptions) confirm(r *trustAddResult, sums []string) ([]string, error) {
	if o.yes {
		return sums, nil
	}
	switch {
	case o.ask == nil && o.known:
		return nil, usagef("look at what would be added; then: --yes", "nobody can be asked here, and nothing was added")
	case o.ask == nil:
		var flags strings.Builder
		for _, ca := range r.Added {
			flags.WriteString(" --sha256 " + ca.SHA256)
		}
		return nil, usagef("compare the fingerprints with those that the authority publishes; then: --yes"+flags.String(), "nobody can be asked here, and nothing was added")
	}
	text := fmt.Sprintf("Add these %d CAs to environment %s? Compare the fingerprints first.", len(r.Added), r.Environment)
	if len(r.Added) == 1 {
		text = fmt.Sprintf("Add this CA to environment %s? Compare the fingerprint first.", r.Environment)
	}
	r.shown = true
	yes, err := o.ask.ask(r.showCAs, text)
	if err != nil {
		return nil, err
	}
	if !yes {
		return nil, declined("not confirmed, and nothing was added")
	}
	if len(sums) > 0 {
		return sums, nil // named as well: both have to hold
	}
	for _, ca := range r.Added {
		sums = append(sums, ca.SHA256)
	}
	return sums, nil
}

// throughDaemon hands the files to the daemon. Each call has the whole time: in
// between somebody compares fingerprints.
func (o *trustAddOptions) throughDaemon(ctx context.Context, g globalOptions, files []admin.File) adder {
	return func(sums []string) (admin.TrustAddResult, error) {
		ctx, cancel := g.wait(ctx, changeWait)
		defer cancel()
		environment, err := o.pickFromDaemon(ctx)
		if err != nil {
			return admin.TrustAddResult{}, err
		}
		return o.daemon.client().TrustAdd(ctx, admin.TrustAddRequest{Environment: environment, Files: files, SHA256: sums})
	}
}

// fromFiles is the environment that is meant as its files have it, where no daemon
// answers; gone says why.
func (o *trustAddOptions) fromFiles(gone error) (*config.Config, anchor.View, error) {
	c, err := o.loadConfig(gone)
	if err != nil {
		return nil, anchor.View{}, err
	}
	name, err := o.pick(environmentNames(c), c.DefaultEnvironment)
	if err != nil {
		return nil, anchor.View{}, err
	}
	e, _ := c.Environment(name)
	v, err := fileView(c, e, o.now)
	return c, v, err
}

// throughFiles adds below the state directory itself, as nobody else writes there.
func (o *trustAddOptions) throughFiles(gone error, files []admin.File) (adder, error) {
	c, v, err := o.fromFiles(gone)
	if err != nil {
		return nil, err
	}
	return func(sums []string) (admin.TrustAddResult, error) {
		return addToState(c, v, admin.TrustAddRequest{Environment: v.Environment, Files: files, SHA256: sums})
	}, nil
}

// addToState judges, and adds once there are fingerprints. What only the caller may
// read was read before.
func addToState(c *config.Config, v anchor.View, r admin.TrustAddRequest) (admin.TrustAddResult, error) {
	certs, out, err := v.Judge(r)
	if err != nil || len(certs) == 0 || len(r.SHA256) == 0 {
		return out, err
	}
	alone, err := lockState(c)
	if err != nil {
		return out, writer{daemon: daemonAddress{socket: c.Admin.Socket}}.held(err)
	}
	defer alone.close()
	for _, ca := range certs {
		if _, err := alone.directory.AddTrust(v.Environment, ca); err != nil {
			return out, failed(codeState, err)
		}
		alone.audit(state.AuditLine{Event: "trust_added", Reason: v.Environment, Digest: pki.Fingerprint(ca)})
	}
	out.Done = true
	return out, nil
}

// showCAs writes what is there to decide on.
func (r *trustAddResult) showCAs(p *page) {
	for _, line := range r.intro {
		p.line("%s", line)
	}
	for i := range r.Added {
		showCA(p, "", &r.Added[i], r.now, colons(r.Added[i].SHA256))
	}
	for _, ca := range r.Already {
		p.line("in environment %s already: %s", r.Environment, ca.Subject)
	}
	for _, n := range r.Notes {
		p.line("note: %s", n)
	}
}

// show writes what was added, and what comes next.
func (r *trustAddResult) show(p *page) {
	if !r.shown {
		r.showCAs(p)
	}
	switch {
	case len(r.Added) == 0:
		p.line("environment %s: nothing to add", r.Environment)
		return
	case !r.Done:
		return
	}
	p.blank()
	p.line("environment %s: %s added. They are kept below the state directory, in trust.d/%s; the trust files are as they were.", r.Environment, count(len(r.Added), "CA"), r.Environment)
	if !r.Daemon {
		p.line("%s", offlineNote)
	}
	p.line("Next: the CRLs of the new CAs are fetched by themselves. Where CRLs are files, name those in crl.files of the environment, and run: spinecert reload")
	p.line("Then the certificates of the slots may move to the new CAs. Until all have moved, leave the old CAs where they are.")
}
