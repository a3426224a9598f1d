package cli

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/spinecert/spinecert/trust"
)

// endpointLook is a look at what a peer serves.
func (o *checkOptions) endpointLook(address string, limits checkLimits) look {
	do := o.serves
	if len(o.trust) > 0 || o.environment != "" {
		do = o.verdict
	}
	return look{
		do:   func(ctx context.Context) []checkItem { return []checkItem{do(ctx, address, limits)} },
		late: fault(checkEndpoint, address, pluginCritical, fmt.Errorf("look at %s: not done in %s", address, o.limit)),
	}
}

// serves judges the dates of all the certificates that a peer sends.
func (o *checkOptions) serves(ctx context.Context, address string, limits checkLimits) checkItem {
	name := o.sni
	if host, _, _ := net.SplitHostPort(address); name == "" && net.ParseIP(host) == nil {
		name = host
	}
	seen, err := meet(ctx, address, name, nil)
	if err != nil {
		return fault(checkEndpoint, address, peerStatus(err), err)
	}
	return limits.item(checkEndpoint, address, o.counted(spans(seen.chain)), o.now)
}

// verdict judges a peer as spinecert verify does, and the dates of the path that it found.
func (o *checkOptions) verdict(ctx context.Context, address string, limits checkLimits) checkItem {
	if host, _ := splitTarget(address); host == "" {
		return fault(checkEndpoint, address, pluginUnknown, fmt.Errorf("--endpoint %q: a file of this name is in the working directory, and would be taken for it", address))
	}
	v := &verifyOptions{target: address, trust: o.trust, environment: o.environment, name: o.name, sni: o.sni, config: o.config, now: o.now}
	r, err := runVerify(ctx, v)
	var lives []span
	if r != nil {
		for _, c := range r.Chain {
			lives = append(lives, span{to: c.NotAfter, role: c.Role, subject: c.Subject})
		}
	}
	if err == nil {
		i := limits.item(checkEndpoint, address, o.counted(lives), o.now)
		i.Notes = r.Notes
		return i
	}
	i := fault(checkEndpoint, address, peerStatus(err), err)
	if r == nil || r.Verdict != verdictRefused {
		return i
	}
	i.Code, i.Notes = r.Reason, r.Notes
	i.Message = fmt.Sprintf("%s is refused: %s: %s", address, r.Reason, r.Detail)
	if len(lives) > 0 {
		dated := limits.item(checkEndpoint, address, o.counted(lives), o.now)
		i.NotAfter, i.SecondsLeft = dated.NotAfter, dated.SecondsLeft
	}
	return i
}

// counted are the lives of a chain that count.
func (o *checkOptions) counted(lives []span) []span {
	if o.leafOnly {
		return lives[:1]
	}
	return lives
}

// peerStatus is CRITICAL for a peer that was refused, and for one that does not answer as
// others would find it, too. A trust file that cannot be read says nothing of the peer.
func peerStatus(err error) pluginStatus {
	exit, code := classify(err)
	if exit == exitJudged || slices.Contains([]string{codeUnreachable, codeTimeout, string(trust.Protocol)}, code) {
		return pluginCritical
	}
	return pluginUnknown
}
