// Package journal writes log lines to the systemd journal by its native protocol, so that each attribute is a field that can be asked for.
//
//	if journal.IsStream(os.Stderr) {
//		h := journal.New(journal.Options{Identifier: "spinecertd", Prefix: "SPINECERT_", Fallback: text, Lost: lost.Inc})
//		defer h.Close()
//		log = slog.New(h)
//	}
//
// A line becomes one entry (systemd.io, "Native Journal Protocol"):
//
//	MESSAGE=slot serves a new generation: event=rotated slot=pcs generation=2
//	PRIORITY=6
//	SYSLOG_IDENTIFIER=spinecertd
//	SPINECERT_EVENT=rotated
//	SPINECERT_SLOT=pcs
//	SPINECERT_GENERATION=2
//
// MESSAGE is one line of printable text, whatever the values hold: attributes stand in it as slog.TextHandler writes them. A field has the
// value alone, and its lines as lines; what else cannot be printed is written as Go does, as journalctl -o cat prints a field as it is. A []byte is kept.
//
// # When the journal does not take it
//
// One line waits for Patience at most, as long as the journal is there and its queue is full; it is then given up and Lost is told. Where
// the socket cannot be reached at all, the line goes to Fallback. Each line tries anew, so that nothing is to be done when the journal is back.
//
// # Why not the package journal of coreos/go-systemd
//
// It sends through an unconnected socket of the whole process, which cannot be given a deadline: as nothing reports that the queue of the journal has room
// again, a send to a full one waits for ever (github.com/coreos/go-systemd/v22, journal/journal_unix.go, Send). What is too large for a datagram
// goes through a file in /dev/shm instead of a sealed memfd.
//
// # Concurrency
//
// A Handler and what WithAttrs and WithGroup make of it may be used by many goroutines; they send one after the other.
package journal
