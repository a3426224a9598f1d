package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/internal/web"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// webName stands for the pages where refusals name a tunnel. No tunnel can be called so.
const webName = "admin.http"

// pagePeers are those who may look at the pages, where these are TLS-MA: they are judged as the peers of a
// tunnel are, when they connect, at each request, and whenever the trust or the configuration changes.
type pagePeers struct {
	d              *Daemon
	refusals, cuts told

	mu       sync.Mutex
	binding  *binding
	slot     string
	names    []string
	open     map[net.Conn]*pagePeer // by the TLS connection
	settling map[any]int            // handshakes under way, by source
}

// pagePeer is one that was let in.
type pagePeer struct {
	conn  net.Conn // below TLS
	chain []*x509.Certificate

	mu      sync.Mutex
	by      *binding // that let it in, or kept it
	verdict trust.Verdict
	refused bool
}

// newPagePeers returns nil where the configuration names none.
func newPagePeers(d *Daemon, c *config.Config) *pagePeers {
	if c.Admin.HTTPSlot == "" {
		return nil
	}
	return &pagePeers{d: d, refusals: newTold(), cuts: newTold(), binding: &binding{}, open: map[net.Conn]*pagePeer{}, settling: map[any]int{}}
}

// apply puts what a configuration says of them in force, for those that are connected as well once they are
// reviewed.
func (p *pagePeers) apply(a config.Admin) {
	if p == nil {
		return
	}
	slot := p.d.keeper.Slot(a.HTTPSlot)
	p.mu.Lock()
	old := p.binding
	same := slot != nil && old.slot() == slot && slices.Equal(p.names, a.HTTPPeers)
	p.mu.Unlock()
	if same {
		return
	}
	next := &binding{}
	err := errors.New("there is no such slot")
	if slot != nil {
		var e *rotate.Endpoint
		if e, err = slot.Endpoint(rotate.EndpointConfig{Role: rotate.Server, Peers: trust.Names(a.HTTPPeers...), MaxVersion: tls.VersionTLS13, Late: true, NextProtos: []string{"http/1.1"}}); err == nil {
			next.endpoint.Store(e)
		}
	}
	if err != nil { // it refuses everybody, as a tunnel would
		p.d.record1("tunnel_unbound", slog.LevelError, "tunnel cannot use its slot", slog.String("tunnel", webName), slog.String("error", err.Error()))
	}
	p.mu.Lock()
	p.binding, p.slot, p.names = next, a.HTTPSlot, slices.Clone(a.HTTPPeers)
	p.mu.Unlock()
	time.AfterFunc(2*webHandshake, old.close) // handshakes that began with it are over
}

func (p *pagePeers) current() *binding {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.binding
}

// named reports whether a request names this host as the certificate of its slot does, or by address.
func (p *pagePeers) named(r *http.Request) bool {
	p.mu.Lock()
	name := p.slot
	p.mu.Unlock()
	var names []string
	if slot := p.d.keeper.Slot(name); slot != nil {
		if snap := slot.Snapshot(); snap != nil {
			names, _ = snap.Generation.Identity.Names()
		}
	}
	return web.NamedHost(r, names)
}

func (p *pagePeers) namedHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.named(r) {
			http.Error(w, "ask by a name of the certificate, or by address", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

type pagePeerKey struct{}

// connContext has the requests of a connection know their peer.
func (p *pagePeers) connContext(ctx context.Context, c net.Conn) context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	return context.WithValue(ctx, pagePeerKey{}, p.open[c])
}

func (p *pagePeers) connState(c net.Conn, s http.ConnState) {
	if s == http.StateClosed || s == http.StateHijacked {
		p.forget(c)
	}
}

func (p *pagePeers) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// judged has each request judged by what is in force now: a connection may be older.
func (p *pagePeers) judged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _ := r.Context().Value(pagePeerKey{}).(*pagePeer)
		if peer == nil || !p.keeps(peer, time.Now(), p.d.clockSuspect()) {
			panic(http.ErrAbortHandler) // ends the connection without a word
		}
		next.ServeHTTP(w, r)
	})
}

// review judges everybody who is connected again, and cuts those who are permitted no longer.
func (p *pagePeers) review(undated bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	peers := make([]*pagePeer, 0, len(p.open))
	for _, peer := range p.open {
		peers = append(peers, peer)
	}
	p.mu.Unlock()
	now := time.Now()
	for _, peer := range peers {
		p.keeps(peer, now, undated)
	}
}

// keeps judges a peer again. One that is permitted no longer is cut, and told of once. While its slot cannot
// judge, those that it has let in stay, as with a tunnel.
func (p *pagePeers) keeps(peer *pagePeer, now time.Time, undated bool) bool {
	b := p.current()
	peer.mu.Lock()
	defer peer.mu.Unlock()
	if peer.refused {
		return false
	}
	v, err := b.Review(peer.chain, peer.verdict, now, undated)
	var refusal *trust.VerifyError
	switch {
	case err == nil:
		peer.verdict, peer.by = v, b
		return true
	case errors.As(err, &refusal):
	case peer.by == b:
		return true
	default:
		refusal = &trust.VerifyError{Reason: trust.UnknownIssuer, Certificate: peer.chain[0], Err: err, Detail: "nobody can judge the peer by the configuration in force: " + err.Error(),
			Advice: "see what the slot of admin.http and its environment lack: spinecert status"}
	}
	peer.refused = true
	_ = peer.conn.Close() // nothing more is said to it
	f := &fault{tunnel: webName, result: resultCut, reason: string(refusal.Reason), remote: peer.conn.RemoteAddr(), leaf: peer.chain[0], err: refusal}
	p.d.handOver(func() { p.d.refused(f, p.cuts, now) })
	return false
}

// refuse tells of somebody who was not let in.
func (p *pagePeers) refuse(remote net.Addr, chain []*x509.Certificate, err error) {
	result, reason := tunnel.Classify(err)
	f := &fault{tunnel: webName, result: string(result), reason: reason, remote: remote, err: err}
	var refusal *trust.VerifyError
	switch {
	case len(chain) > 0:
		f.leaf = chain[0]
	case errors.As(err, &refusal) && refusal.Certificate != nil && !refusal.Certificate.IsCA:
		f.leaf = refusal.Certificate
	}
	p.d.refused(f, p.refusals, time.Now())
}
