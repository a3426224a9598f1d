package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

const (
	// maxPublished bounds a certificate that is fetched.
	maxPublished = 64 << 10
	// fetchWait is how long all of them may take.
	fetchWait = 30 * time.Second
)

// codeUnknownCA: what was fetched is none of the CAs that the program knows.
const codeUnknownCA = "unknown_ca"

// trustFetchOptions are those of trust fetch.
type trustFetchOptions struct {
	trustAddOptions
	world  string  // of --published; "" is told from the environment
	proxy  *string // nil: that of the environment
	source publishedCAs
}

// publishedCAs is where CA certificates are published.
type publishedCAs struct {
	addresses func(world string) []trust.PublishedCA
	hosts     []string // see fetch.Config
}

func newTrustFetchCmd(a *app) *cobra.Command {
	o := &trustFetchOptions{source: publishedCAs{trust.Published, []string{trust.PublishedHost}}}
	o.known = true
	proxy := ""
	cmd := &cobra.Command{
		Use:   "fetch [--environment E] [--proxy URL] [--yes]",
		Short: "Add the CAs that the NHS publishes, where they are missing",
		Long: "Fetches root and subCA from where the NHS publishes them, takes only those that this program knows by their fingerprint and that are of\n" +
			"the world of the environment, live or path to live, shows them, asks, and adds those that are missing, as trust add does. Nothing is\n" +
			"added unless all were had. A script says --yes.\n" +
			"Exit status 3: one is not known, or not confirmed. 2: nobody can be asked. 1: one could not be fetched.",
		Example: "  spinecert trust fetch --environment live\n  spinecert trust fetch --proxy http://proxy.example:3128 --yes",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.find(a)
			o.stdin, o.ask, o.now = a.in, newQuestion(a), time.Now()
			if cmd.Flags().Changed("proxy") {
				o.proxy = &proxy
			}
			result, err := runTrustFetch(cmd.Context(), o, a.global)
			return outcome(a, cmd, result, err)
		},
	}
	o.addEnvironment(cmd)
	cmd.Flags().StringVar(&o.world, "published", "", "which are meant, live or ptl, where the environment does not tell")
	cmd.Flags().StringVar(&proxy, "proxy", "", "HTTP proxy, http://host:port (default crl.proxy of the environment; \"\" is none)")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
	complete(cmd, "published", trust.WorldLive, trust.WorldPTL)
	return cmd
}

// trustFetchResult is the result of trust fetch.
type trustFetchResult struct {
	trustAddResult
	Published string      `json:"published"` // live or ptl
	Fetched   []fetchedCA `json:"fetched"`
}

// fetchedCA is one CA certificate that was had.
type fetchedCA struct {
	Address string `json:"address"`
	Known   string `json:"known"`
	SHA256  string `json:"sha256"`
	Already bool   `json:"already"` // in the environment

	certificate *x509.Certificate
}

// fetchPlace is the environment that CAs are fetched for.
type fetchPlace struct {
	environment string
	sums        []string // of its CAs
	proxy       string
	note        string
}

// runTrustFetch has all, or adds nothing.
func runTrustFetch(ctx context.Context, o *trustFetchOptions, g globalOptions) (*trustFetchResult, error) {
	place, err := o.place(ctx, g)
	if err != nil {
		return nil, o.daemon.explain(err)
	}
	r := &trustFetchResult{Fetched: []fetchedCA{}}
	r.Environment, o.environment = place.environment, place.environment
	if r.Published, err = worldOf(place, o.world); err != nil {
		return nil, err
	}
	if o.proxy != nil {
		place.proxy, place.note = *o.proxy, ""
	}
	if r.Fetched, err = o.fetch(ctx, g, place, r.Published); err != nil {
		return nil, err
	}
	var files []admin.File
	var sums, intro []string
	for _, ca := range r.Fetched {
		line := ca.Address + ": " + ca.Known + ", known by its fingerprint"
		if ca.Already {
			line += "; in environment " + place.environment + " already"
		}
		files = append(files, admin.File{Name: ca.Address, Data: pki.EncodeCertificates(ca.certificate)})
		sums, intro = append(sums, ca.SHA256), append(intro, line)
	}
	if place.note != "" {
		intro = append(intro, "note: "+place.note)
	}
	added, err := o.offer(ctx, g, files, sums, intro)
	if added == nil {
		return nil, err
	}
	r.trustAddResult = *added
	return r, err
}

