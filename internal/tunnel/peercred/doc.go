// Package peercred says whose process is at the other end of a TCP connection
// within this host.
//
//	uid, err := peercred.User(conn)
//
// A unix socket has SO_PEERCRED for that. For TCP the kernel is asked over
// NETLINK_SOCK_DIAG for the one socket whose addresses are those of the connection
// the other way round: that of the process that connected. The answer is the user
// who made that socket, whoever holds it since.
//
// # Errors
//
// Everything that is not a plain answer is an *Error: a caller that must know who
// connects refuses on it. A socket that its process has closed is one of these
// cases: it belongs to nobody any more, and the kernel would say root. Another is
// user 65534 (nobody) within a user namespace, as which the kernel shows every user
// that the namespace does not have.
package peercred
