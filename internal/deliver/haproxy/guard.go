package haproxy

import (
	"context"
	"errors"
	"strings"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// ErrReload is that of a certificate which this HAProxy process cannot take, wrapped. A reload takes it from disk, and helps.
var ErrReload = errors.New("this HAProxy process has had CAs or CRLs changed, and takes no certificate any more until it is reloaded")

// HAProxy 2.6.12 says Success to a certificate that is committed after a CA or CRL file was, and goes on to serve the old one; the next commit
// of a CA or CRL file ends it with a segmentation fault (tried; https://github.com/haproxy/haproxy/issues/3165). Which later
// versions do so is not known, so it is kept from all. What was committed is remembered where it lives and dies with the process: as a
// name in its list of CRL files, which nothing uses.
const mark = "spinecert:trust-was-changed"

// allowed returns ErrReload when a certificate may not be committed any more.
func (s *session) allowed(entries []entry) error {
	if s.marked && len(entries) > 0 && entries[0].kind == Cert {
		return failure.New(failure.ReloadFailed, "reload it through its unit: reload: {unit: haproxy.service} does so each time",
			"set %s %q: %w", entries[0].kind, entries[0].name, ErrReload)
	}
	return nil
}

// remember marks the process before the first CA or CRL file is committed.
func (s *session) remember(ctx context.Context, e entry) error {
	if e.kind == Cert || s.marked {
		return nil
	}
	answer, err := s.ask(ctx, "new ssl crl-file "+mark, nil)
	if err != nil {
		return err
	}
	if !strings.Contains(answer, "created") && !strings.Contains(answer, "already exists") {
		return s.refused("mark", e, mark, answer)
	}
	s.marked = true
	return nil
}
