package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/pki"
)

// Codes of what stands in the way of a request, or of files to be written.
const (
	codeName   = "name_refused" // against a rule for names
	codeExists = "exists"
)

// newCSRCmd builds the command csr, which holds new, list, show and cancel.
func newCSRCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "csr",
		Short: "Make keys and certificate requests, and keep track of them",
		Args:  cobra.ArbitraryArgs,
		RunE:  needCommand,
	}
	cmd.AddCommand(newCSRNewCmd(a), newCSRListCmd(a), newCSRShowCmd(a), newCSRCancelCmd(a))
	return cmd
}

// csrOptions are those of csr new.
type csrOptions struct {
	slot string
	fqdn string
	out  string
	kind string
	sans []string
	mail bool
}

func newCSRNewCmd(a *app) *cobra.Command {
	o := &csrOptions{}
	cmd := &cobra.Command{
		Use:   "new (--slot S | --fqdn NAME --out DIR)",
		Short: "Make a new key and a certificate request, for a slot or for a name",
		Long: "For a managed slot, key and request are kept in the state directory until the answer is imported, and what serves goes on. Name,\n" +
			"kind of key and alternative names are those of the configuration, unless --key or --san says otherwise. The daemon does it, or, if\n" +
			"none runs, this program.\n\n" +
			"With --fqdn and --out, without configuration and daemon: writes DIR/NAME.key.pem, which only its owner can read, and then DIR/NAME.csr, and says where to send the request. Nothing is\n" +
			"overwritten. The name becomes the common name and the only field of the subject; alternative names are added only for --san.\n" +
			"Exit status 3: a name is against a rule. 1: a file is there already, or cannot be written.",
		Example: "  spinecert csr new --slot pcs --mail\n  spinecert csr new --fqdn pcs.thirdparty.nhs.uk --out pcs-2027 --mail",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.slot == "" && !cmd.Flags().Changed("slot") {
				result, err := runCSRNew(cmd.Context(), o)
				return outcome(a, cmd, result, err)
			}
			if err := o.checkSlot(); err != nil {
				return a.finish(cmd, nil, err)
			}
			ctx, cancel := a.global.wait(cmd.Context(), changeWait)
			defer cancel()
			result, err := runCSRSlot(ctx, a.global.writer(), o)
			return outcome(a, cmd, result, err)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.slot, "slot", "", "managed slot `S` of the configuration")
	flags.StringVar(&o.fqdn, "fqdn", "", "`NAME` of the endpoint, under nhs.uk")
	flags.StringVar(&o.out, "out", "", "`DIR` for the two files; made with mode 0700 if it is not there")
	flags.StringVar(&o.kind, "key", "", "`KIND` of key: "+keyKinds()+" (default that of the slot, else rsa-2048)")
	flags.StringArrayVar(&o.sans, "san", nil, "alternative `NAME` to ask for (repeatable)")
	flags.BoolVar(&o.mail, "mail", false, "write the mail as well")
	complete(cmd, "key", strings.Split(keyKinds(), ", ")...)
	return cmd
}

