// Package crash is a test: the loop from request to generation, run by a process
// that is killed at random points and whose disk fails at random calls.
//
//	make crash N=10000                                  // the long form
//	SPINECERT_CRASH_SEED=7 go test ./internal/crash     // one life again
//
// # What is done
//
// A life is one state directory and some fifty processes, one after the other, that
// work on it: requests, answers good and bad, rollbacks, files, trust. Each writes
// to a ledger outside the state directory what it is about to do and what it was
// told has happened. Each is killed, by itself before a system call or from
// outside, or its system calls fail for a while with ENOSPC, EIO, EROFS or EACCES,
// or both, or nothing happens to it.
//
// # What must hold
//
// After each process its directory is read with other eyes than those of package
// state, and held against the ledger: current is a whole generation whose key fits,
// it is never older than what was promised, nothing is in force that was never
// offered, no number has two contents, a request that was made has its key until
// its certificate is in force, an answer that waits stays, a rollback holds, and
// nothing is readable by others. After most of them package state and a new Keeper
// must agree, too. The others leave their directory as it is to the next process,
// so that the way back from a crash is interrupted as well.
//
// Power cuts are not tried: a process that is killed loses nothing that the kernel
// has, so that a missing fsync is not seen here. Package state counts those.
package crash
