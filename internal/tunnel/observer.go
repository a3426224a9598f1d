package tunnel

import (
	"crypto/x509"
	"net"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// Result is how a handshake ended.
type Result string

// The results.
const (
	Accepted Result = "accepted"
	Refused  Result = "refused" // the peer was judged, or had nothing to judge; Reason is a trust.Reason
	Audited  Result = "audited" // would be refused, and goes on as Config.Audit is set; Reason is a trust.Reason
	Limited  Result = "limited" // closed before any crypto; Reason is a Limit constant
	Failed   Result = "failed"  // Reason is trust.Protocol, or NotReady
)

// The reasons beside those of package trust. With Limited:
const (
	LimitConnections = "connections" // of the tunnel or the daemon
	LimitPerSource   = "per_source"
	LimitHandshakes  = "handshakes"
	LimitAllowFrom   = "allow_from"
	LimitAllowUsers  = "allow_users"
)

// NotReady is the reason of a handshake that found nothing to serve.
const NotReady = "not_ready"

// Handshake reports one attempt to connect through TLS.
type Handshake struct {
	Result   Result
	Reason   string              // "" if accepted
	Verdict  trust.Verdict       // if accepted; else zero
	Remote   net.Addr            // of the TLS peer; of the local client if the peer was never reached
	Chain    []*x509.Certificate // that the peer presented, its leaf first, if it was not accepted; it need not have proved its key
	Resumed  bool
	Err      error         // nil if accepted; says more than Reason
	Duration time.Duration // from accept
}

// passed reports whether the connection goes on.
func (h *Handshake) passed() bool { return h.Result == Accepted || h.Result == Audited }

// The causes of a connection's end that Closed reports, beside those given to
// Conn.Cut and the reasons of package trust.
const (
	CauseEnd       = "end"       // both sides ended in good order
	CauseTruncated = "truncated" // the TLS peer ended without saying so (no close_notify)
	CauseError     = "error"     // a read or write failed, on either side
	CauseIdle      = "idle"
	CauseDrain     = "drain"
	CauseForward   = "forward_failed"
)

// Closed reports the end of a connection that had been established.
type Closed struct {
	Cause    string
	Remote   net.Addr
	Err      error // of CauseError and CauseForward; the *trust.VerifyError of what Review cut
	Received int64 // bytes of plaintext from the TLS peer
	Sent     int64 // bytes of plaintext to the TLS peer
	Duration time.Duration
}

// Trouble reports that something of a tunnel does not work, once per cause, and
// once that it works again, with Err nil.
type Trouble struct {
	Kind    TroubleKind
	Address string
	Err     error
}

// TroubleKind says what does not work.
type TroubleKind string

// The kinds.
const (
	TroubleListen  TroubleKind = "listen"         // the listener cannot be opened; it is tried again
	TroubleAccept  TroubleKind = "accept"         // the system gives no connections, e.g. out of descriptors
	TroubleForward TroubleKind = "forward_failed" // one connection could not be forwarded; reported each time
)

// Observer is told what happens in a tunnel. Any field may be nil. The functions
// are called from the goroutines of connections and must not block.
type Observer struct {
	Handshake func(Handshake)
	Opened    func(*Conn) // the connection is judged and about to be forwarded
	Closed    func(*Conn, Closed)
	// Cut is told of an open connection that Review has ended, before Closed is:
	// Closed.Cause will be the reason.
	Cut func(*Conn, *trust.VerifyError)
	// WouldCut is told of one that Review left alone, as Config.Audit is set: once
	// for each connection and reason.
	WouldCut func(*Conn, *trust.VerifyError)
	Trouble  func(Trouble)
}

func (o *Observer) handshake(h Handshake) {
	if o.Handshake != nil {
		o.Handshake(h)
	}
}

func (o *Observer) opened(c *Conn) {
	if o.Opened != nil {
		o.Opened(c)
	}
}

func (o *Observer) closed(c *Conn, e Closed) {
	if o.Closed != nil {
		o.Closed(c, e)
	}
}

func (o *Observer) cut(c *Conn, refusal *trust.VerifyError) {
	if o.Cut != nil {
		o.Cut(c, refusal)
	}
}

func (o *Observer) wouldCut(c *Conn, refusal *trust.VerifyError) {
	if o.WouldCut != nil {
		o.WouldCut(c, refusal)
	}
}

func (o *Observer) trouble(e Trouble) {
	if o.Trouble != nil {
		o.Trouble(e)
	}
}
