// Package services has no code but tests. They hold the pages of docs/services
// against the programs that these are about: each test takes the configuration of
// the program and of spinecertd from the page as it stands there, puts its own
// directories, addresses and program options in, and starts both.
//
// Then it rotates, with requests running all the time. What a test does is made of
//
//	newHost          a directory, a PKI, the files of slot pcs
//	openPage         a page; its blocks, with what stands in the manual replaced
//	launch           starts a program, which ends with the test
//	startDaemon      spinecertd, which is the test binary itself, race detector and all
//	rotate, settled  a new certificate by rename, and the wait until `spinecert services` and the program agree on it
//	look             what a program serves, in a handshake that knows nothing of the daemon
//	startLoad        requests on kept and on new connections, each counted; a failure has a kind
//	campaign         50 reloads without the daemon, then 50 rotations with it, and the comparison
//
// A test of another program writes a [program] for campaign, and its own tests of
// what goes wrong.
//
// Everything listens on loopback addresses, runs as long as its test, and is ended by
// its process ID. A program that is not installed skips its test, and in CI (the
// variable CI is set) fails it. Two tests run at a time.
package services
