package handover

import (
	"context"
	"errors"
)

// What the new process tells the old one, which judges the connections it keeps by the same rules.
const (
	NoteConfiguration = "configuration" // another one is in force
	NoteTrust         = "trust"         // a CA left an environment, on word
	NoteList          = "list"          // a CRL was carried here
)

// Note is something that concerns open connections, and that only the new process was told.
type Note struct {
	Kind        string `json:"kind"`
	Environment string `json:"environment,omitempty"`
	Digest      string `json:"digest,omitempty"`  // of the bundle in force, hex
	Address     string `json:"address,omitempty"` // under which the state directory has the list
	Name        string `json:"name,omitempty"`    // that it was carried under
	Text        []byte `json:"text,omitempty"`    // of the configuration
}

// Watch hands what the process tells to heed, until it leaves as it is asked to, or ends, or ctx ends. The
// error is nil if it left, and that of heed where that one fails.
func (s *Successor) Watch(ctx context.Context, heed func(Note) error) error {
	for {
		m, err := s.line.await(ctx, stepLeave, stepNote)
		if err != nil || m.Step == stepLeave {
			return err
		}
		if m.Note == nil {
			return errors.New("a note without anything in it")
		}
		if err := heed(*m.Note); err != nil {
			return err
		}
	}
}

// Tell tells the old process something. One that has ended needs not be told, and is no error.
func (p *Predecessor) Tell(n Note) error {
	err := p.line.say(message{Step: stepNote, Note: &n})
	if errors.Is(err, errSilent) {
		return nil
	}
	return err
}

// Leave says that this process is about to end as it is asked to.
func (p *Predecessor) Leave() error { return p.line.say(message{Step: stepLeave}) }

// Ended waits until the old process, which has nothing more to say, has ended, or ctx ends.
func (p *Predecessor) Ended(ctx context.Context) { _, _ = p.line.await(ctx, "") }
