// Package prove sees what a service serves, from outside, as a client does:
//
//	seen, err := prove.Prove(ctx, probe, prove.Want{Chain: id.Certificates(), Identity: id})
//
// Each look is a new connection with a full handshake: no session is ever resumed, as
// a resumed one shows the certificate of the day it began. What is served is not
// judged by trust but compared with what was delivered. The identity is shown to a
// service that asks for a certificate, and nothing is sent over the connection: it is
// closed when the handshake is over.
//
// # Which version of TLS
//
// TLS 1.2 comes first. Spine demands it, and in it the server's Finished says that the
// server took our certificate. A server that has TLS 1.3 alone is met in 1.3, where the
// handshake is over for us before the server has judged. There a session ticket says
// that it took our certificate: servers send tickets after they judged. From one that
// sends none a refusal is waited for, if it had asked: 100 ms, or ten times as long as the
// handshake took, up to a second. In Prove the last handshake of the row alone waits. A
// server that takes longer to refuse is missed.
//
// Two kinds of server refuse later than that. Those of the GnuTLS library may judge
// after the handshake, in any version, and just close: slapd of Debian does, so for
// ldap a close within that time is a refusal, and no ticket ends the wait. And nginx
// answers the first request with status 400 in place of ending the handshake: prove
// sends no request, and does not see it.
//
// # Names with several addresses
//
// A name is looked up once in a proof. Each of its addresses, up to eight, must show the
// same in every handshake of the row: behind another one may be an old process. One that
// takes no connection is left out, as long as another does.
//
// # Several certificates
//
// A service may have a certificate of each kind of key. In TLS 1.2 only the cipher suites
// of the kind that is wanted are offered at first, and all where that leads nowhere. In
// TLS 1.3 suites say nothing of keys, and crypto/tls lets nobody choose the signature
// algorithms of a client: a service of 1.3 alone shows the certificate that it prefers.
//
// # Concurrency
//
// All functions may be called by many goroutines.
//
// # Errors
//
// They are of type *failure.Error: unreachable, handshake_failed, refused_us,
// wrong_certificate, wrong_chain; timeout if all that was seen was right and there was
// no time to see it often enough; interrupted if the caller gave up.
package prove
