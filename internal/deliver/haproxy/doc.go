// Package haproxy changes certificates, CAs and CRLs of a running HAProxy through
// its runtime socket, without a reload.
//
//	err := haproxy.Update(ctx, "/run/haproxy/admin.sock", []haproxy.File{
//		{Path: "/etc/haproxy/spine/current/combined.pem", Kind: haproxy.Cert, Data: combined},
//		{Path: "/etc/haproxy/spine/current/trust.pem", Kind: haproxy.CA, Data: bundle},
//		{Path: "/etc/haproxy/spine/current/crl.pem", Kind: haproxy.CRL, Data: lists},
//	})
//
// # One transaction
//
// HAProxy 2.6 has room for one uncommitted certificate, one CA file and one CRL file at a time. So a certificate (with its
// key), a CA file and a CRL file are all set, and then all committed. When there are several of one kind, each is
// first set and taken back, so that one which HAProxy refuses is found before anything has changed; then they follow each other.
// HAProxy compares a certificate with its key only at the commit. What a failed commit leaves changed is said in the error; an
// Update with the old files undoes it.
//
// # When HAProxy must be reloaded
//
// HAProxy 2.6 does not take a certificate once it has been given a CA or CRL file: it says that it does, serves the old one, and dies of the
// next CA or CRL file. So certificates are committed first, and a certificate after CAs or CRLs is refused with ErrReload, until a reload
// starts a new process; nothing is changed then. Leave out files that HAProxy has already: certificates alone, and CAs and CRLs alone,
// may follow each other for ever.
//
// A transaction on one of our paths is left over from an update that was cut short, and is aborted. Another one is somebody
// else's: it is waited for, and then the update fails.
//
// # What HAProxy must have loaded
//
// Files are addressed by the path under which HAProxy loaded them: in bind and server lines (crt, ca-file, crl-file), from a crt-list or from
// a directory. A key in a file of its own is the certificate's path with ".key" added; or, with
// ssl-load-extra-del-ext, NAME.key beside NAME.crt.
//
// # Who listens there
//
// A private key goes to the socket. So its peer must be root or the caller's own user (HAProxy listens before it gives up root),
// or the user to whom the socket's directory belongs, in a path that nobody but root, the caller and that user can change.
//
// # Errors and concurrency
//
// Every error is a *failure.Error; it quotes HAProxy, never a file. Updates may run at the same time, also on one socket: they wait for each other.
package haproxy
