package doctor

import (
	"context"
	"crypto/tls"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// Inside is what is seen where trust and identities are.
type Inside struct {
	Now          time.Time
	Config       *config.Config
	UID          int              // of the daemon; -1 where none runs
	Directory    *state.Directory // nil: there is none yet
	DirectoryErr error            // then why it cannot be read, if it is there
	Environments []*rotate.Environment
	Slots        []*rotate.Slot
	Requests     []admin.Request // that wait
	Tunnels      []Wired
}

// Wired is a tunnel, and what it is wired to.
type Wired struct {
	Config config.Tunnel
	// What follows is the zero value where no daemon runs.
	State, LastError string
	Listen           []string
	Endpoint         Endpoint
}

// Endpoint is TLS-MA as a tunnel uses it, see rotate.Endpoint.
type Endpoint interface {
	TLS() (*tls.Config, error)
	Accepted(ctx context.Context, cs tls.ConnectionState) (trust.Verdict, error)
}

// Examine looks at permissions, trust, CRL routes, slots and tunnels.
func (in Inside) Examine(ctx context.Context) []Line {
	lines := examine(ctx, in, []check[Inside]{
		{Clock, clockAndAudit},
		{Permissions, configPermissions}, {Permissions, trustPermissions}, {Permissions, keyPermissions}, {Permissions, statePermissions}, {Permissions, socketPermissions},
	})
	for _, e := range in.Environments {
		lines = append(lines, examine(ctx, in.environment(e), []check[environment]{
			{Trust, trustInForce}, {Trust, trustDates}, {Trust, trustKnown}, {Trust, trustAcceptable},
			{CRL, crlMode}, {CRL, crlRoutes}, {CRL, crlLists},
		})...)
	}
	for _, s := range in.Slots {
		lines = append(lines, examine(ctx, in.slot(s), []check[slot]{
			{Slot, slotServes}, {Slot, slotSource}, {Slot, slotChain}, {Slot, slotDates}, {Slot, slotNames}, {Slot, slotRules}, {Slot, slotRequests},
		})...)
	}
	lines = append(lines, each(len(in.Tunnels), func(i int) []Line {
		return examine(ctx, wired{in, in.Tunnels[i]}, []check[wired]{
			{Tunnel, tunnelOpen}, {Tunnel, tunnelPolicy}, {Tunnel, tunnelForward}, {Tunnel, tunnelFarEnd},
		})
	})...)
	Sort(lines)
	return slices.Compact(lines) // that the time was over is said once
}

// atOnce bounds how many addresses are asked at one time.
const atOnce = 4

// each looks at n things, a few at a time, and keeps their order.
func each(n int, look func(i int) []Line) []Line {
	parts, free := make([][]Line, n), make(chan struct{}, atOnce)
	for i := range n {
		free <- struct{}{}
		go func() {
			defer func() { <-free }()
			parts[i] = look(i)
		}()
	}
	for range atOnce {
		free <- struct{}{} // all are back
	}
	return slices.Concat(parts...)
}
