package haproxy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// Kind says what a file is to HAProxy.
type Kind string

// The kinds, as they stand in commands.
const (
	Cert Kind = "cert"
	CA   Kind = "ca-file"
	CRL  Kind = "crl-file"
)

// File is a file that HAProxy has loaded under this path.
type File struct {
	Path string
	Kind Kind
	Data []byte // PEM; of a Cert the certificate, its chain and its key, or one of these when they are separate files
}

const (
	busyFor   = 5 * time.Second       // how long another transaction is waited for
	busyAgain = 50 * time.Millisecond // between two looks
	abortFor  = 2 * time.Second       // for taking back what was set, also when ctx has ended
)

// errBusy is that of a transaction of somebody else's, wrapped.
var errBusy = errors.New("another transaction is under way")

// Update sets all files and then commits all, or none: what was set is aborted when one
// is refused. The error is a *failure.Error: socket_away, not_permitted, timeout, interrupted, or reload_failed when HAProxy
// refuses a file or has not loaded one, or must be reloaded first (ErrReload). Leave out files that HAProxy has already. When a commit failed after another one, it says which files were changed.
func Update(ctx context.Context, socket string, files []File) error {
	if len(files) == 0 {
		return failure.New(failure.ReloadFailed, "deliver at least one file that HAProxy has loaded", "update HAProxy at %q: there is no file", socket)
	}
	if !filepath.IsAbs(socket) { // nor an address of TCP, nor an abstract one, which anybody may take
		return failure.New(failure.ReloadFailed, "give the absolute path of a stats socket", "update HAProxy at %q: it is no absolute path", socket)
	}
	s := session{socket: socket, files: files}
	defer takeTurn(ctx, socket)()
	wait, stop := context.WithTimeout(ctx, busyFor)
	defer stop()
	for {
		err := s.update(ctx)
		if !errors.Is(err, errBusy) || len(s.changed) > 0 {
			return s.explain(err)
		}
		select {
		case <-wait.Done():
			return s.explain(err)
		case <-time.After(busyAgain):
		}
	}
}

// session is one update.
type session struct {
	socket  string
	files   []File
	marked  bool     // CAs or CRLs were committed in this process: see guard.go
	changed []string // committed
}

// update makes one attempt.
func (s *session) update(ctx context.Context) error {
	entries, err := s.entries(ctx)
	if err != nil {
		return err
	}
	if err := s.fits(ctx); err != nil {
		return err
	}
	rounds := inRounds(entries)
	if len(rounds) > 1 {
		for _, e := range entries {
			if err := s.set(ctx, e); err != nil {
				return err
			}
			s.abort(ctx, e)
		}
	}
	for _, round := range rounds {
		if err := s.transaction(ctx, round); err != nil {
			return err
		}
	}
	return nil
}

// transaction sets entries of different kinds and commits them.
func (s *session) transaction(ctx context.Context, round []entry) error {
	for i, e := range round {
		if err := s.set(ctx, e); err != nil {
			s.abort(ctx, round[:i]...)
			return err
		}
	}
	for i, e := range round {
		if err := s.commit(ctx, e); err != nil {
			s.abort(ctx, round[i:]...)
			return err
		}
		s.changed = append(s.changed, e.name)
	}
	return nil
}

func (s *session) commit(ctx context.Context, e entry) error {
	if err := s.remember(ctx, e); err != nil {
		return err
	}
	answer, err := s.ask(ctx, "commit ssl "+string(e.kind)+" "+e.name, nil)
	if err == nil && !committed(answer) {
		return s.refused("commit", e, e.name, answer)
	}
	return err
}

// set gives HAProxy the files of an entry. What an earlier one of them left is taken back when it fails.
func (s *session) set(ctx context.Context, e entry) error {
	for _, file := range e.files {
		answer, err := s.send(ctx, file)
		if err == nil && strings.HasSuffix(file.Path, ".crt") && strings.Contains(answer, "not referenced") {
			// HAProxy 2.6 takes .crt for the ending of an extra file, and looks for the path without it.
			answer, err = s.send(ctx, File{Path: file.Path + ".crt", Kind: file.Kind, Data: file.Data})
		}
		if err == nil {
			err = s.wasSet(ctx, e, file, answer)
		}
		if err != nil {
			s.abort(ctx, e) // nothing happens when the transaction is of another path
			return err
		}
	}
	return nil
}

