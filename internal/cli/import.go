package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// importOptions are those of import.
type importOptions struct {
	files        []string
	key, out     string
	trust        []string
	passwordFile string
	dryRun       bool
	id           string // of a request
	allow        []string
	stdin        io.Reader
	now          time.Time
}

// newImportCmd builds the command import.
func newImportCmd(a *app) *cobra.Command {
	o := &importOptions{}
	cmd := &cobra.Command{
		Use:   "import [FILE|-]... [--request ID | --key FILE --out DIR [--trust FILE]...]",
		Short: "Take the answer to a request back, in whatever form it came",
		Long: "Finds the request whose key the certificate is for, in what came back: PEM in a mail, DER, PKCS#7, PKCS#12, or a zip of them. Orders\n" +
			"the chain, takes missing subCAs from the trust of the environment, and waits until the slot serves it. What fits and cannot be in\n" +
			"force yet (not valid before a later day, a CA that is not trusted yet) stays with its request and is tried again by itself. The\n" +
			"daemon does it, or, if none runs, this program. An --allow lets this one answer pass one guard rule: " + strings.Join(rotate.Rules(), ", ") + ".\n\n" +
			"With --key and --out, without configuration and daemon: writes cert.pem, chain.pem (subCAs, without the root), fullchain.pem and\n" +
			"key.pem into a new directory, whole or not at all.\n\n" +
			"Exit status 3: it does not fit, or is not in force yet, and why. 1: a file cannot be read or written, or there was no answer in time.",
		Example: "  spinecert import answer.txt\n" +
			"  spinecert import answer.txt --key pcs-2027/pcs.thirdparty.nhs.uk.key.pem --out pcs-live --trust live.pem",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files, o.stdin, o.now = args, a.in, time.Now()
			if o.key == "" && o.out == "" {
				if err := o.checkSlot(); err != nil {
					return a.finish(cmd, nil, err)
				}
				ctx, cancel := a.global.wait(cmd.Context(), changeWait)
				defer cancel()
				result, err := runImportSlot(ctx, a.global.writer(), o)
				return outcome(a, cmd, result, err)
			}
			result, err := runImport(cmd.Context(), o)
			return outcome(a, cmd, result, err)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.key, "key", "", "`FILE` with the private key of a request that no slot has")
	flags.StringVar(&o.out, "out", "", "new `DIR` for the four files")
	flags.StringArrayVar(&o.trust, "trust", nil, "`FILE` with roots and subCAs of the environment (repeatable)")
	flags.StringVar(&o.passwordFile, "password-file", "", "`F` has the password of PKCS#12 files in its first line")
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and write nothing")
	flags.StringVar(&o.id, "request", "", "`ID` of the request it is for, if the key is not to be searched for")
	flags.StringArrayVar(&o.allow, "allow", nil, "guard `RULE` to override, for this answer (repeatable)")
	complete(cmd, "allow", rotate.Rules()...)
	return cmd
}

// importResult is the result of import.
type importResult struct {
	Request   string         `json:"request"` // id: first 16 digits of the key's SHA-256
	Names     []string       `json:"names"`
	Subject   string         `json:"subject"`
	Issuer    string         `json:"issuer"`
	Serial    string         `json:"serial"`
	NotBefore time.Time      `json:"not_before"`
	NotAfter  time.Time      `json:"not_after"`
	SHA256    string         `json:"sha256"`
	KeySHA256 string         `json:"key_sha256"`
	FoundIn   string         `json:"found_in"`
	Chain     []importCA     `json:"chain"`  // issuing CA first, without the root
	Root      string         `json:"root"`   // "" where it is not at hand
	Judged    bool           `json:"judged"` // by the trust files
	DryRun    bool           `json:"dry_run"`
	Files     importFiles    `json:"files"`
	Notes     []string       `json:"notes"`
	leaf      certificateEnd // for the page
}

type certificateEnd struct{ notAfter, now time.Time }

type importCA struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	SHA256   string    `json:"sha256"`
	From     string    `json:"from"` // answer or trust
}

type importFiles struct {
	Certificate string `json:"certificate"`
	Chain       string `json:"chain"`
	FullChain   string `json:"fullchain"`
	Key         string `json:"key"`
}

func (o *importOptions) check() error {
	const usage = "spinecert import FILE --key FILE --out DIR --trust FILE"
	switch {
	case len(o.files) == 0:
		return usagef(usage, "import: want at least one FILE, or - for standard input")
	case o.key == "" || o.out == "":
		return usagef(usage+"; without both, the answer is for a slot", "import: --key FILE and --out DIR go together")
	case o.id != "" || len(o.allow) > 0:
		return usagef(usage, "import: --request and --allow are for slots, and not for --key and --out")
	}
	return nil
}

// runImport judges first and writes last.
func runImport(_ context.Context, o *importOptions) (*importResult, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	password, err := readPassword(o.passwordFile)
	if err != nil {
		return nil, err
	}
	key, notes, err := readKeyOf(o.key, password)
	if err != nil {
		return nil, err
	}
	bundle, err := readBundle(o.trust, o.stdin)
	if err != nil {
		return nil, err
	}
	if err := durable.Vacant(o.out); err != nil {
		return nil, unwritable(o.out, err)
	}
	answer, err := readAnswer(o.files, o.stdin, password)
	if err != nil {
		return nil, err
	}
	fitted, err := enrol.Fit(answer, key, bundle, o.now)
	if err != nil {
		var verdict *trust.VerifyError
		if errors.As(err, &verdict) {
			return nil, err
		}
		return nil, judged(codeMalformed, err)
	}
	fitted.Notes = append(notes, fitted.Notes...)
	result := o.describe(fitted)
	if o.dryRun {
		return result, nil
	}
	return result, o.write(fitted.Identity)
}

