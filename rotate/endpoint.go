package rotate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// Role is the side of a TLS connection.
type Role int

// The roles.
const (
	Server Role = iota
	Client
)

// EndpointConfig says how a slot is used on one side of TLS-MA.
type EndpointConfig struct {
	Role       Role
	Peers      trust.Peers // who may be on the other side; the zero value accepts nobody
	Revocation trust.Mode  // "" is the environment's
	// AcceptableCAs are the CAs named in CertificateRequest, by SHA-256 or common
	// name in the bundle; nil is the environment's list. Server only.
	AcceptableCAs []string
	MinVersion    uint16   // 0 is TLS 1.2
	MaxVersion    uint16   // 0 is TLS 1.2: no page of Spine permits 1.3 (SPINE.md, 2)
	CipherSuites  []uint16 // of TLS 1.2; nil is DefaultCipherSuites
	NoResumption  bool
	ServerName    string // SNI. Client only
	// Audit lets everybody pass the handshake, with any certificate or none: what
	// would be refused is told by Accepted, and whoever calls it decides.
	Audit bool
	// Late lets a peer pass the handshake that only a CRL is missing for whose
	// address was not asked yet: Accepted asks, once the peer has proved its key.
	// So nobody causes a fetch with the certificate of another. It may only be set
	// where Accepted is called for every connection before it is used.
	Late       bool
	NextProtos []string
}

// DefaultCipherSuites returns the suites of SPINE.md, 2, that Go offers without
// CBC, and their ECDSA twins for private PKIs.
func DefaultCipherSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	}
}

// Endpoint is one use of a slot: a role, a peer policy and TLS options. Its TLS
// configuration is made when a snapshot is made, so a handshake builds nothing.
type Endpoint struct {
	slot   *Slot
	config EndpointConfig
	closed atomic.Bool
}

// Endpoint adds a use of the slot. The error says what of c cannot be; an
// acceptable CA that is missing from the bundle is told by TLS, as the bundle may change.
func (s *Slot) Endpoint(c EndpointConfig) (*Endpoint, error) {
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	if c.MaxVersion == 0 {
		c.MaxVersion = max(tls.VersionTLS12, c.MinVersion)
	}
	if c.MinVersion < tls.VersionTLS12 || c.MinVersion > c.MaxVersion {
		return nil, errors.New("make endpoint: TLS versions below 1.2 are not offered, and the minimum must not exceed the maximum")
	}
	if c.Peers.Empty() {
		return nil, errors.New("make endpoint: no peer is permitted; name them, or permit any name explicitly")
	}
	if c.CipherSuites == nil {
		c.CipherSuites = DefaultCipherSuites()
	}
	e := &Endpoint{slot: s, config: c}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints[e] = &sessions{}
	if snap := s.snapshot.Load(); snap != nil {
		s.swapLocked(snap.Generation, snap.Trust, snap.env, time.Now())
	}
	return e, nil
}

// Close ends the use; TLS returns ErrNotReady from then on.
func (e *Endpoint) Close() {
	e.closed.Store(true)
	s := e.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.endpoints, e)
	if snap := s.snapshot.Load(); snap != nil {
		s.swapLocked(snap.Generation, snap.Trust, snap.env, time.Now())
	}
}

// Slot returns the slot that e uses.
func (e *Endpoint) Slot() *Slot { return e.slot }

// TLS returns the configuration for one connection: its certificate, its peer
// policy and its trust are of one snapshot. Call it anew for each connection and
// do not modify it. It allocates nothing. The error is ErrNotReady while the
// slot serves nothing.
func (e *Endpoint) TLS() (*tls.Config, error) {
	snap := e.slot.snapshot.Load()
	if snap == nil || e.closed.Load() {
		return nil, ErrNotReady
	}
	c, ok := snap.configs[e]
	if !ok {
		return nil, ErrNotReady
	}
	return c.config, c.err
}

// Accepted judges a peer once more after its handshake is complete, by the trust
// of now, and remembers the acceptance: the peer has proved its key. It returns
// the verdict to count and log; on an error the connection must be closed. Where
// revocation is required and a CRL was never asked for, it waits for that until
// ctx ends or CRLFetch.Timeout is over.
func (e *Endpoint) Accepted(ctx context.Context, cs tls.ConnectionState) (trust.Verdict, error) {
	snap := e.slot.snapshot.Load()
	if snap == nil {
		return trust.Verdict{}, ErrNotReady
	}
	r := e.request(cs, time.Now())
	v, err := snap.Trust.Verify(cs.PeerCertificates, r)
	if missing := missingCRLs(v, err); len(missing) > 0 {
		snap.env.seek(ctx, missing, cs.PeerCertificates, err != nil)
		// Also where nobody waited: the list may have come since the snapshot was loaded.
		next := e.slot.snapshot.Load()
		if next == nil {
			return trust.Verdict{}, ErrNotReady
		}
		if next.Trust != snap.Trust {
			snap, r.Now = next, time.Now()
			v, err = snap.Trust.Verify(cs.PeerCertificates, r)
		}
	}
	if err == nil {
		snap.Trust.Remember(cs.PeerCertificates, r, v)
	}
	return v, err
}

// missingCRLs returns the addresses of the lists that a peer was not judged by.
func missingCRLs(v trust.Verdict, err error) []string {
	var refusal *trust.VerifyError
	if errors.As(err, &refusal) {
		return refusal.Addresses
	}
	return v.Missing
}

