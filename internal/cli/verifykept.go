package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// withKept adds the lists that the daemon has fetched, or was given, and kept: they
// are in force there beside those of files. What cannot be read is said in notes, with
// what else is to be said of the base.
func (b *judgementBase) withKept(s *trust.State, v *verification, r *verifyResult) *trust.State {
	r.Notes = append(r.Notes, b.notes...)
	if b.environment == "" || cmp.Or(v.request.Revocation, b.revocation) == trust.Off {
		return s
	}
	kept, err := keptCRLs(b.config.State.Directory, b.environment, s.Bundle())
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.Notes = append(r.Notes, "CRLs that the daemon has kept could not be read: run as root, or as the user of the daemon")
	case err != nil:
		r.Notes = append(r.Notes, "CRLs that the daemon has kept could not all be read: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if len(kept) == 0 {
		return s
	}
	return s.WithCRLs(slices.Concat(s.CRLs(), kept), s.Sequence())
}

// keptCRLs reads the lists that are kept of an environment, as the daemon does when it
// starts: those of CAs that the bundle does not have count for nothing.
func keptCRLs(dir, environment string, bundle *trust.Bundle) ([]*trust.CRL, error) {
	d, err := state.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	kept, err := d.ListCRLs(environment)
	errs := []error{err}
	var out []*trust.CRL
	for _, k := range kept {
		der, err := readKept(d, environment, k.Address)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // dropped meanwhile
				errs = append(errs, err)
			}
			continue
		}
		crl, err := trust.ReadCRL(der, k.Address, bundle.Certificates())
		if err == nil && (strings.HasPrefix(k.Address, rotate.CarriedPrefix) || crl.MayBeOf(k.Address)) {
			out = append(out, crl)
		}
	}
	return out, errors.Join(errs...)
}

// readKept returns the DER of a list, which is kept as it came, in DER or PEM.
func readKept(d *state.Directory, environment, address string) ([]byte, error) {
	f, err := d.OpenCRL(environment, address)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var data bytes.Buffer
	if info, err := f.Stat(); err == nil {
		data.Grow(int(info.Size()) + bytes.MinRead) // bounded by OpenCRL
	}
	if _, err := data.ReadFrom(io.LimitReader(f, state.MaxCRL)); err != nil {
		return nil, fmt.Errorf("read crl %q: %w", address, err)
	}
	if bytes.HasPrefix(data.Bytes(), []byte{0x30}) {
		return data.Bytes(), nil
	}
	contents, err := pki.Parse(data.Bytes(), nil)
	if err != nil || len(contents.CRLs) != 1 {
		return nil, fmt.Errorf("read crl %q: it is not one CRL, DER or PEM", address)
	}
	return contents.CRLs[0], nil
}
