package daemon

import (
	"log/slog"

	"github.com/spinecert/spinecert/rotate"
)

// sayFetch is the log line of a list that was asked for. A list is asked for again and
// again: what is as before is told to who looks for it.
func sayFetch(e rotate.Event) (slog.Level, string, []slog.Attr) {
	attrs := []slog.Attr{slog.String("address", e.Address), slog.String("result", e.Result)}
	level, text := slog.LevelDebug, "CRL is as it was"
	switch {
	case e.Err != nil:
		text = "CRL was not had; what is in force stays"
		if !e.Repeated {
			level = slog.LevelWarn
		}
	case e.CRL != nil:
		level, text = slog.LevelInfo, "new CRL in force"
		attrs = append(attrs, slog.String("issuer", clipName(e.CRL.IssuerCertificate().Subject.CommonName)), slog.Int("entries", e.CRL.Len()),
			slog.Time("this_update", e.CRL.ThisUpdate()), slog.Time("next_update", e.CRL.NextUpdate()))
	}
	return level, text, attrs
}
