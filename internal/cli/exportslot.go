package cli

import (
	"fmt"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/format"
)

// codeEmpty is for a slot that has nothing yet.
const codeEmpty = "empty"

// readSlot reads what the format needs of a slot of the configuration: its
// identity from the state directory, CAs and CRLs of its environment.
func (s *exportSource) readSlot(o *exportOptions, f format.Format) error {
	c, err := o.loadConfig()
	if err != nil {
		return err
	}
	slot, err := slotOf(c, o.slot)
	if err != nil {
		return err
	}
	e, ok := c.Environment(slot.Environment)
	if !ok {
		return failed(codeFailed, fmt.Errorf("slot %q: environment %q is not in the configuration", slot.Name, slot.Environment))
	}
	if f.Needs&format.Trust != 0 {
		if err := s.readEnvironment(c, e); err != nil {
			return err
		}
	}
	if f.Needs&format.CRLs != 0 {
		if len(e.CRL.Files) == 0 {
			e := failed(codeEmpty, fmt.Errorf("environment %q names no CRL files", e.Name))
			e.hint = "name the CRLs with --in, or crl.files in " + c.File
			return e
		}
		if err := s.readCRLs(e.CRL.Files, nil); err != nil {
			return err
		}
	}
	if f.Needs&format.Identity != 0 {
		return s.readGeneration(c, slot, o.generation)
	}
	return nil
}

func (o *exportOptions) loadConfig() (*config.Config, error) {
	file := o.config
	if file == "" {
		file = defaultConfig
	}
	c, err := config.Load(file)
	if err == nil {
		return c, nil
	}
	if exit, _ := classify(err); exit == exitFailed {
		return nil, &exitError{exit: exitFailed, code: codeUnreadable, err: err, hint: "name the configuration with --config, or files with --in in place of --slot"}
	}
	return nil, err
}

// readEnvironment reads the CAs that the daemon trusts for an environment: those
// of its files, and those that were added by word.
func (s *exportSource) readEnvironment(c *config.Config, e config.Environment) error {
	added, err := addedTrust(c.State.Directory, e.Name)
	if err != nil {
		return err
	}
	bundle, err := readTrust(e.Trust, nil, added...)
	if err != nil {
		return err
	}
	s.bundle = bundle.Certificates()
	return nil
}