// readKeyOf reads the one private key of a file of any form.
func readKeyOf(name string, password []byte) (crypto.Signer, []string, error) {
	in, err := readInput(name, nil)
	if err != nil {
		return nil, nil, err
	}
	var notes []string
	if in.mode.Perm()&0o077 != 0 {
		notes = append(notes, fmt.Sprintf("the key file %s has mode %04o: others may have read it, chmod 600 it", name, in.mode.Perm()))
	}
	key, err := pki.ParseKey(in.data)
	if err != nil {
		contents, other := pki.Parse(in.data, password)
		switch {
		case other == nil && contents.Form == pki.FormPKCS12 && len(contents.Keys) == 1:
			return contents.Keys[0], notes, nil
		case other != nil && contents == nil && isPKCS12(other):
			err = other
		}
		return nil, nil, judged(codeMalformed, pki.WithFile(err, name))
	}
	return key, notes, nil
}

// isPKCS12 reports whether an error is about a PKCS#12 file.
func isPKCS12(err error) bool {
	var e *pki.Error
	return errors.As(err, &e) && e.Part == "pkcs12"
}

// readBundle is readTrust where trust files may be left out; none is nil.
func readBundle(names []string, stdin io.Reader) (*trust.Bundle, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return readTrust(names, stdin)
}

// readAnswer reads files of any form. One in which nothing is found is judged bad,
// be the others good or not.
func readAnswer(names []string, stdin io.Reader, password []byte) (*enrol.Answer, error) {
	answer := &enrol.Answer{}
	var errs []error
	for _, name := range names {
		in, err := readInput(name, stdin)
		if err != nil {
			return nil, err
		}
		if err := answer.Read(name, in.data, password); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, judged(codeMalformed, errors.Join(errs...))
	}
	return answer, nil
}

func (o *importOptions) write(id *pki.Identity) error {
	key, err := pki.EncodeKey(id.Signer())
	if err != nil {
		return failed(codeFailed, err)
	}
	cert, chain := pki.EncodeCertificates(id.Leaf()), pki.EncodeCertificates(id.Chain()...)
	err = durable.NewDirectory(o.out,
		durable.File{Name: "key.pem", Data: key, Mode: 0o600},
		durable.File{Name: "cert.pem", Data: cert, Mode: 0o644},
		durable.File{Name: "chain.pem", Data: chain, Mode: 0o644},
		durable.File{Name: "fullchain.pem", Data: append(cert[:len(cert):len(cert)], chain...), Mode: 0o644})
	if err != nil {
		return unwritable(o.out, err)
	}
	return nil
}

func (o *importOptions) describe(f *enrol.Fitted) *importResult {
	leaf := f.Identity.Leaf()
	names, _ := f.Identity.Names()
	r := &importResult{
		Request: pki.RequestID(leaf.PublicKey), Names: list(names), Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Serial: leaf.SerialNumber.Text(16),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), SHA256: pki.Fingerprint(leaf), KeySHA256: pki.KeyFingerprint(leaf.PublicKey),
		FoundIn: f.Where, Chain: []importCA{}, Judged: f.Judged, DryRun: o.dryRun, Notes: list(f.Notes), leaf: certificateEnd{leaf.NotAfter, o.now},
		Files: importFiles{Certificate: filepath.Join(o.out, "cert.pem"), Chain: filepath.Join(o.out, "chain.pem"),
			FullChain: filepath.Join(o.out, "fullchain.pem"), Key: filepath.Join(o.out, "key.pem")},
	}
	added := map[string]bool{}
	for _, ca := range f.Added {
		added[pki.Fingerprint(ca)] = true
	}
	for _, ca := range f.Identity.Chain() {
		c := importCA{Subject: ca.Subject.String(), NotAfter: ca.NotAfter.UTC(), SHA256: pki.Fingerprint(ca), From: "answer"}
		if added[c.SHA256] {
			c.From = "trust"
		}
		r.Chain = append(r.Chain, c)
	}
	if f.Root != nil {
		r.Root = f.Root.Subject.String()
	}
	return r
}

// show says what was found and where it is now.
func (r *importResult) show(p *page) {
	p.line("%s: the certificate of request %s", r.Subject, r.Request)
	p.fact(2, "names", r.Names...)
	p.fact(2, "valid", fmt.Sprintf("%s to %s, %s", stamp(r.NotBefore), stamp(r.NotAfter), remaining(r.leaf.notAfter, r.leaf.now)))
	p.fact(2, "sha256", r.SHA256)
	p.fact(2, "found in", r.FoundIn)
	for i, ca := range r.Chain {
		p.fact(2, fmt.Sprintf("chain %d", i+1), fmt.Sprintf("%s, until %s, from the %s", ca.Subject, stamp(ca.NotAfter), ca.From))
	}
	switch {
	case r.Judged:
		p.fact(2, "root", r.Root+", trusted")
	case r.Root != "":
		p.fact(2, "root", r.Root+", not judged")
	}
	for _, note := range r.Notes {
		p.line("note: %s", note)
	}
	p.blank()
	if r.DryRun {
		p.line("Nothing was written. Without --dry-run:")
	} else {
		p.line("Written:")
	}
	for _, name := range []string{r.Files.Certificate, r.Files.Chain, r.Files.FullChain} {
		p.line("  %s", name)
	}
	p.line("  %s (0600)", r.Files.Key)
}
