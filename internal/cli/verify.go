package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	target      string
	trust       []string
	environment string
	crls        []string
	revocation  string
	at          string
	name        string
	purpose     string
	slot        string
	certificate string
	key         string
	sni         string

	config string // of --config; "" is the default one
	stdin  io.Reader
	now    time.Time
}

// newVerifyCmd builds the command verify.
func newVerifyCmd(a *app) *cobra.Command {
	o := &verifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify [flags] FILE|-|HOST:PORT",
		Short: "Judge a certificate chain, from a file or from a peer",
		Long: "Judges a chain as the daemon judges its peers, with the trust files of --trust or of an environment of the configuration.\n" +
			"With --trust no configuration is read: a CN counts as a name where there is no SAN, and revocation is off unless --crl is given.\n" +
			"The CRLs of an environment are those of its files and those that the daemon has kept. One that is still missing is fetched from\n" +
			"crl.hosts of the environment (with --trust: crl.nhs.uk), but not with --at.\n" +
			"A HOST:PORT is judged also when it then refuses to talk to us, as it may for want of a client certificate. Where a stapled OCSP\n" +
			"response is demanded it is judged as well; a file has none.\n" +
			"Exit status 3: refused. 1: the peer, a trust file or a CRL could not be examined.",
		Example: "  spinecert verify --trust live-bundle.pem --name proxy.national.ncrs.nhs.uk chain.pem\n" +
			"  spinecert verify --trust int-bundle.pem --cert pcs.crt --key pcs.key proxy.int.spine2.ncrs.nhs.uk:443",
		Args: exactArgs("FILE, - or HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.target, o.config, o.stdin, o.now = args[0], a.global.config, a.in, time.Now()
			ctx, cancel := a.global.wait(cmd.Context(), 10*time.Second)
			defer cancel()
			result, err := runVerify(ctx, o)
			return outcome(a, cmd, result, err)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.trust, "trust", nil, "`FILE` of roots and subCAs (repeatable)")
	flags.StringVar(&o.environment, "environment", "", "environment of the configuration")
	flags.StringArrayVar(&o.crls, "crl", nil, "`FILE` of a CRL, or directory of such files (repeatable)")
	flags.StringVar(&o.revocation, "revocation", "", "require, prefer or off")
	flags.StringVar(&o.at, "at", "", "judge at this `DATE`, RFC 3339 or YYYY-MM-DD (default now)")
	flags.StringVar(&o.name, "name", "", "the name that is expected (default HOST)")
	flags.StringVar(&o.purpose, "purpose", "", "server or client (default server for HOST:PORT, either for a file)")
	flags.StringVar(&o.slot, "slot", "", "present the identity of this slot of the configuration")
	flags.StringVar(&o.certificate, "cert", "", "present the certificate of `FILE`")
	flags.StringVar(&o.key, "key", "", "with the key of `FILE`")
	flags.StringVar(&o.sni, "sni", "", "server name to ask for (default HOST, or --name where HOST is an address)")
	complete(cmd, "revocation", string(trust.Require), string(trust.Prefer), string(trust.Off))
	complete(cmd, "purpose", "server", "client")
	return cmd
}

// verification is what the options of verify mean.
type verification struct {
	host, port string // "" for a file
	at         time.Time
	request    trust.Request
	expected   string // the name; "" is not checked
}

// runVerify judges. The result is nil if it did not come to that. A refusal is
// an error with exit status 3.
func runVerify(ctx context.Context, o *verifyOptions) (*verifyResult, error) {
	v, err := o.plan()
	if err != nil {
		return nil, err
	}
	base, err := o.base()
	if err != nil {
		return nil, err
	}
	state, err := base.state(o)
	if err != nil {
		return nil, err
	}
	result := newVerifyResult(base, v)
	state = base.withKept(state, v, result)
	chain, err := o.chain(ctx, v, base, result)
	if err != nil {
		return result, result.refuse(nil, err, o)
	}
	verdict, err := state.Verify(chain, v.request)
	if missing := o.missingCRLs(base, v, verdict, err); len(missing) > 0 {
		var told []error
		state, told = base.fetchCRLs(ctx, state, missing, result)
		verdict, err = state.Verify(chain, v.request)
		err = stillMissing(result, verdict, err, told)
	}
	if v.host == "" {
		verdict, err = v.withoutStaple(state, chain, verdict, err, result)
	}
	if err != nil {
		return result, result.refuse(chain, err, o)
	}
	result.accept(verdict)
	return result, nil
}

// chain returns what is to be judged, the leaf first.
func (o *verifyOptions) chain(ctx context.Context, v *verification, base *judgementBase, result *verifyResult) ([]*x509.Certificate, error) {
	if v.host == "" {
		return o.readChain(result)
	}
	identity, err := o.identity(base)
	if err != nil {
		return nil, err
	}
	seen, err := meet(ctx, net.JoinHostPort(v.host, v.port), o.serverName(v), identity)
	if seen != nil {
		result.Peer = seen.facts()
	}
	if err != nil {
		return nil, err
	}
	v.request.Staple = seen.staple
	return seen.chain, nil
}

