package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// kind is how the connections of a request come about.
type kind string

const (
	keepAlive kind = "keep-alive" // one connection for all requests
	fresh     kind = "new"        // a connection and a full handshake each
	resumed   kind = "resumed"    // a connection each, by resumption
)

func kinds() []kind { return []kind{keepAlive, fresh, resumed} }

// kindHeader tells the stand-in which kind of connection to use towards the provider.
const kindHeader = "Sandbox-Connection"

// leafPath is answered by the stand-in itself, with the fingerprint of the leaf
// that the connection presented: what a probe of the outbound tunnel looks at.
const leafPath = "/sandbox/leaf"

// proxy is the stand-in for the Spine Secure Proxy: a TLS-MA server towards the
// consumer and a TLS-MA client towards the provider. It checks its peers with
// crypto/x509 alone, so that a mistake in trust cannot hide itself.
type proxy struct {
	ledger  *ledger
	cuts    *cuts
	target  string                          // address of the inbound tunnel; set once, before traffic
	drained atomic.Pointer[proxyGeneration] // connections from before it are to end
	trust   atomic.Pointer[pools]
	current atomic.Pointer[proxyGeneration]
}

// pools are the CAs that the stand-in trusts.
type pools struct{ roots, subCAs *x509.CertPool }

// proxyGeneration is what belongs to one identity of the stand-in. Tickets and
// sessions are part of it: a resumed session must not outlive the identity.
type proxyGeneration struct {
	number     int // from 1
	server     *tls.Config
	transports map[kind]*http.Transport
}

func newProxy(l *ledger, k *cuts, a *authority) *proxy {
	p := &proxy{ledger: l, cuts: k}
	p.trusts(a)
	return p
}

// trusts makes these the authorities of its peers. The list of acceptable CAs
// follows with the next identity that it presents.
func (p *proxy) trusts(authorities ...*authority) {
	next := &pools{roots: x509.NewCertPool(), subCAs: x509.NewCertPool()}
	for _, a := range authorities {
		next.roots.AddCert(a.root.Certificate)
		next.subCAs.AddCert(a.sub.Certificate)
	}
	p.trust.Store(next)
}

// present makes id the identity of both legs. Connections in use stay.
func (p *proxy) present(id *identity) {
	server := &tls.Config{
		MinVersion:       tls.VersionTLS12,
		MaxVersion:       tls.VersionTLS12, // SPINE.md, 2
		Certificates:     []tls.Certificate{id.certificateTLS()},
		ClientAuth:       tls.RequireAnyClientCert,
		ClientCAs:        p.trust.Load().subCAs, // the acceptable CAs name subCAs: SPINE.md, 3
		VerifyConnection: p.verifier(consumerSlot, consumerName, x509.ExtKeyUsageClientAuth, time.Now),
	}
	var ticketKey [32]byte
	// crypto/rand.Read never fails.
	_, _ = rand.Read(ticketKey[:])
	server.SetSessionTicketKeys([][32]byte{ticketKey})

	number := 1
	if last := p.current.Load(); last != nil {
		number = last.number + 1
	}
	next := &proxyGeneration{number: number, server: server, transports: map[kind]*http.Transport{}}
	for _, k := range kinds() {
		config := p.clientConfig(id)
		if k == resumed {
			config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		}
		dial := p.dialer(config)
		if k == keepAlive {
			dial = p.watching(dial)
		}
		next.transports[k] = &http.Transport{
			DialTLSContext:      dial,
			DisableKeepAlives:   k != keepAlive,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
		}
	}
	if last := p.current.Swap(next); last != nil {
		for _, t := range last.transports {
			t.CloseIdleConnections()
		}
	}
}

// clientConfig is the client side for one identity. The name in it is that of the provider.
func (p *proxy) clientConfig(id *identity) *tls.Config {
	certificate := id.certificateTLS()
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		MaxVersion: tls.VersionTLS12,
		ServerName: providerName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &certificate, nil
		},
		// The library knows no name in a certificate without SAN; dialer sets the
		// VerifyConnection that replaces its check.
		InsecureSkipVerify: true,
	}
}

// dialer connects to the inbound tunnel and finishes the handshake.
func (p *proxy) dialer(config *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := p.handshake(ctx, network, config)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
}

// watching has it entered when the daemon ends a connection: none of those that are
// kept open is its to end.
func (p *proxy) watching(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return p.cuts.watch(conn, "stand-in"), nil
	}
}

