// Package cli is the command line of Spinecert: the commands of CONTRACT.md,
// section 1, one file each.
//
//	os.Exit(cli.Main(ctx, version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
//
// For each command newXCmd builds the cobra command, xOptions holds what the
// flags say, and runX does the work: it takes a context and the options and
// returns a result, which is text for people and JSON for programs, and an
// error. Nothing is global, so that many commands may run in one process.
//
// # Output
//
// Results go to stdout, messages to stderr as `error: ...` and `hint: ...`. With
// --output json stdout ends with one line, also on failure and on wrong usage.
// Certificates and peers choose much of the text: whatever could steer a
// terminal (control characters, changes of writing direction) is escaped, in
// text and in JSON.
//
// # Exit status
//
// 0 done. 1 could not be done or examined; so is a trust file that is no trust
// file, as nothing was judged then. 2 usage or configuration. 3 examined and
// judged bad. The command check alone has those of monitoring plugins: 0 OK, 1
// WARNING, 2 CRITICAL, 3 UNKNOWN, also for wrong usage.
package cli
