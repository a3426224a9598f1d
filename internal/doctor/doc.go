// Package doctor examines a host: the configuration and the daemon, the clock,
// permissions, trust, CRL routes, identities, both ends of each tunnel, and the
// services that files are delivered to. What it finds are lines, each with a level, a
// stable code, what it is about, a sentence and the next action.
//
// There are two places to look from. [Outside] is beside the daemon: what the
// program spinecert sees. [Inside] is where trust and identities are: in the daemon,
// or, where none runs, in a keeper that read the same files.
//
//	lines := doctor.Outside{Now: time.Now(), ...}.Examine(ctx)
//
// It changes nothing and keeps nothing. It connects to no other places than the
// configuration and the certificates of this host name, and bounds how many at once.
// Nothing it says holds more than names, times and causes.
//
// # Another check
//
// A check is one func in the list of the place that it looks from, and its code is
// in [Codes] and in docs/doctor.md.
//
// # Concurrency
//
// Examine may be called by several goroutines.
package doctor
