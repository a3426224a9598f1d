package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// rotated is a tunnel whose Endpoint is that of package rotate, on files.
type rotated struct {
	*setup
	dir    string
	keeper *rotate.Keeper
	env    rotate.EnvironmentConfig
}

// shifted is an Endpoint that reviews at another time.
type shifted struct {
	*rotate.Endpoint
	by atomic.Int64
}

func (s *shifted) Review(chain []*x509.Certificate, v trust.Verdict, now time.Time, undated bool) (trust.Verdict, error) {
	return s.Endpoint.Review(chain, v, now.Add(time.Duration(s.by.Load())), undated)
}

// newReal runs an inbound tunnel in front of an echo; bundle are the trust files.
func newReal(t *testing.T, in *spine, bundle []byte) *rotated {
	t.Helper()
	r := &rotated{dir: t.TempDir()}
	r.put(t, "trust.pem", bundle)
	r.put(t, "root.crl", in.root.CRL(t))
	r.put(t, "sub.crl", in.sub.CRL(t))
	r.put(t, "pcs.crt", in.server.FullChainPEM())
	r.put(t, "pcs.key", in.server.KeyPEM())
	r.env = rotate.EnvironmentConfig{Name: "test", Profile: trust.Private, Trust: []string{r.path("trust.pem")},
		CRLs: []string{r.path("root.crl"), r.path("sub.crl")}, Revocation: trust.Require}
	r.keeper = rotate.New(rotate.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.keeper.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run loop ended with %v", err)
		}
	})
	slot := rotate.SlotConfig{Name: "pcs", Environment: "test", Files: rotate.Files{Certificate: r.path("pcs.crt"), Key: r.path("pcs.key")}}
	if err := r.keeper.Apply(ctx, rotate.Plan{Environments: []rotate.EnvironmentConfig{r.env}, Slots: []rotate.SlotConfig{slot}}); err != nil {
		t.Fatal(err)
	}
	r.setup = &setup{}
	b := newBackend(t, "tcp", nil, echo)
	r.setup = startIn(t, in, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) { c.Endpoint = r.makeEndpoint(t, nil) })
	return r
}

func (r *rotated) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rotated) put(t *testing.T, name string, data []byte) {
	t.Helper()
	testpki.WriteFile(t, r.path(name), data, 0o600)
}

// makeEndpoint makes an endpoint as the daemon would; change may alter it.
func (r *rotated) makeEndpoint(t *testing.T, change func(*rotate.EndpointConfig)) *rotate.Endpoint {
	t.Helper()
	c := rotate.EndpointConfig{Role: rotate.Server, Late: true, Peers: trust.Names("proxy.national.ncrs.nhs.uk")}
	if change != nil {
		change(&c)
	}
	e, err := r.keeper.Slot("pcs").Endpoint(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// use puts an endpoint in force.
func (r *rotated) use(t *testing.T, e Endpoint, audit bool) {
	t.Helper()
	r.config.Endpoint, r.config.Audit = e, audit
	if err := r.Update(r.config); err != nil {
		t.Fatal(err)
	}
}

// reviewed expects a review to cut want of the open connections.
func (r *rotated) reviewed(t *testing.T, undated bool, want int) {
	t.Helper()
	if _, cut := r.Review(undated); cut != want {
		t.Errorf("cut %d, want %d; %v", cut, want, r.seen.cuts)
	}
}

func (r *rotated) refresh(t *testing.T) {
	t.Helper()
	if err := r.keeper.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRealReview(t *testing.T) {
	in := newSpine(t)
	other := in.sub.Issue(t, testpki.Name("proxy"), testpki.DNS("proxy.national.ncrs.nhs.uk"), testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour)))
	r := newReal(t, in, in.sub.BundlePEM())
	connect := func(l *testpki.Leaf) *tls.Conn {
		c := r.secure(t, tls.VersionTLS12, func(c *tls.Config) {
			certificate := l.TLS()
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
		})
		exchange(t, c, "hello")
		return c
	}
	first, second := connect(in.client), connect(other)
	r.reviewed(t, false, 0)

	// One is revoked.
	r.put(t, "sub.crl", in.sub.CRL(t, testpki.Revoke(in.client.Cert.SerialNumber)))
	r.refresh(t)
	r.reviewed(t, true, 1)
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the revoked one is still open")
	}
	exchange(t, second, "still here")

	// The other expires, which does not count while the clock is suspect.
	later := &shifted{Endpoint: r.makeEndpoint(t, nil)}
	later.by.Store(int64(49 * time.Hour))
	r.use(t, later, false)
	r.reviewed(t, true, 0)
	r.use(t, r.makeEndpoint(t, nil), false)
	r.reviewed(t, false, 0)

	// Its name goes off the list, first to see what would happen.
	strict := r.makeEndpoint(t, func(c *rotate.EndpointConfig) { c.Peers, c.Audit = trust.Names("a.nhs.uk", "b.nhs.uk"), true })
	r.use(t, strict, true)
	r.reviewed(t, false, 0)
	r.reviewed(t, false, 0)
	if diff := cmp.Diff([]string{"not_listed"}, r.seen.wouldCuts); diff != "" {
		t.Error(diff)
	}
	exchange(t, second, "still here")
	r.use(t, later, false)
	r.reviewed(t, false, 1)
	_, _ = io.ReadAll(second)
	if diff := cmp.Diff([]string{"revoked", "expired"}, r.seen.cuts); diff != "" {
		t.Error(diff)
	}
}

