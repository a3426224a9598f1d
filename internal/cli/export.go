package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/spinecert/spinecert/internal/format"
	"github.com/spinecert/spinecert/trust"
)

// exportOptions are those of export.
type exportOptions struct {
	files        []string
	key          string
	slot         string
	generation   uint64 // 0 is the one in force
	numbered     bool   // --generation was given
	config       string
	format       string
	to           string
	passwordFile string
	force        bool
	json         bool
	stdin        io.Reader
	stdout       io.Writer
	now          time.Time
}

// newExportCmd builds the command export.
func newExportCmd(a *app) *cobra.Command {
	o := &exportOptions{}
	var in []string
	cmd := &cobra.Command{
		Use:   "export (--slot S [--generation N] | --in FILE... [--key FILE]) --format F --to FILE",
		Short: "Write certificates and keys in the form that a program wants",
		Long: "Takes what a slot of this host has, or files of any form, and writes one of: " + strings.Join(format.Names(), ", ") + ".\n" +
			"--slot reads the state directory that the configuration names, as root or its owner, and needs no daemon. CAs and CRLs are those of\n" +
			"the environment of the slot. What holds a private key is written with mode 0600, and never to a terminal. Nothing is judged.\n" +
			"ldaprc writes trust.pem, fullchain.pem and key.pem, which it names, beside it.\n" +
			"Exit status 3: what was read does not hold what the format needs. 2: there is no such slot or generation. 1: something cannot be read\n" +
			"or written, or the slot has nothing yet.",
		Example: "  spinecert export --slot pcs --format fullchain --to /etc/nginx/spine/fullchain.pem\n" +
			"  spinecert export --in fullchain.pem --key key.pem --format pkcs12 --password-file pass --to pcs.p12",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files, o.stdin, o.stdout, o.now = slices.Concat(in, args), a.in, a.out, time.Now()
			o.json, o.config, o.numbered = a.global.output == outputJSON, a.global.config, cmd.Flags().Changed("generation")
			result, err := runExport(cmd.Context(), o)
			return outcome(a, cmd, result, err)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&in, "in", nil, "`FILE` with certificates, and perhaps the key (repeatable)")
	flags.StringVar(&o.key, "key", "", "`FILE` with the private key")
	flags.StringVar(&o.slot, "slot", "", "take what slot `S` has, instead of files")
	flags.Uint64Var(&o.generation, "generation", 0, "take generation `N` of the slot (default the one in force)")
	flags.StringVar(&o.format, "format", "", "`F` is one of "+strings.Join(format.Names(), ", "))
	flags.StringVar(&o.to, "to", "", "`FILE` to write, or - for standard output")
	flags.StringVar(&o.passwordFile, "password-file", "", "`F` has the password of PKCS#12 files, read or written, or of JKS, in its first line")
	flags.BoolVar(&o.force, "force", false, "replace a file that is there")
	complete(cmd, "format", format.Names()...)
	return cmd
}

// exportResult is the result of export.
type exportResult struct {
	Format       string   `json:"format"`
	File         string   `json:"file"`
	Private      bool     `json:"private"`              // holds a private key
	Slot         string   `json:"slot,omitempty"`       // with --slot
	Generation   uint64   `json:"generation,omitempty"` // with --slot, unless it is about the environment
	Certificates []string `json:"certificates"`
	CRLs         []string `json:"crls,omitempty"`
	Beside       []string `json:"beside,omitempty"` // other files that were written
	Bytes        int      `json:"bytes"`
	Notes        []string `json:"notes"`

	data []byte // for standard output
}

const exportUsage = "spinecert export --slot pcs --format combined --to pcs.pem, or --in fullchain.pem --key key.pem in place of --slot"

