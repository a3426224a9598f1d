package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// inspectOptions are the flags of inspect.
type inspectOptions struct {
	files        []string
	passwordFile string
	strict       bool
	stdin        io.Reader
	now          time.Time
}

// newInspectCmd builds the command inspect.
func newInspectCmd(a *app) *cobra.Command {
	o := &inspectOptions{}
	cmd := &cobra.Command{
		Use:   "inspect [--strict] [--password-file F] FILE|-...",
		Short: "Say what a file holds: certificates, chain order, keys, requests, CRLs",
		Long: "Says what files hold: PEM, DER, PKCS#7 or PKCS#12. Nothing is trusted and nothing of a private key is shown.\n" +
			"With --strict, certificates and requests are checked against the rules of Spine and of RFC 5280 (docs/lint.md).\n" +
			"Exit status 3: a file is broken, or holds nothing that is understood; with --strict, also: a rule is broken that is an error.",
		Example: "  spinecert inspect pcs.crt pcs.key\n  spinecert inspect --strict pcs.csr\n  openssl s_client -connect host:443 -showcerts </dev/null | spinecert inspect -",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("spinecert inspect FILE, or - for standard input", "inspect: want at least one FILE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files, o.stdin, o.now = args, a.in, time.Now()
			result, err := runInspect(cmd.Context(), o)
			return outcome(a, cmd, result, err)
		},
	}
	cmd.Flags().StringVar(&o.passwordFile, "password-file", "", "`F` has the password of PKCS#12 files in its first line")
	cmd.Flags().BoolVar(&o.strict, "strict", false, "check certificates and requests against the rules, and say where each is written")
	return cmd
}

// inspectResult is the result of inspect.
type inspectResult struct {
	Files []fileFacts `json:"files"`
}

// fileFacts is everything that is said of one file.
type fileFacts struct {
	File         string             `json:"file"`
	Form         pki.Form           `json:"form"`
	Certificates []certificateFacts `json:"certificates"`
	Chain        *chainFacts        `json:"chain,omitempty"`
	Keys         []keyFacts         `json:"keys"`
	Requests     []requestFacts     `json:"requests"`
	CRLs         []crlFacts         `json:"crls"`
	Unknown      []string           `json:"unknown"` // labels of PEM blocks
	Warnings     []warning          `json:"warnings"`
	Error        string             `json:"error,omitempty"`

	now time.Time
}

// warning is something about a file that is likely to go wrong.
type warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// runInspect looks at every file, also when one of them is broken. The error is
// the worst: what could not be read before what was judged bad.
func runInspect(_ context.Context, o *inspectOptions) (*inspectResult, error) {
	password, err := readPassword(o.passwordFile)
	if err != nil {
		return nil, err
	}
	result := &inspectResult{Files: []fileFacts{}}
	var faults []error
	exit, code := exitDone, ""
	for _, name := range o.files {
		facts, err := inspectFile(name, password, o)
		if err != nil {
			facts.Error = err.Error()
			faults = append(faults, err)
			if e, c := classify(err); exit == exitDone || e == exitFailed && exit != exitFailed {
				exit, code = e, c
			}
		}
		result.Files = append(result.Files, facts)
	}
	if len(faults) == 0 {
		return result, nil
	}
	return result, &exitError{exit: exit, code: code, err: errors.Join(faults...)}
}

func inspectFile(name string, password []byte, o *inspectOptions) (fileFacts, error) {
	facts := fileFacts{File: name, now: o.now, Certificates: []certificateFacts{}, Keys: []keyFacts{}, Requests: []requestFacts{},
		CRLs: []crlFacts{}, Unknown: []string{}, Warnings: []warning{}}
	in, err := readInput(name, o.stdin)
	if err != nil {
		return facts, err
	}
	contents, fault := pki.Parse(in.data, password)
	if fault != nil {
		// An encrypted or broken key must not hide the certificates beside it.
		certs, err := pki.ParseCertificates(in.data)
		if err != nil {
			f := judged(codeMalformed, pki.WithFile(fault, name))
			if needsPassword(fault) {
				f.hint = "put the password into the first line of a file F: spinecert inspect --password-file F " + quoted(name)
			}
			return facts, f
		}
		contents = &pki.Contents{Certificates: certs}
	}
	facts.add(contents, in)
	if o.strict {
		facts.lint(contents)
	}
	switch {
	case fault != nil:
		return facts, judged(codeMalformed, pki.WithFile(fault, name))
	case facts.brokenCRL():
		return facts, judged(string(trust.CRLInvalid), fmt.Errorf("read %q: a CRL in it is malformed", name))
	case facts.empty():
		f := judged(codeMalformed, fmt.Errorf("read %q: nothing in it is understood", name))
		f.hint = "a certificate, request, CRL or key is wanted, as PEM, DER, PKCS#7 or PKCS#12"
		return facts, f
	}
	return facts, facts.lintFault()
}

// codeMalformed is the code for files that do not parse.
const codeMalformed = string(trust.Malformed)

// add describes the contents and what stands out in them.
func (f *fileFacts) add(c *pki.Contents, in input) {
	f.Form = c.Form
	if c.Unknown != nil {
		f.Unknown = c.Unknown
	}
	for _, cert := range c.Certificates {
		f.Certificates = append(f.Certificates, describeCertificate(cert, f.now))
	}
	if len(c.Certificates) > 0 {
		f.Chain = describeChain(c.Certificates)
	}
	for _, key := range c.Keys {
		f.Keys = append(f.Keys, describeKey(key, c.Certificates))
	}
	for _, request := range c.Requests {
		f.Requests = append(f.Requests, describeRequest(request))
	}
	for _, der := range c.CRLs {
		f.CRLs = append(f.CRLs, describeCRL(der, f.now))
	}
	f.Warnings = append(f.Warnings, f.findWarnings(c, in)...)
}

func (f *fileFacts) brokenCRL() bool {
	return slices.ContainsFunc(f.CRLs, func(c crlFacts) bool { return c.Error != "" })
}

func (f *fileFacts) empty() bool {
	return len(f.Certificates)+len(f.Keys)+len(f.Requests)+len(f.CRLs) == 0
}
