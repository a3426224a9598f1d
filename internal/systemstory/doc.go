// Package systemstory has no code but tests. They play the life of the service under a real systemd (package box): the daemon in the
// unit of the package, with no right beyond it, is installed, started, rotated, reloaded, hung, killed, starved, stopped,
// and removed, while peers of its tunnel look on.
//
// Each test has a box of its own, and the peers and the service behind the tunnel are in the process of the test, with sockets in the network of
// the box. What is asked of systemd and of the daemon is asked as an operator would: systemctl, journalctl, spinecert status.
//
//	go test ./internal/systemstory        the short form
//	make systemd-test                     the long one, without the race detector
//
// The environment variable SPINECERT_SYSTEM_TESTS=long asks for the long form.
package systemstory
