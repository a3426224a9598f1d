// Package tunnel moves bytes between mutually authenticated TLS on one side and
// plain connections on the other.
//
//	gate := tunnel.NewGate(tunnel.Limits{})
//	t := tunnel.New(ctx, "ssp-in", gate, tunnel.Observer{Handshake: count})
//	pending, err := t.Prepare(tunnel.Config{
//		Direction: tunnel.Inbound,
//		Listen:    []tunnel.Listen{{Network: "tcp", Address: "0.0.0.0:4430"}},
//		Forward:   tunnel.Forward{Network: "tcp", Address: "127.0.0.1:8080"},
//		Endpoint:  endpoint,
//	})
//	pending.Commit()
//	t.SetReady(true)
//	...
//	cut := t.Drain(ctx)
//
// An inbound tunnel accepts TLS and dials plain, an outbound one accepts plain
// and dials TLS. Trust is none of its business: an Endpoint gives the TLS
// configuration of each connection and says what it thinks of the peer.
//
// # Ends
//
// When one side ends its half of a connection, the other side is told, and the
// other half goes on: close_notify becomes FIN and the reverse. Anything else is
// not passed off as an end: the plain side gets a reset, the TLS side no
// close_notify. The exception is a TLS peer that sends FIN between two records,
// because too many do; it is reported as CauseTruncated.
//
// # Reviews
//
// Review judges the peers of open connections again and cuts those that are refused
// since. With Config.Audit nobody is refused and nobody cut: what would have been is
// told to the Observer.
//
// # Floods
//
// What is over a limit of the Gate or the Config is closed before any crypto.
// A handshake needs a token while it computes and gives it back whenever it
// waits for its peer, so that stalled peers hold none, and those that have begun
// go first. PerSource counts inbound connections in handshake, not those that
// are established: a proxy may well be a single source of thousands.
//
// # Sockets of other processes
//
// Listen.File is a socket that the service manager holds. It cannot be closed, only left alone: while the tunnel is not ready, what
// connects is accepted and closed.
//
// A process hands its own sockets to the next one, and no connection is lost: Gate.Listening of the old one gives duplicates, Gate.Inherit of
// the new one takes them, and its tunnels accept from SetReady on. For a moment both do. Then Gate.Relinquish and Drain end the old one, and
// Gate.CloseInherited in the new one closes what no tunnel has any more.
//
// # Memory
//
// A connection through which nothing flows holds its TLS state, two goroutines
// with stacks of the smallest size, and no buffer. See wire for how a read that
// would have to wait gives its buffer back first.
//
// # Concurrency and errors
//
// All methods may be called from several goroutines. Connections live in
// goroutines that end with Drain or Close; none starts before the first Commit
// or SetReady. The package logs nothing: an Observer is told what happens, with
// reasons from package trust and the constants here.
package tunnel
