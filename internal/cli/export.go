package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// exportFormat is one format of export.
type exportFormat struct {
	name     string
	private  bool // holds the private key
	password bool // needs one
	encode   func(*exportSource) ([]byte, error)
}

// exportFormats lists them in the order of the manual.
func exportFormats() []exportFormat {
	return []exportFormat{
		{"cert", false, false, (*exportSource).cert},
		{"chain", false, false, (*exportSource).chainOnly},
		{"fullchain", false, false, (*exportSource).fullChain},
		{"key", true, false, (*exportSource).keyOnly},
		{"combined", true, false, (*exportSource).combined},
		{"der", false, false, (*exportSource).der},
		{"pkcs12", true, true, (*exportSource).pkcs12},
		{"trust-pem", false, false, (*exportSource).trustPEM},
		{"trust-pkcs12", false, true, (*exportSource).trustPKCS12},
	}
}

// laterFormats are those of the contract that this version has not.
func laterFormats() []string { return []string{"jks", "crl-pem", "ldaprc"} }

func exportFormatNames() []string {
	var names []string
	for _, f := range exportFormats() {
		names = append(names, f.name)
	}
	return names
}

// exportOptions are those of export.
type exportOptions struct {
	files        []string
	key          string
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
		Use:   "export --in FILE... [--key FILE] --format F --to FILE",
		Short: "Write certificates and keys in the form that a program wants",
		Long: "Reads files of any form and writes one of another: " + strings.Join(exportFormatNames(), ", ") + ".\n" +
			"What holds a private key is written with mode 0600, and never to a terminal. Nothing is judged.\n" +
			"Exit status 3: the files do not hold what the format needs. 1: a file cannot be read or written.",
		Example: "  spinecert export --in fullchain.pem --key key.pem --format pkcs12 --password-file pass --to pcs.p12",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files, o.stdin, o.stdout, o.now = slices.Concat(in, args), a.in, a.out, time.Now()
			o.json = a.global.output == outputJSON
			result, err := runExport(cmd.Context(), o)
			return outcome(a, cmd, result, err)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&in, "in", nil, "`FILE` with certificates, and perhaps the key (repeatable)")
	flags.StringVar(&o.key, "key", "", "`FILE` with the private key")
	flags.StringVar(&o.format, "format", "", "`F` is one of "+strings.Join(exportFormatNames(), ", "))
	flags.StringVar(&o.to, "to", "", "`FILE` to write, or - for standard output")
	flags.StringVar(&o.passwordFile, "password-file", "", "`F` has the password of PKCS#12 files, read or written, in its first line")
	flags.BoolVar(&o.force, "force", false, "replace a file that is there")
	laterValue(cmd, "slot")
	laterValue(cmd, "generation")
	complete(cmd, "format", exportFormatNames()...)
	return cmd
}

// exportResult is the result of export.
type exportResult struct {
	Format       string   `json:"format"`
	File         string   `json:"file"`
	Private      bool     `json:"private"` // holds a private key
	Certificates []string `json:"certificates"`
	Bytes        int      `json:"bytes"`
	Notes        []string `json:"notes"`

	data []byte // for standard output
}

// check finds the format and refuses what cannot be meant.
func (o *exportOptions) check() (exportFormat, error) {
	const usage = "spinecert export --in fullchain.pem --key key.pem --format combined --to pcs.pem"
	i := slices.IndexFunc(exportFormats(), func(f exportFormat) bool { return f.name == o.format })
	switch {
	case len(o.files) == 0:
		return exportFormat{}, usagef(usage, "export: --in FILE is missing")
	case o.format == "":
		return exportFormat{}, usagef(usage, "export: --format is missing")
	case slices.Contains(laterFormats(), o.format):
		return exportFormat{}, notSupported("--format " + o.format)
	case i < 0:
		return exportFormat{}, usagef("use one of "+strings.Join(exportFormatNames(), ", "), "--format %q: unknown", o.format)
	case o.to == "":
		return exportFormat{}, usagef(usage, "export: --to FILE is missing")
	case o.to == standardInput && o.json:
		return exportFormat{}, usagef("name a file with --to, or leave --output json out", "--to -: standard output is taken by --output json")
	}
	f := exportFormats()[i]
	if f.private && o.to == standardInput && isTerminal(o.stdout) {
		return f, usagef("name a file with --to", "--to -: a private key does not go to a terminal")
	}
	if f.password && o.passwordFile == "" {
		return f, usagef("put a password into a file of mode 0600 and name it with --password-file", "--format %s: needs --password-file", f.name)
	}
	return f, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// runExport makes all of the output before it writes any of it.
func runExport(_ context.Context, o *exportOptions) (*exportResult, error) {
	format, err := o.check()
	if err != nil {
		return nil, err
	}
	s := &exportSource{now: o.now}
	if s.password, err = readPassword(o.passwordFile); err != nil {
		return nil, err
	}
	if s.answer, err = readAnswer(o.files, o.stdin, s.password); err != nil {
		return nil, err
	}
	if err := s.findKey(o.key); err != nil {
		return nil, err
	}
	data, err := format.encode(s)
	if err != nil {
		var verdict *trust.VerifyError
		if errors.As(err, &verdict) {
			return nil, err
		}
		return nil, judged(codeOf(err, codeMalformed), err)
	}
	r := &exportResult{Format: format.name, File: o.to, Private: format.private, Certificates: list(s.wrote), Bytes: len(data),
		Notes: list(slices.Concat(s.notes, s.answer.Passed()))}
	if o.to == standardInput {
		r.data = data
		return r, nil
	}
	mode := fs.FileMode(0o644)
	if format.private {
		mode = 0o600
	}
	write := durable.Create
	if o.force {
		write = durable.Replace
	}
	if err := write(o.to, data, mode); err != nil {
		f := unwritable(o.to, err)
		if f.code == codeExists {
			f.hint = "nothing is overwritten without --force"
		}
		return nil, f
	}
	return r, nil
}

// exportSource is what was read, and what of it was written.
type exportSource struct {
	answer   *enrol.Answer
	key      crypto.Signer // nil if there is none
	password []byte
	now      time.Time
	wrote    []string
	notes    []string
}

// findKey takes the key of --key, else the one that the files hold.
func (s *exportSource) findKey(name string) error {
	if name != "" {
		key, notes, err := readKeyOf(name, s.password)
		s.key, s.notes = key, notes
		return err
	}
	switch keys := s.answer.Keys; len(keys) {
	case 0:
	case 1:
		s.key = keys[0]
	default:
		return judged(codeMalformed, fmt.Errorf("%d private keys are in the files: name the right one with --key", len(keys)))
	}
	return nil
}

// show says what was written, or is it.
func (r *exportResult) show(p *page) {
	if r.data != nil {
		p.buffer.Write(r.data)
		return
	}
	p.line("%s: %s, %s", r.File, r.Format, count(r.Bytes, "byte"))
	for i, c := range r.Certificates {
		p.fact(2, fmt.Sprintf("certificate %d", i+1), c)
	}
	if r.Private {
		p.fact(2, "private key", "inside, mode 0600")
	}
	for _, note := range r.Notes {
		p.line("note: %s", note)
	}
}

// identity is leaf, chain and key, which fit together.
func (s *exportSource) identity() (*pki.Identity, error) {
	if s.key == nil {
		f := judged(codeMalformed, errors.New("there is no private key in the files"))
		f.hint = "name it with --key"
		return nil, f
	}
	certs, err := s.leafAndChain()
	if err != nil {
		return nil, err
	}
	return pki.NewIdentity(certs, s.key)
}
