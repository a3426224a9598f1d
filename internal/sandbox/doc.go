// Package sandbox is a small Spine on one machine: a root and a subCA like
// Spine's, a provider behind an inbound tunnel, a consumer behind an outbound
// tunnel, and between them a stand-in for the Spine Secure Proxy (SSP) with
// TLS-MA on both legs.
//
//	consumer -> spinecertd outbound -> stand-in -> spinecertd inbound -> provider
//	   HTTP                        TLS-MA      TLS-MA                HTTP
//
// The daemon is the real one, started as a child. HTTP traffic flows while the
// identities rotate; [Run] shows it live, [Rehearse] does it unattended, mixes
// in broken rotations and measures.
//
// CRLs are fetched from a server of the sandbox, partitioned and with conditional
// requests. Other peers, clients of the inbound tunnel and a server behind an
// outbound one, hold connections open and are revoked while they talk.
//
// A rehearsal may take services along: the installed nginx and HAProxy, as children,
// fed by the daemon with the identities of a slot of their own, and with clients.
//
// # Who watches
//
// The stand-in and the probes judge the daemon from outside with crypto/tls and
// crypto/x509 alone: they share no code with the packages they test. Every leaf
// that a handshake shows is looked up in a ledger of what was written to disk.
// No request through a tunnel is ever sent twice, so a lost one is a failure. One to a
// service is, where it had closed a kept connection before it answered: its own
// reload does that, and every HTTP client sends such a GET again. They are counted.
//
// # Limits
//
// No root, loopback only, ports chosen by the kernel, one directory (0700).
// The CA is smallstep's softcas; it is linked into the spinecert binary only.
//
// # Errors
//
// [Run] and [Rehearse] return an error when the sandbox could not be set up or
// kept up; [ErrUsage] marks options that make no sense. Requests that failed
// are not errors: they are counted in the result.
package sandbox
