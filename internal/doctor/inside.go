package doctor

import (
	"context"
	"crypto/tls"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
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
	PID          int              // of the daemon, which may do more than its user; 0 where none runs
	Services     []deliver.Status // how they stand; nil where no daemon runs

	label  func(path string) (string, error) // nil is fileLabel
	hooks  []string                          // where units are; nil is unitDirectories
	booted string                            // what is there where systemd is; "" is systemdBooted
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

// Examine looks at permissions, trust, CRL routes, slots, tunnels and services.
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
	lines = append(lines, each(len(in.Tunnels), atOnce, func(i int) []Line {
		return examine(ctx, wired{in, in.Tunnels[i]}, []check[wired]{
			{Tunnel, tunnelOpen}, {Tunnel, tunnelPolicy}, {Tunnel, tunnelForward}, {Tunnel, tunnelFarEnd},
		})
	})...)
	lines = append(lines, in.services(ctx)...)
	Sort(lines)
	return slices.Compact(lines) // that the time was over is said once
}

// atOnce bounds how many addresses are asked at one time.
const atOnce = 4

// each looks at n things, at most some at a time, and keeps their order.
func each(n, most int, look func(i int) []Line) []Line {
	parts, free := make([][]Line, n), make(chan struct{}, most)
	for i := range n {
		free <- struct{}{}
		go func() {
			defer func() { <-free }()
			parts[i] = look(i)
		}()
	}
	for range most {
		free <- struct{}{} // all are back
	}
	return slices.Concat(parts...)
}
