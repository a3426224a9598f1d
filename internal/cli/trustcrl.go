package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
)

// trustCRLOptions are those of trust crl.
type trustCRLOptions struct {
	trustOptions
	files []string
	stdin io.Reader
	now   time.Time
}

func newTrustCRLCmd(a *app) *cobra.Command {
	o := &trustCRLOptions{}
	cmd := &cobra.Command{
		Use:   "crl [--environment E] [FILE|-]...",
		Short: "Hand over CRLs that were carried here, or show those at hand",
		Long: "Hands CRLs, DER or PEM, to the daemon, for a host that has no route to where they are published. Each is judged like one that was\n" +
			"fetched: signed by a CA of the environment, and not older than the one in force. What is taken is in force at once, and kept.\n" +
			"Without FILE it shows the lists that are known: where from, until when, when the next look is.\n" +
			"Exit status 3: a list was refused, and the others were taken. 1: there is no daemon, or a file cannot be read.",
		Example: "  spinecert trust crl --environment live NHSrootG2.crl crlc1.crl\n  spinecert trust crl",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.find(a)
			o.files, o.stdin, o.now = args, a.in, time.Now()
			if len(args) == 0 {
				ctx, cancel := a.global.wait(cmd.Context(), usualWait)
				defer cancel()
				result, err := runTrustCRLList(ctx, o)
				return outcome(a, cmd, result, err)
			}
			result, err := runTrustCRL(cmd.Context(), o, a.global)
			return outcome(a, cmd, result, err)
		},
	}
	o.addEnvironment(cmd)
	return cmd
}

// trustCRLResult is the result of trust crl FILE...
type trustCRLResult struct {
	Environment string        `json:"environment"`
	Lists       []carriedFile `json:"lists"` // in the order of the files
	now         time.Time
}

// carriedFile is what became of one file.
type carriedFile struct {
	File   string     `json:"file"`
	Taken  bool       `json:"taken"`
	CRL    *admin.CRL `json:"crl"` // null where it was not taken
	Reason string     `json:"reason"`
	Error  string     `json:"error"`
	Hint   string     `json:"hint"`
}

// runTrustCRL hands over each file. One that is refused is no reason not to take the
// others: each is a list of its own.
func runTrustCRL(ctx context.Context, o *trustCRLOptions, g globalOptions) (*trustCRLResult, error) {
	r := &trustCRLResult{Lists: []carriedFile{}, now: o.now}
	var err error
	if r.Environment, err = o.pickAlive(ctx, g); err != nil {
		return nil, o.needsDaemon(err)
	}
	var refused, failures []error
	for _, name := range o.files {
		f := carriedFile{File: name}
		crl, err := o.carry(ctx, g, r.Environment, name)
		switch exit, code := classify(err); {
		case err == nil:
			f.Taken, f.CRL = true, &crl
		case noDaemon(err): // it went meanwhile
			return r, o.needsDaemon(err)
		default:
			f.Reason, f.Error, f.Hint = code, err.Error(), hintOf(err)
			if exit == exitJudged {
				refused = append(refused, err)
			} else {
				failures = append(failures, err)
			}
		}
		r.Lists = append(r.Lists, f)
	}
	return r, o.notTaken(refused, failures)
}

// notTaken is the error for what was not taken. The text says of each file why.
func (o *trustCRLOptions) notTaken(refused, failures []error) error {
	n := len(refused) + len(failures)
	if n == 0 {
		return nil
	}
	if len(o.files) == 1 {
		return errors.Join(append(refused, failures...)...)
	}
	all := fmt.Errorf("%d of %s not taken, see above", n, count(len(o.files), "list"))
	if len(refused) > 0 {
		_, code := classify(refused[0])
		return judged(code, all)
	}
	_, code := classify(failures[0])
	return failed(code, all)
}

func (o *trustCRLOptions) pickAlive(ctx context.Context, g globalOptions) (string, error) {
	ctx, cancel := g.wait(ctx, usualWait)
	defer cancel()
	return o.pickFromDaemon(ctx)
}

// carry hands over one file. The daemon opens no paths for others.
func (o *trustCRLOptions) carry(ctx context.Context, g globalOptions, environment, name string) (admin.CRL, error) {
	in, err := readInput(name, o.stdin)
	if err != nil {
		return admin.CRL{}, err
	}
	ctx, cancel := g.wait(ctx, changeWait)
	defer cancel()
	base := filepath.Base(name)
	if name == standardInput {
		base = "stdin"
	}
	out, err := o.daemon.client().CarryCRL(ctx, admin.CarryRequest{Environment: environment, Name: base, Data: in.data})
	return out.CRL, err
}

// needsDaemon says what to do where none runs.
func (o *trustCRLOptions) needsDaemon(err error) error {
	if !noDaemon(err) || o.daemon.doubt != "" {
		return o.daemon.explain(err)
	}
	exit, code := classify(err)
	return &exitError{exit: exit, code: code, err: err,
		hint: "the daemon judges and keeps lists: start it, and carry them again; or put the files into a directory that crl.files names. Another socket: --socket"}
}

// show writes a paragraph for each list.
func (r *trustCRLResult) show(p *page) {
	for i := range r.Lists {
		f := &r.Lists[i]
		p.blank()
		if !f.Taken {
			p.line("%s: not taken: %s", f.File, f.Error)
			if f.Hint != "" && len(r.Lists) > 1 {
				p.line("  hint: %s", f.Hint)
			}
			continue
		}
		p.line("%s: in force in environment %s", f.File, r.Environment)
		p.fact(2, "issuer", f.CRL.Issuer)
		p.fact(2, "number", orNone(f.CRL.Number))
		p.fact(2, "issued", stamp(f.CRL.ThisUpdate.Time))
		p.fact(2, "next update", crlEnd(f.CRL, r.now))
		p.fact(2, "entries", crlEntries(f.CRL))
		p.fact(2, "covers", crlCovers(f.CRL)...)
	}
}

// crlCovers says which certificates of its issuer a list is for.
func crlCovers(c *admin.CRL) []string {
	kind := map[string]string{"users": " (end certificates only)", "cas": " (CA certificates only)"}[c.Only]
	if len(c.Covers) == 0 {
		name := c.Origin[strings.LastIndexByte(c.Origin, '/')+1:]
		return []string{"it names no address: certificates whose CRL address ends in " + name + ", or that have none; in profile private all" + kind}
	}
	var out []string
	for _, address := range c.Covers {
		out = append(out, address+kind)
	}
	return out
}