// openssl runs s_client against the tunnel, sends a line and returns what it says.
func (r *rotated) openssl(t *testing.T, args ...string) string {
	t.Helper()
	path := testprogram.Need(t, "openssl")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, path, append([]string{"s_client", "-connect", r.Addrs()[0].String(), "-tls1_2"}, args...)...)
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "ping\n")
	var out strings.Builder
	for lines := bufio.NewScanner(said); lines.Scan(); {
		out.WriteString(lines.Text() + "\n")
		if lines.Text() == "ping" {
			_ = in.Close() // which ends it
		}
	}
	_ = command.Wait() // 1 where it is refused
	return out.String()
}

var caNames = regexp.MustCompile(`(?s)Acceptable client certificate CA names\n(.*?)\n(?:Client Certificate Types|Requested)`)

// TestAcceptableCAs has two hierarchies at once in CertificateRequest, and one that
// has expired only where it is named.
func TestAcceptableCAs(t *testing.T) {
	in := newSpine(t)
	root := testpki.NewRoot(t, testpki.Name("Other Root"))
	sub := root.SubCA(t, testpki.Name("Other SubCA"))
	old := in.root.SubCA(t, testpki.Name("Old SubCA"), testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
	r := newReal(t, in, slices.Concat(in.sub.BundlePEM(), sub.BundlePEM(), old.CertPEM()))
	for name, test := range map[string]struct{ only, want []string }{
		"auto":            {nil, []string{"CN = Other SubCA", "CN = Test Authentication G2"}},
		"an expired name": {[]string{"Old SubCA", "Other SubCA"}, []string{"CN = Old SubCA", "CN = Other SubCA"}},
	} {
		r.use(t, r.makeEndpoint(t, func(c *rotate.EndpointConfig) { c.AcceptableCAs = test.only }), false)
		out := r.openssl(t)
		found := caNames.FindStringSubmatch(out)
		if found == nil {
			t.Fatalf("%s: openssl names no CA:\n%s", name, out)
		}
		var got []string
		for _, line := range strings.Split(found[1], "\n") {
			got = append(got, line[strings.Index(line, "CN = "):])
		}
		slices.Sort(got)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestRealAudit lets openssl in with a wrong certificate and with none, and no more
// once the policy is enforce.
func TestRealAudit(t *testing.T) {
	in := newSpine(t)
	r := newReal(t, in, in.sub.BundlePEM())
	stranger := in.sub.Issue(t, testpki.Name("stranger"), testpki.DNS("stranger.nhs.uk"))
	r.put(t, "stranger.pem", slices.Concat(stranger.FullChainPEM(), stranger.KeyPEM()))
	with := []string{"-cert", r.path("stranger.pem"), "-cert_chain", r.path("stranger.pem")}
	r.use(t, r.makeEndpoint(t, func(c *rotate.EndpointConfig) { c.Audit = true }), true)
	for _, args := range [][]string{nil, with} {
		if out := r.openssl(t, args...); !strings.Contains(out, "\nping\n") {
			t.Errorf("openssl %v got no answer:\n%s", args, out)
		}
	}
	r.seen.awaitHandshake(t, 2)
	if diff := cmp.Diff([]string{"audited no_certificate", "audited not_listed"}, r.seen.resultsOf()); diff != "" {
		t.Error(diff)
	}
	r.use(t, r.makeEndpoint(t, nil), false)
	for _, args := range [][]string{nil, with} {
		if out := r.openssl(t, args...); strings.Contains(out, "\nping\n") {
			t.Errorf("openssl %v got an answer", args)
		}
	}
	r.seen.awaitHandshake(t, 4)
	want := []string{"audited no_certificate", "audited not_listed", "refused no_certificate", "refused not_listed"}
	if diff := cmp.Diff(want, r.seen.resultsOf()); diff != "" {
		t.Error(diff)
	}
}
