// Package activation takes the listening sockets that systemd passed to this process (sd_listen_fds(3)).
//
//	sockets, err := activation.Sockets()
//	web := sockets["web"] // FileDescriptorName=web
//
// Several sockets may have one name: those of a unit with several ListenStream=, and those of several units that say so.
//
// # Errors
//
// What a tunnel could not serve is an error, which names the socket: a datagram socket, a connection (Accept=yes), a
// file, an address family other than IPv4, IPv6 and unix. All that is wrong is in one error, and its Hint says what to change in the unit.
//
// # Concurrency
//
// Sockets is called once, before anything else looks at the environment or starts a process.
package activation
