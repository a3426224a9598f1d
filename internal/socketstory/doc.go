// Package socketstory has no code but tests. They play what docs/sockets.md tells, with its units word for word, under a real systemd (package
// box): a low port for a daemon without privilege, restarts that refuse nobody, and what goes wrong with sockets.
package socketstory