func (s *session) send(ctx context.Context, file File) (string, error) {
	payload, err := payloadOf(file)
	if err != nil {
		return "", err
	}
	defer clear(payload)
	return s.ask(ctx, setCommand(file), payload)
}

// wasSet returns an error unless the answer says that HAProxy took a file, and for which path.
func (s *session) wasSet(ctx context.Context, e entry, file File, answer string) error {
	switch name := transactionOf(answer); {
	case name == e.name:
		return nil
	case name != "":
		// HAProxy 2.6 puts a file into whatever transaction is open (tried). Nobody may commit that now.
		s.abort(ctx, entry{kind: e.kind, name: name})
		return failure.New(failure.ReloadFailed, "let nobody else change HAProxy's files meanwhile",
			"set %s %q: %w, on %q, and had to be ended", e.kind, file.Path, errBusy, printable(name))
	case strings.TrimSpace(answer) == "":
		return tooLarge(file, 0)
	}
	return s.refused("set", e, file.Path, answer)
}

func setCommand(file File) string { return "set ssl " + string(file.Kind) + " " + file.Path + " <<" }

// abort takes back what was set, as far as HAProxy answers.
func (s *session) abort(ctx context.Context, entries ...entry) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), abortFor)
	defer stop()
	for _, e := range slices.Backward(entries) {
		if _, err := s.ask(ctx, "abort ssl "+string(e.kind)+" "+e.name, nil); err != nil {
			return // it does not answer, and will not for the next
		}
	}
}

// refused returns the error of a command that HAProxy did not do.
func (s *session) refused(verb string, e entry, path, answer string) error {
	said := s.quote(answer)
	switch {
	case strings.Contains(answer, "Permission denied"):
		return failure.New(failure.NotPermitted, "HAProxy's socket needs level admin, operator is not enough: stats socket "+s.socket+" mode 660 level admin",
			"%s %s %q: HAProxy says: %s", verb, e.kind, path, said)
	case strings.Contains(answer, "currently locked"), strings.Contains(answer, "ngoing transaction"):
		return failure.New(failure.ReloadFailed, "wait for whoever else changes it, or end that transaction with abort ssl "+string(e.kind),
			"%s %s %q: %w: HAProxy says: %s", verb, e.kind, path, errBusy, said)
	}
	return failure.New(failure.ReloadFailed, "HAProxy keeps what it had", "%s %s %q: HAProxy says: %s", verb, e.kind, path, said)
}

// ErrTooLarge is that of a file that does not pass through HAProxy's socket, wrapped. Nothing is changed, and a reload takes it from disk.
var ErrTooLarge = errors.New("too large for the socket of HAProxy")

// tooLarge returns the error of a file that HAProxy's buffer does not take. The buffer is 0 when it is not known that this is the cause.
func tooLarge(file File, buffer int) error {
	cause := "HAProxy hung up without an answer, perhaps as"
	if buffer > 0 {
		cause = fmt.Sprintf("HAProxy's socket takes less than %d bytes (tune.bufsize), and", buffer)
	}
	return failure.New(failure.ReloadFailed,
		"set tune.bufsize in HAProxy's global section well above the size of the file, and restart it; or reload through the unit instead of the socket",
		"set %s %q: %w: %s the file has %d", file.Kind, file.Path, ErrTooLarge, cause, len(file.Data))
}

// ErrPartly is that of an Update which changed something before it failed, wrapped.
var ErrPartly = errors.New("HAProxy already has the new")

// explain adds to an error what was changed before it.
func (s *session) explain(err error) error {
	var known *failure.Error
	if len(s.changed) == 0 || !errors.As(err, &known) {
		return err
	}
	return &failure.Error{Reason: known.Reason, Advice: known.Advice, Err: fmt.Errorf("%w (%w %s)", known.Err, ErrPartly, strings.Join(s.changed, ", "))}
}
