// Package daemon is spinecertd: it wires configuration, rotate and tunnels
// together, and turns what they tell into logs, metrics, audit lines and status.
//
// It holds no rule of its own about certificates. The order of a start is: read
// the configuration, take the lock of the state directory, stage every
// environment and slot, open the tunnels whose slots are ready, answer on the
// admin socket, say READY. A reload is the same with the right to say no until
// the moment it commits: see reload.go.
package daemon
