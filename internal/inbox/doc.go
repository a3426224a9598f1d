// Package inbox reads the directory into which people drop the certificates that
// came back, and hands each to a callback.
//
//	in := inbox.New(inbox.Config{Directory: "/var/lib/spinecert/inbox", Take: take, Tell: tell})
//	err := in.Run(ctx) // until ctx ends
//
// What is taken moves to done/, what is refused to rejected/, with a file
// NAME.reason beside it that says why. Both keep the newest 2,000 files; older ones
// are removed, and nothing else is. Names that begin with "." or end in "~", .tmp,
// .part, .filepart or .reason are left alone, and so are directories.
//
// # Trust
//
// Whoever may write to the directory may put anything there, and change it at any
// moment. Files are opened relative to the open directory, without following links
// and without blocking; they are regular, have one link and at most 1 MiB, or 256
// KiB where they are not DER, and were the same in two reads with a pause between.
// Their owners take turns. Everything else is moved away without
// being opened. What was moved is compared with what was read, and moved back where
// it is another file. Private keys are not for this place: what holds one, or may,
// is refused before it is parsed, and no longer readable by others when it moves.
// Nothing of a refused file is quoted; names are quoted with everything odd escaped.
//
// A file that cannot be moved stays, with its verdict remembered, so that it is
// judged once. After a restart it is judged again: Take must bear that.
//
// # Concurrency
//
// Take and Tell are called from one goroutine at a time, that of Run or of Look.
// Look may be called while Run runs, and waits for its pass. Neither may be called
// from Take or Tell.
//
// # Errors
//
// Nothing that is wrong with a file or with the directory ends Run: it is told, once
// for each cause, and tried again.
package inbox
