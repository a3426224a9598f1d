// Package admin is the admin API of the daemon: HTTP and JSON on a unix socket,
// its server side, which knows who is calling from the kernel (SO_PEERCRED), and
// its client side, which the CLI uses.
//
// Reading is for everybody the mode of the socket lets in; changing needs a user
// of admin.writers. The API is never served on a network address.
package admin
