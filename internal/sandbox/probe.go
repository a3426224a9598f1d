package sandbox

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// seenWithin is how long a good rotation may take before it counts as missed.
// The slow poll of the daemon is later than that: events must have worked.
const seenWithin = 10 * time.Second

// betweenLooks is the resolution of the latency, and is part of what is reported.
const betweenLooks = 1500 * time.Microsecond

// look makes one new connection to a tunnel and returns the fingerprint of the
// leaf that it showed.
type look func(ctx context.Context) (string, error)

// probeIdentity is a second identity of the stand-in, for probes: ECDSA, so that
// a probe costs the machine one RSA signature, the daemon's.
func probeIdentity(a *authority, now time.Time) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return a.issue(proxyName, key, now.Add(-backdate), now.Add(leafLife))
}

// lookInbound dials the inbound tunnel as the SSP would, with a full handshake.
func lookInbound(p *proxy, id *identity) look {
	dial := p.dialer(p.clientConfig(id))
	return func(ctx context.Context) (string, error) {
		conn, err := dial(ctx, "tcp", "")
		if err != nil {
			return "", err
		}
		defer conn.Close()
		secure, ok := conn.(*tls.Conn)
		if !ok {
			return "", fmt.Errorf("read connection state of a %T", conn)
		}
		return fingerprint(secure.ConnectionState().PeerCertificates[0]), nil
	}
}

// lookOutbound connects through the outbound tunnel and asks the stand-in which
// leaf it was shown.
func lookOutbound(via endpoint) look {
	transport := &http.Transport{DialContext: via.dial, DisableKeepAlives: true}
	return func(ctx context.Context) (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proxyName+leafPath, nil)
		if err != nil {
			return "", err
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			return "", plainError(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
		if err != nil {
			return "", plainError(err)
		}
		if response.StatusCode != http.StatusOK {
			return "", fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(text)))
		}
		return string(text), nil
	}
}

// until looks again and again until the leaf is want, and returns the time at
// which that handshake was complete. A look that fails is a lost connection and
// is entered as a failed request.
func until(ctx context.Context, slot string, see look, want string, l *ledger) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	for {
		// A look costs the daemon an RSA signature. One that starts in the same
		// instant as the change shows the old leaf, keeps a core busy and delays
		// the one that counts.
		time.Sleep(betweenLooks)
		got, err := see(ctx)
		seen := time.Now()
		if over(ctx) {
			return seen, fmt.Errorf("slot %q: the new certificate was not seen within %s", slot, seenWithin)
		}
		l.request("probe of "+slot, err)
		switch {
		case err == nil && got == want:
			return seen, nil
		case err != nil:
			// A tunnel that refuses at once must not be hammered.
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// over reports whether ctx has ended. At a deadline a dial is ended by the timer
// of its socket, perhaps a moment before the context's own: what was cut off by
// the end of the run must not be taken for a failure of the daemon.
func over(ctx context.Context) bool {
	if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}
