// Package consumers has nothing but tests: they hold docs/export.md against the
// programs that it is about. Each test takes the commands and the settings from
// the page as they stand there, puts its own directories and addresses in, exports
// a slot, and starts the program with TLS in both directions.
//
// The programs listen on loopback addresses, run as long as their test, and are
// ended by their process ID. A program that is not installed skips its test, and in
// CI (the variable CI is set) fails it; .ci/deps installs them all.
package consumers