func keyKinds() string {
	var names []string
	for _, k := range pki.KeyKinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// csrResult is the result of csr new.
type csrResult struct {
	ID        string        `json:"id"` // first 16 digits of the key's SHA-256 (CONTRACT.md, 1)
	FQDN      string        `json:"fqdn"`
	SANs      []string      `json:"sans"`
	Key       string        `json:"key"` // kind
	KeySHA256 string        `json:"key_sha256"`
	Files     *csrFiles     `json:"files,omitempty"` // without a slot
	SendTo    []csrDesk     `json:"send_to"`
	Notes     []warning     `json:"notes"`
	Mail      *enrol.Letter `json:"mail,omitempty"`

	Slot        string `json:"slot,omitempty"` // and with it:
	Environment string `json:"environment,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Request     string `json:"csr,omitempty"` // PEM
	Inbox       string `json:"inbox,omitempty"`
	Offline     bool   `json:"offline,omitempty"` // no daemon took part
}

type csrFiles struct {
	Request string `json:"request"`
	Key     string `json:"key"`
}

type csrDesk struct {
	For     string `json:"for"`
	Address string `json:"address"`
	Other   string `json:"other,omitempty"`
}

func (o *csrOptions) check() error {
	const usage = "spinecert csr new --fqdn pcs.thirdparty.nhs.uk --out DIR"
	if o.kind == "" {
		o.kind = string(pki.RSA2048)
	}
	switch {
	case o.fqdn == "" && o.out == "":
		return usagef(usage+", or --slot S", "csr new: --slot S, or --fqdn NAME and --out DIR, are missing")
	case o.fqdn == "":
		return usagef(usage, "csr new: --fqdn NAME is missing")
	case o.out == "":
		return usagef(usage, "csr new: --out DIR is missing")
	case !slices.Contains(pki.KeyKinds(), pki.KeyKind(o.kind)):
		return usagef("use one of "+keyKinds(), "--key %q: unknown", o.kind)
	}
	if err := pki.CheckRequestNames(o.fqdn, o.sans...); err != nil {
		return judged(codeName, err)
	}
	return nil
}

// checkSlot judges the flags for a slot; the daemon judges the rest.
func (o *csrOptions) checkSlot() error {
	const usage = "spinecert csr new --slot S"
	switch {
	case o.slot == "":
		return usagef(usage, "csr new: --slot S is empty")
	case o.fqdn != "" || o.out != "":
		return usagef("the name of a slot is in the configuration, and its key stays in the state directory: "+usage, "csr new: --slot is not for --fqdn and --out")
	case o.kind != "" && !slices.Contains(pki.KeyKinds(), pki.KeyKind(o.kind)):
		return usagef("use one of "+keyKinds(), "--key %q: unknown", o.kind)
	}
	return nil
}

// runCSRNew makes the key, and writes it before there is a request for it.
func runCSRNew(_ context.Context, o *csrOptions) (*csrResult, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := durable.OpenDir(o.out)
	if err != nil {
		return nil, unwritable(o.out, err)
	}
	result, err := o.write(dir)
	if err != nil {
		if left := dir.Discard(); left != nil {
			err = errors.Join(err, fmt.Errorf("clean up %q: %w", o.out, left))
		}
		return nil, err
	}
	return result, dir.Close()
}

func (o *csrOptions) write(dir *durable.Dir) (*csrResult, error) {
	keyName, requestName := o.fqdn+".key.pem", o.fqdn+".csr"
	for _, name := range []string{keyName, requestName} {
		// Before a key is made, which may take seconds. Create finds out for certain.
		if there, err := dir.Exists(name); err != nil {
			return nil, unwritable(filepath.Join(o.out, name), err)
		} else if there {
			return nil, unwritable(filepath.Join(o.out, name), fs.ErrExist)
		}
	}
	key, err := pki.GenerateKey(pki.KeyKind(o.kind))
	if err != nil {
		return nil, failed(codeFailed, err)
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		return nil, failed(codeFailed, err)
	}
	if err := dir.Create(keyName, keyPEM, 0o600); err != nil {
		return nil, unwritable(filepath.Join(o.out, keyName), err)
	}
	request, err := pki.NewRequest(key, o.fqdn, o.sans...)
	if err != nil {
		return nil, failed(codeFailed, err)
	}
	if err := dir.Create(requestName, request, 0o644); err != nil {
		return nil, unwritable(filepath.Join(o.out, requestName), err)
	}
	made, err := pki.Parse(request, nil)
	if err != nil {
		return nil, failed(codeFailed, err)
	}
	o.sans = made.Requests[0].DNSNames // what it asks for, not what it was asked to ask for
	return o.describe(key.Public(), request, csrFiles{Request: filepath.Join(o.out, requestName), Key: filepath.Join(o.out, keyName)}), nil
}

func (o *csrOptions) describe(pub crypto.PublicKey, request []byte, files csrFiles) *csrResult {
	r := &csrResult{ID: pki.RequestID(pub), FQDN: o.fqdn, SANs: list(o.sans), Key: o.kind, KeySHA256: pki.KeyFingerprint(pub), Files: &files, Notes: requestNotes(o.kind, o.sans)}
	for _, d := range enrol.DesksFor("", o.fqdn) {
		r.SendTo = append(r.SendTo, csrDesk(d))
	}
	if o.mail {
		letter := enrol.NewLetter(enrol.Applicant{}, request, enrol.Asked{Name: o.fqdn, Names: o.sans, Key: pki.DescribeKey(pub)})
		r.Mail = &letter
	}
	return r
}

// requestNotes says what nobody has confirmed of a request.
func requestNotes(kind string, sans []string) []warning {
	notes := []warning{}
	if !strings.HasPrefix(kind, "rsa-") {
		notes = append(notes, warning{"key_kind", "it is not confirmed that the authority takes keys that are not RSA: ask before you send it"})
	}
	if len(sans) > 0 {
		notes = append(notes, warning{"san", "it is not confirmed that the authority copies alternative names: look for them in its answer"})
	}
	return notes
}

// show says what was made and what to do with it.
func (r *csrResult) show(p *page) {
	if r.Slot != "" {
		r.showSlot(p)
		return
	}
	p.line("request for %s", r.FQDN)
	p.fact(2, "id", r.ID)
	p.fact(2, "key", r.Key+", public key sha256 "+r.KeySHA256)
	p.fact(2, "alternative", r.SANs...)
	p.fact(2, "request file", r.Files.Request)
	p.fact(2, "key file", r.Files.Key+" (keep it here, and keep it: the certificate is worth nothing without it)")
	for _, n := range r.Notes {
		p.line("note: %s", n.Message)
	}
	p.blank()
	p.line("Next: see that %s is in DNS, and send the request, never the key, to", r.FQDN)
	r.showDesks(p)
	p.line("and then take the answer back, in whatever form it comes:")
	p.line("  spinecert import ANSWER --key %s --out NEW-DIR --trust FILE", quoted(r.Files.Key))
	if r.Mail == nil {
		return
	}
	p.blank()
	showLetter(p, r.Mail)
}

// unwritable is a failure to write a file or directory, with exit status 1.
func unwritable(name string, err error) *exitError {
	cause := err
	var pe *fs.PathError
	if errors.As(err, &pe) {
		cause = pe.Err
	}
	f := failed(codeFailed, fmt.Errorf("write %q: %w", name, cause))
	switch {
	case errors.Is(err, fs.ErrExist):
		f.code, f.hint = codeExists, "nothing is overwritten: name another directory, or move what is there away"
	case errors.Is(err, fs.ErrNotExist):
		f.hint = "make the directory above it first: mkdir -p " + quoted(filepath.Dir(filepath.Clean(name)))
	case errors.Is(err, fs.ErrPermission):
		f.hint = "run as a user who may write there"
	case errors.Is(err, durable.ErrNotDirectory):
		f.hint = "name a directory; a symbolic link is not followed"
	case errors.Is(err, durable.ErrNotRegular):
		f.hint = "name a file; symbolic links and devices are not written through"
	}
	return f
}