// check finds the format and refuses what cannot be meant.
func (o *exportOptions) check() (format.Format, error) {
	f, ok := format.Find(o.format)
	switch {
	case o.slot == "" && len(o.files) == 0:
		return format.Format{}, usagef(exportUsage, "export: --slot S or --in FILE is missing")
	case o.slot != "" && (len(o.files) > 0 || o.key != ""):
		return format.Format{}, usagef(exportUsage, "export: --slot and --in, --key are one or the other")
	case o.slot == "" && o.numbered:
		return format.Format{}, usagef("name the slot with --slot", "--generation: is one of a slot")
	case o.numbered && o.generation == 0:
		return format.Format{}, usagef("leave it out for the one in force", "--generation 0: they are counted from 1")
	case o.format == "":
		return format.Format{}, usagef(exportUsage, "export: --format is missing")
	case !ok:
		return format.Format{}, usagef("use one of "+strings.Join(format.Names(), ", "), "--format %q: unknown", o.format)
	case o.to == "":
		return format.Format{}, usagef(exportUsage, "export: --to FILE is missing")
	case o.to == standardInput && o.json:
		return format.Format{}, usagef("name a file with --to, or leave --output json out", "--to -: standard output is taken by --output json")
	}
	return f, o.checkFormat(f)
}

// checkFormat refuses what a format cannot be asked for.
func (o *exportOptions) checkFormat(f format.Format) error {
	switch {
	case o.numbered && f.Needs&format.Identity == 0:
		return usagef("leave --generation out", "--format %s: is of the environment, which has no generations", f.Name)
	case o.to == standardInput && len(f.Beside) > 0:
		return usagef("name a file in a directory of its own with --to", "--to -: %s names files that are written beside it", f.Name)
	case o.to == standardInput && f.Private && isTerminal(o.stdout):
		return usagef("name a file with --to", "--to -: a private key does not go to a terminal")
	case f.Password && o.passwordFile == "":
		return usagef("put a password into a file of mode 0600 and name it with --password-file", "--format %s: needs --password-file", f.Name)
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// runExport makes all of the output before it writes any of it.
func runExport(_ context.Context, o *exportOptions) (*exportResult, error) {
	f, err := o.check()
	if err != nil {
		return nil, err
	}
	s := &exportSource{now: o.now, to: o.to}
	if err := s.read(o, f); err != nil {
		return nil, err
	}
	data, err := s.encode(f)
	if err != nil {
		var verdict *trust.VerifyError
		var own *exitError
		if errors.As(err, &verdict) || errors.As(err, &own) {
			return nil, err
		}
		return nil, judged(codeMalformed, err)
	}
	r := &exportResult{Format: f.Name, File: o.to, Private: f.Private, Slot: o.slot, Generation: s.generation, Certificates: list(s.wrote),
		CRLs: s.lists, Bytes: len(data), Notes: list(s.notes)}
	if o.to == standardInput {
		r.data = data
		return r, nil
	}
	for _, b := range s.beside {
		r.Beside = append(r.Beside, b.path)
	}
	// The file that names the others comes last.
	return r, writeExport(append(s.beside, exportFile{path: o.to, data: data, mode: exportMode(f)}), o.force)
}

// show says what was written, or is it.
func (r *exportResult) show(p *page) {
	if r.data != nil {
		p.buffer.Write(r.data)
		return
	}
	p.line("%s: %s, %s", r.File, r.Format, count(r.Bytes, "byte"))
	switch {
	case r.Generation != 0:
		p.fact(2, "slot", fmt.Sprintf("%s, generation %d", r.Slot, r.Generation))
	case r.Slot != "":
		p.fact(2, "slot", r.Slot+", its environment")
	}
	for i, c := range r.Certificates {
		p.fact(2, fmt.Sprintf("certificate %d", i+1), c)
	}
	for i, c := range r.CRLs {
		p.fact(2, fmt.Sprintf("crl %d", i+1), c)
	}
	if r.Private {
		p.fact(2, "private key", "inside, mode 0600")
	}
	p.fact(2, "beside it", r.Beside...)
	for _, note := range r.Notes {
		p.line("note: %s", note)
	}
}