// Review judges the peer of an open connection again, by the trust and the policy
// of now; see trust.State.Review. While the slot serves nothing it says ErrNotReady,
// which is no reason to end a connection.
func (e *Endpoint) Review(chain []*x509.Certificate, v trust.Verdict, now time.Time, undated bool) (trust.Verdict, error) {
	snap := e.slot.snapshot.Load()
	if snap == nil {
		return v, ErrNotReady
	}
	state := snap.Trust
	if now := snap.env.Trust(); now != nil {
		state = now // also where the slot was taken out of the plan, and its connections drain
	}
	return state.Review(chain, v, e.request(tls.ConnectionState{}, now), undated)
}

func (e *Endpoint) request(cs tls.ConnectionState, now time.Time) trust.Request {
	r := trust.Request{Purpose: trust.ClientAuth, Peers: e.config.Peers, Revocation: e.config.Revocation, Staple: cs.OCSPResponse, Now: now}
	if e.config.Role == Client {
		r.Purpose = trust.ServerAuth
	}
	return r
}

// verifier returns the VerifyConnection of a snapshot: it runs before the peer has
// proved its key, on resumed sessions too.
func (e *Endpoint) verifier(state *trust.State, env *Environment) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		r := e.request(cs, time.Now())
		v, err := state.Verify(cs.PeerCertificates, r)
		var refusal *trust.VerifyError
		switch {
		case err == nil || e.config.Audit:
			return nil
		case !errors.As(err, &refusal) || len(refusal.Addresses) == 0:
			return err
		case !env.unasked(refusal.Addresses): // but a list may have come since this snapshot was made
		case e.config.Late:
			return nil // Accepted asks, and decides
		default:
			// Nobody calls Accepted: the peer has to be judged here, and one that is
			// permitted by name can cause one fetch with a certificate that is not his.
			ctx, cancel := context.WithTimeout(context.Background(), handshakePatience)
			defer cancel()
			env.seek(ctx, missingCRLs(v, err), cs.PeerCertificates, true)
		}
		if now := env.Trust(); now != nil && now != state {
			_, err = now.Verify(cs.PeerCertificates, r)
		}
		return err
	}
}

// handshakePatience bounds how long a handshake waits for a CRL, whatever
// CRLFetch.Timeout says.
const handshakePatience = 30 * time.Second

// build makes the TLS configuration of e for one snapshot.
func (e *Endpoint) build(snap *Snapshot, s *sessions, now time.Time) (*tls.Config, error) {
	g := snap.Generation
	s.follow(g, e.config, now)
	c := &tls.Config{
		MinVersion: e.config.MinVersion, MaxVersion: e.config.MaxVersion, CipherSuites: e.config.CipherSuites,
		NextProtos: e.config.NextProtos, SessionTicketsDisabled: e.config.NoResumption,
		// Full records from the start: the peers are in the same network or data
		// centre, and bytes relayed per CPU second count for more than the first byte.
		DynamicRecordSizingDisabled: true,
		// VerifyConnection runs on resumed sessions too; VerifyPeerCertificate does not.
		VerifyConnection: e.verifier(snap.Trust, snap.env),
	}
	if e.config.Role == Client {
		return c, e.buildClient(c, g, s)
	}
	c.Certificates = []tls.Certificate{*g.Identity.TLS()}
	c.ClientAuth = tls.RequireAnyClientCert // judged by VerifyConnection; ClientCAs only says whom we accept
	if e.config.Audit {
		c.ClientAuth = tls.RequestClientCert // also without one, and said
	}
	cas, err := snap.Trust.AcceptableCAs(e.config.AcceptableCAs, snap.built)
	if err != nil {
		return nil, err
	}
	c.ClientCAs = cas
	if !e.config.NoResumption {
		c.SetSessionTicketKeys(s.keys)
	}
	return c, nil
}

func (e *Endpoint) buildClient(c *tls.Config, g *Generation, s *sessions) error {
	c.ServerName = e.config.ServerName
	// The standard check knows neither CN-only certificates (SPINE.md, 3) nor our
	// peers and CRLs. VerifyConnection above is what stands in its place; this is
	// the only line of the program that switches the standard check off.
	c.InsecureSkipVerify = true
	// Always send the identity: with Certificates, Go sends none where no
	// acceptable CA matches, and the server only sees that there is none.
	own := g.Identity.TLS()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	if !e.config.NoResumption {
		c.ClientSessionCache = s.cache
	}
	return nil
}

// ServerConfig returns a configuration for a server of another library, such as
// http.Server, that follows the slot. To permit several names, or to set
// versions, use Endpoint.
func (s *Slot) ServerConfig(peers trust.Peers) (*tls.Config, error) {
	e, err := s.Endpoint(EndpointConfig{Role: Server, Peers: peers})
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return e.TLS() },
	}, nil
}

// Dial connects to address over TCP, completes the handshake with what the slot
// serves now and judges the peer. Use it as http.Transport.DialTLSContext.
func (e *Endpoint) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := e.TLS()
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: c}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tc, ok := conn.(*tls.Conn)
	if !ok {
		return nil, errors.Join(errors.New("dial: not a TLS connection"), conn.Close())
	}
	if _, err := e.Accepted(ctx, tc.ConnectionState()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