// plan checks the options and gives them their meaning.
func (o *verifyOptions) plan() (*verification, error) {
	v := &verification{at: o.now}
	v.host, v.port = splitTarget(o.target)
	if o.at != "" {
		at, err := parseDate(o.at)
		if err != nil {
			return nil, err
		}
		v.at = at
	}
	switch o.purpose {
	case "":
		if v.host != "" {
			v.request.Purpose = trust.ServerAuth
		}
	case "server":
		v.request.Purpose = trust.ServerAuth
	case "client":
		v.request.Purpose = trust.ClientAuth
	default:
		return nil, usagef("--purpose server or client", "--purpose %q: unknown", o.purpose)
	}
	switch mode := trust.Mode(o.revocation); mode {
	case "", trust.Require, trust.Prefer, trust.Off:
		v.request.Revocation = mode
	default:
		return nil, usagef("--revocation require, prefer or off", "--revocation %q: unknown", o.revocation)
	}
	if v.expected = o.name; v.expected == "" {
		v.expected = v.host
	}
	v.request.Now, v.request.Peers = v.at, trust.AnyName()
	if v.expected != "" {
		v.request.Peers = trust.Names(v.expected)
	}
	return v, o.conflicts(v)
}

// conflicts refuses options that say nothing together.
func (o *verifyOptions) conflicts(v *verification) error {
	identity := o.slot != "" || o.certificate != "" || o.key != ""
	switch {
	case len(o.trust) > 0 && o.environment != "":
		return usagef("leave one of them out", "--trust and --environment: trust comes from one of them")
	case v.host == "" && identity:
		return usagef("a file asks for no certificate; leave --slot, --cert and --key out", "an identity to present needs HOST:PORT")
	case v.host == "" && o.sni != "":
		return usagef("leave --sni out", "--sni needs HOST:PORT")
	case o.slot != "" && (o.certificate != "" || o.key != ""):
		return usagef("leave one of them out", "--slot and --cert: the identity comes from one of them")
	case (o.certificate == "") != (o.key == ""):
		return usagef("name both files", "--cert and --key go together")
	}
	return nil
}

// serverName is the name to ask for; an address is never one (RFC 6066, Section 3).
func (o *verifyOptions) serverName(v *verification) string {
	switch {
	case o.sni != "":
		return o.sni
	case net.ParseIP(v.host) == nil:
		return v.host
	default:
		return o.name
	}
}

// splitTarget tells HOST:PORT from a file. What exists as a file is a file.
func splitTarget(target string) (host, port string) {
	if target == standardInput || strings.Contains(target, "/") {
		return "", ""
	}
	if _, err := os.Stat(target); err == nil {
		return "", ""
	}
	host, port, err := net.SplitHostPort(target)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
		return "", ""
	}
	return host, port
}

// parseDate reads RFC 3339 or YYYY-MM-DD, which begins at 00:00 UTC.
func parseDate(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	return time.Time{}, usagef("write for example 2026-12-31 or 2026-12-31T12:00:00Z", "--at %q: not a date", s)
}

// readChain reads the certificates of a file or of stdin, the leaf first.
func (o *verifyOptions) readChain(result *verifyResult) ([]*x509.Certificate, error) {
	in, err := readInput(o.target, o.stdin)
	if errors.Is(err, fs.ErrNotExist) {
		f := failed(codeUnreadable, err)
		f.hint = "is the name right? ls -l " + quoted(o.target) + "; a peer is written HOST:PORT, without https://"
		return nil, f
	}
	if err != nil {
		return nil, err
	}
	contents, err := pki.Parse(in.data, nil)
	if err != nil {
		// The certificates beside an encrypted key can be judged without it.
		certs, certErr := pki.ParseCertificates(in.data)
		if certErr != nil {
			f := judged(codeMalformed, pki.WithFile(err, o.target))
			if needsPassword(err) {
				f.hint = "verify asks for no password; take the certificates out: openssl pkcs12 -in " + quoted(o.target) + " -nokeys -out certificates.pem"
			}
			return nil, f
		}
		contents = &pki.Contents{Certificates: certs}
	}
	if len(contents.Certificates) == 0 {
		f := judged(string(trust.NoCertificate), fmt.Errorf("read %q: there is no certificate in it", o.target))
		f.hint = "name a file with the certificate; spinecert inspect " + quoted(o.target) + " says what this one holds"
		return nil, f
	}
	chain, note := leafFirst(contents)
	if note != "" {
		result.Notes = append(result.Notes, note)
	}
	return chain, nil
}

// leafFirst puts the certificate that is meant before the others: the one of the
// key in the file, else the first that is no CA, else the first.
func leafFirst(c *pki.Contents) (chain []*x509.Certificate, note string) {
	leaf, leaves := 0, 0
	for i, cert := range c.Certificates {
		if role(cert) != roleLeaf {
			continue
		}
		if leaves++; leaves == 1 {
			leaf = i
		}
	}
	if leaves > 1 {
		note = "the file has " + count(leaves, "end certificate") + ": the first is judged"
	}
	for _, key := range c.Keys {
		if fits := describeKey(key, c.Certificates).Fits; len(fits) > 0 {
			leaf, note = fits[0]-1, ""
		}
	}
	for i, cert := range c.Certificates {
		if i == leaf {
			chain = append([]*x509.Certificate{cert}, chain...)
		} else {
			chain = append(chain, cert)
		}
	}
	return chain, note
}
