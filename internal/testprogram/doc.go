// Package testprogram has tests use real programs: it finds them, starts them and keeps what they say.
//
//	nginx := testprogram.Need(t, "nginx")
//	_, said := testprogram.Start(t, nil, dir, nginx, "-p", dir, "-c", "nginx.conf")
//
// A test whose program is not installed is skipped. In CI, which sets the variable CI to true, it fails: nothing
// is left out there unseen.
//
// # Concurrency
//
// An [Output] may be used by several goroutines. The functions are for the goroutine of the test.
//
// # Errors
//
// There are none to handle: what cannot be done ends the test with Fatal or Skip.
package testprogram
