// Package command runs a program of the operator's, or signals one.
//
//	err := command.Run(ctx, []string{"/usr/sbin/nginx", "-t"}, []string{"SPINECERT_SERVICE=nginx"}, failure.ValidateFailed)
//	err := command.Signal("/run/nginx.pid", "HUP")
//
// # What a program gets
//
// An absolute path and an argument list, no shell. The environment is PATH, LANG and what the caller adds, and nothing of the
// daemon's own; standard input is /dev/null, or with [RunInput] a pipe with what the caller has to say; the working directory is the root, and no other descriptor is inherited. It leads a
// session of its own, so that it and its children can be stopped together: SIGTERM to its process group when the context ends,
// SIGKILL 2 s later. A child that left the session, or that outlives a program which ended by itself, is left alone: a reload
// script may well start a daemon. Such a child loses the output pipe, and the rest of its input, and nobody waits for it.
//
// # What is kept of its output
//
// The last 4 KiB, of which an error quotes the last two lines, printable and clipped; lines that look like key material
// are left out. What is printed beyond that is read and dropped, so a program that prints without end neither fills memory nor blocks.
//
// # Whom a PID file means
//
// The process with that number, unless it started more than a minute after the file was written: the service wrote it, or whoever
// started the service, when the process was there. So a file that outlived its service is no reason to signal a stranger. Where the
// start is hidden from the daemon (ProtectProc=invisible), only a file that is older than the boot is found out.
//
// # Errors and concurrency
//
// Every error is a *failure.Error. It names the program and no argument. The functions may be called from several goroutines at once.
package command
