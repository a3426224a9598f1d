// Package state is the state directory: the generations of slots, the requests
// that wait for their certificates, the CA certificates that were added to an
// environment, the CRLs that were fetched for it, and what is known of services
// (CONTRACT.md, 6).
//
//	d, err := state.Lock("/var/lib/spinecert", state.Options{})
//	defer d.Close()
//	r, err := d.NewRequest(state.Request{Slot: "pcs", ...}, key, csr)
//	err = d.Commit("pcs", record, identity, 5)
//
// The layout, directories 0700 and files 0600:
//
//	slots/<slot>/current -> generations/<n>
//	slots/<slot>/generations/<n>/{cert,chain,fullchain,key}.pem, generation.json
//	slots/<slot>/requests/<id>/key.pem, request.csr, request.json[, answer.pem]
//	trust.d/<environment>/<sha256>.pem
//	crl/<environment>/<sha256 of its address>.crl, .json
//	services/<service>.json
//	inbox/, inbox/done/, inbox/rejected/    3770, as others write there
//	.lock
//
// Every change is one rename of something that was fsynced before, followed by an
// fsync of the directory: after a crash it has happened or it has not. What a
// change may leave behind begins with "." and goes when the lock is taken, or with
// the next change to the same slot.
//
// # Reading
//
// No symbolic link is followed but current, and that one only to a generation of
// its slot. Files are regular and have at most 1 MiB, CRLs 256 MiB, or are not read. Names of
// slots, environments and requests are checked before they become paths.
//
// # Errors
//
// They read `verb noun "path": cause`, match the errors of package os, and have a
// method Hint for pki.Hint where there is something to do. Only names and causes
// are in them, never content.
//
// # Concurrency
//
// Whoever holds the lock is the one writer among processes; anybody may read
// meanwhile. All methods may be called by several goroutines. Changes to one slot
// wait for each other, those to different slots do not.
package state