// place asks the daemon for the environment, or reads the files where none runs.
func (o *trustFetchOptions) place(ctx context.Context, g globalOptions) (*fetchPlace, error) {
	ctx, cancel := g.wait(ctx, usualWait)
	defer cancel()
	name, err := o.pickFromDaemon(ctx)
	var all []admin.TrustEnvironment
	var file string
	if err == nil {
		if all, err = o.daemon.client().Trust(ctx); err == nil {
			var s admin.Status
			s, err = o.daemon.client().Status(ctx)
			file = s.Config.File
		}
	}
	if noDaemon(err) {
		return o.placeInFiles(err)
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range all {
		if names = append(names, e.Name); e.Name != name {
			continue
		}
		p := &fetchPlace{environment: name}
		for _, ca := range e.CAs {
			p.sums = append(p.sums, ca.SHA256)
		}
		return p, p.readProxy(config.Load(file))
	}
	_, err = o.pick(names, "")
	return nil, err
}

// readProxy takes the proxy out of the configuration, as far as we may read it.
func (p *fetchPlace) readProxy(c *config.Config, err error) error {
	if err != nil {
		p.note = "the configuration cannot be read, so that its crl.proxy is not known: no proxy was used"
		return nil //nolint:nilerr // a user of the group may have asked, who reads no configuration
	}
	e, _ := c.Environment(p.environment)
	p.proxy = e.CRL.Proxy
	return nil
}

func (o *trustFetchOptions) placeInFiles(gone error) (*fetchPlace, error) {
	c, v, err := o.fromFiles(gone)
	if err != nil {
		return nil, err
	}
	e, _ := c.Environment(v.Environment)
	p := &fetchPlace{environment: v.Environment, proxy: e.CRL.Proxy}
	for _, ca := range v.Bundle.Certificates() {
		p.sums = append(p.sums, pki.Fingerprint(ca))
	}
	return p, nil
}

// worldOf tells whether an environment is of live or of path to live: by its CAs,
// else by its name, and where neither tells, by --published.
func worldOf(p *fetchPlace, said string) (string, error) {
	if said != "" && said != trust.WorldLive && said != trust.WorldPTL {
		return "", usagef("--published live or ptl", "--published %q: unknown", said)
	}
	var worlds []string
	for _, sum := range p.sums {
		if k, ok := trust.KnownFingerprint(sum); ok && !slices.Contains(worlds, k.World()) {
			worlds = append(worlds, k.World())
		}
	}
	switch {
	case said != "" && len(worlds) == 1 && worlds[0] != said:
		// Peers of both would be accepted (SPINE.md, 1).
		return "", usagef("name the environment that they are for with --environment", "environment %q holds CAs of %s, and those of %s do not belong there", p.environment, worlds[0], said)
	case said != "":
		return said, nil
	case len(worlds) == 1:
		return worlds[0], nil
	case len(worlds) == 0 && p.environment == "live":
		return trust.WorldLive, nil
	case len(worlds) == 0 && slices.Contains([]string{"int", "dep", "ptl", "dev"}, p.environment):
		return trust.WorldPTL, nil
	}
	return "", usagef("say which are meant: --published live or --published ptl", "nothing tells whether environment %q is of live or of path to live", p.environment)
}

// fetch has every certificate of a world, and knows each.
func (o *trustFetchOptions) fetch(ctx context.Context, g globalOptions, place *fetchPlace, world string) ([]fetchedCA, error) {
	client, err := fetch.New(fetch.Config{Hosts: o.source.hosts, Proxy: place.proxy, MaxBytes: maxPublished, TLS: true})
	if err != nil {
		return nil, usagef("write for example --proxy http://proxy.example:3128", "%v", err)
	}
	ctx, cancel := g.wait(ctx, fetchWait)
	defer cancel()
	var out []fetchedCA
	var failures, refused []error
	for _, p := range o.source.addresses(world) {
		var body bytes.Buffer
		if _, err := client.Get(ctx, p.Address, fetch.Known{}, &body); err != nil {
			failures = append(failures, err)
			continue
		}
		ca, err := knownCA(p, body.Bytes())
		if err != nil {
			refused = append(refused, err)
			continue
		}
		ca.Already = slices.Contains(place.sums, ca.SHA256)
		out = append(out, *ca)
	}
	nothing := errors.New("nothing was added")
	switch {
	case len(refused) > 0: // also where another could not be had
		f := judged(codeUnknownCA, errors.Join(slices.Concat(refused, failures, []error{nothing})...))
		f.hint = "something answers in the place of the NHS, or the NHS has a new CA. Ask for its fingerprint by another way; if it is right: spinecert trust add FILE --yes --sha256 HEX"
		return nil, f
	case len(failures) > 0:
		f := failed(codeUnreachable, errors.Join(append(failures, nothing)...))
		f.hint = "is there a route? Name a proxy with --proxy http://host:port or in crl.proxy; or carry the certificates here: spinecert trust add FILE..."
		return nil, f
	}
	return out, nil
}

// knownCA reads what came from an address. That it came from there says nothing:
// the fingerprint does.
func knownCA(p trust.PublishedCA, data []byte) (*fetchedCA, error) {
	certs, err := pki.ParseCertificates(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch %q: %w", p.Address, err)
	case len(certs) != 1:
		return nil, fmt.Errorf("fetch %q: %d certificates, want one", p.Address, len(certs))
	}
	c := certs[0]
	k, ok := trust.Known(c)
	switch {
	case !ok:
		return nil, fmt.Errorf("fetch %q: %q with the SHA-256 %s is none of the NHS CAs that this program knows", p.Address, c.Subject.String(), pki.Fingerprint(c))
	case k.World() != p.World || k.Root != p.Root:
		return nil, fmt.Errorf("fetch %q: it is %s of NHS %s, which does not belong there", p.Address, k.Name, k.Environment)
	}
	known := strings.Join([]string{k.Name, "NHS " + k.Environment, k.Generation}, ", ")
	return &fetchedCA{Address: p.Address, Known: known, SHA256: pki.Fingerprint(c), certificate: c}, nil
}