// handshake connects to the inbound tunnel. Where the handshake failed it returns
// the connection, closed, beside the error: its state says how far it came.
func (p *proxy) handshake(ctx context.Context, network string, config *tls.Config) (*tls.Conn, error) {
	begun := time.Now()
	raw, err := new(net.Dialer).DialContext(ctx, network, p.target)
	if err != nil {
		return nil, fmt.Errorf("dial provider: %w", err)
	}
	config = config.Clone()
	config.VerifyConnection = p.verifier(providerSlot, providerName, x509.ExtKeyUsageServerAuth, func() time.Time { return begun })
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return conn, errors.Join(fmt.Errorf("handshake with provider: %w", err), raw.Close())
	}
	return conn, nil
}

// verifier returns the VerifyConnection for one peer: the ledger sees every leaf
// before it is judged, then chain, validity, purpose and name are checked.
func (p *proxy) verifier(slot, name string, usage x509.ExtKeyUsage, begun func() time.Time) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("the peer sent no certificate")
		}
		leaf := cs.PeerCertificates[0]
		p.ledger.saw(slot, leaf, cs.DidResume, begun())
		trust := p.trust.Load()
		return judge(cs.PeerCertificates, trust.roots, trust.subCAs.Clone(), usage, name)
	}
}

// judge checks chain, validity, purpose and name of a peer. What it sent is added to
// the subCAs.
func judge(sent []*x509.Certificate, roots, subCAs *x509.CertPool, usage x509.ExtKeyUsage, name string) error {
	for _, c := range sent[1:] {
		subCAs.AddCert(c)
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: subCAs, KeyUsages: []x509.ExtKeyUsage{usage}}
	if _, err := sent[0].Verify(options); err != nil {
		return err
	}
	return checkName(sent[0], name)
}

// checkName applies the rule of SPINE.md, 3: the SAN, or the CN where there is none.
func checkName(leaf *x509.Certificate, want string) error {
	names := leaf.DNSNames
	if len(names) == 0 {
		names = []string{leaf.Subject.CommonName}
	}
	if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, want) }) {
		return fmt.Errorf("the certificate is for %q, not for %q", names, want)
	}
	return nil
}

// server is the consumer leg: TLS-MA, then either the answer to a probe or the
// request passed on unchanged.
func (p *proxy) server() *http.Server {
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: providerName})
			r.Out.Host = r.In.Host
			r.Out.Header.Del(kindHeader)
		},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			k, _ := r.Context().Value(kindKey{}).(kind)
			t, ok := p.current.Load().transports[k]
			if !ok {
				t = p.current.Load().transports[keepAlive]
			}
			return t.RoundTrip(r)
		}),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "stand-in: "+err.Error(), http.StatusBadGateway)
		},
		ErrorLog: log.New(remarks{p.ledger}, "", 0),
	}
	return &http.Server{
		ReadHeaderTimeout: spareTimeout,
		ErrorLog:          log.New(remarks{p.ledger}, "", 0),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, generationKey{}, p.current.Load())
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == leafPath {
				_, _ = io.WriteString(w, fingerprint(r.TLS.PeerCertificates[0]))
				return
			}
			if now, ok := r.Context().Value(generationKey{}).(*proxyGeneration); ok && p.ends(now) {
				w.Header().Set("Connection", "close") // after the answer, so that nothing is lost
			}
			k := kind(r.Header.Get(kindHeader))
			forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), kindKey{}, k)))
		}),
	}
}

// listener wraps the consumer leg in TLS with the identity of the moment.
func (p *proxy) listener(inner net.Listener) net.Listener {
	return tls.NewListener(inner, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return p.current.Load().server, nil
		},
	})
}

// drain has the connections of the consumer leg end that were made under an earlier
// identity, each after its next answer.
func (p *proxy) drain() { p.drained.Store(p.current.Load()) }

func (p *proxy) ends(g *proxyGeneration) bool {
	since := p.drained.Load()
	return since != nil && g.number < since.number
}

type kindKey struct{}

type generationKey struct{}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// remarks takes what net/http logs: the stand-in's side of a failure.
type remarks struct{ ledger *ledger }

func (r remarks) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	// The port of the peer would make every line a cause of its own.
	if before, rest, ok := strings.Cut(text, " from 127.0.0.1:"); ok {
		_, rest, _ = strings.Cut(rest, ":")
		text = before + ":" + rest
	}
	r.ledger.remark("stand-in: " + text)
	return len(line), nil
}

// certificateTLS is the identity as crypto/tls wants it.
func (i *identity) certificateTLS() tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{i.leaf.Raw}, PrivateKey: i.key, Leaf: i.leaf}
	for _, ca := range i.chain {
		c.Certificate = append(c.Certificate, ca.Raw)
	}
	return c
}
