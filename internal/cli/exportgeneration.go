package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// readGeneration reads the identity of a slot from the state directory: that of
// the generation in force, or of one with this number.
func (s *exportSource) readGeneration(c *config.Config, slot config.Slot, number uint64) (err error) {
	d, err := state.Open(c.State.Directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nothingKept(c, slot.Name)
	}
	if err != nil {
		return stateUnreadable(err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	r, err := findGeneration(d, c, slot.Name, number)
	if err != nil {
		return err
	}
	if s.kept, err = d.Load(slot.Name, r.Number); err != nil {
		return stateUnreadable(err)
	}
	s.generation = r.Number
	if r.Environment != slot.Environment {
		s.notes = append(s.notes, fmt.Sprintf("generation %d is of environment %s, and the slot is of environment %s now", r.Number, r.Environment, slot.Environment))
	}
	return nil
}

func findGeneration(d *state.Directory, c *config.Config, slot string, number uint64) (rotate.Record, error) {
	if number == 0 {
		r, err := d.Current(slot)
		switch {
		case err != nil:
			return r, stateUnreadable(err)
		case r.Number == 0:
			return r, nothingKept(c, slot)
		}
		return r, nil
	}
	history, err := d.History(slot)
	if err != nil {
		return rotate.Record{}, stateUnreadable(err)
	}
	i := slices.IndexFunc(history, func(r rotate.Record) bool { return r.Number == number })
	if i >= 0 {
		return history[i], nil
	}
	var kept []string
	for _, r := range history {
		kept = append(kept, fmt.Sprint(r.Number))
	}
	f := usagef("there is none at all yet", "--generation %d: slot %q does not have it", number, slot)
	if f.code = admin.CodeUnknown; len(kept) > 0 {
		f.hint = "it has " + strings.Join(kept, ", ")
	}
	return rotate.Record{}, f
}

// nothingKept says that a slot has no generation on disk.
func nothingKept(c *config.Config, slot string) *exitError {
	f := failed(codeEmpty, fmt.Errorf("slot %q has nothing in %q yet", slot, c.State.Directory))
	f.hint = "spinecert status says how the slot stands; files are exported with --in in place of --slot"
	if c.State.KeepGenerations == 0 {
		f.hint = "state.keep_generations is 0, so that nothing is kept: export the files of the slot with --in"
	}
	return f
}

// stateUnreadable says what keeps the state directory from being read.
func stateUnreadable(err error) *exitError {
	f := failed(codeUnreadable, err)
	if errors.Is(err, fs.ErrPermission) {
		f.hint = "run as root, or as the user of the daemon: the state directory is theirs alone"
	}
	return f
}

// addedTrust reads the CAs that were added to an environment by word.
func addedTrust(dir, environment string) ([]trust.Source, error) {
	d, err := state.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, stateUnreadable(err)
	}
	added, err := d.TrustData(environment)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, stateUnreadable(err)
	}
	return added, nil
}
