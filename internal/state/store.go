package state

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

const fileMode fs.FileMode = 0o600

var _ rotate.Store = (*Directory)(nil)

// restoreHint is the way out of a generation that is not whole.
const restoreHint = "spinecert state verify names what is wrong; restore the directory from a backup, or roll back to another generation"

// generationPath is the directory of a generation below the state directory.
func generationPath(slot string, number uint64) string {
	return join(slotsName, slot, generationsName, formatNumber(number))
}

// Current returns the generation that current names. The Record is zero but for
// Highest if there is no such link. It is an error if what it names is not whole:
// the link leads elsewhere, a file is missing, or the certificates are not those
// of generation.json. Whether the key fits, [Directory.Load] says.
func (d *Directory) Current(slot string) (rotate.Record, error) {
	if err := checkName("slot", slot); err != nil {
		return rotate.Record{}, err
	}
	numbers, err := d.numbers(slot)
	if err != nil {
		return rotate.Record{}, err
	}
	var highest uint64
	if len(numbers) > 0 {
		highest = numbers[0]
	}
	number, err := d.current(slot)
	highest = max(highest, number)
	if err != nil || number == 0 {
		return rotate.Record{Highest: highest}, err
	}
	g, err := d.readGeneration(slot, number)
	if err != nil {
		return rotate.Record{Highest: highest}, err
	}
	r := g.record()
	r.Highest = highest
	return r, nil
}

// current returns the number that the link names, or 0 if there is none.
func (d *Directory) current(slot string) (uint64, error) {
	name := join(slotsName, slot, currentName)
	target, err := d.readlink(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fail("read link", d.abs(name), err)
	}
	number, ok := linkNumber(target)
	if !ok {
		return 0, failf("read link", d.abs(name), restoreHint, "does not lead to a generation of its slot")
	}
	return number, nil
}

func linkNumber(target string) (uint64, bool) {
	name, ok := strings.CutPrefix(target, generationsName+"/")
	if !ok {
		return 0, false
	}
	return parseNumber(name)
}

// numbers are those of the generations that have a directory, greatest first.
func (d *Directory) numbers(slot string) ([]uint64, error) {
	names, err := d.names(join(slotsName, slot, generationsName))
	var out []uint64
	for _, name := range names {
		if n, ok := parseNumber(name); ok {
			out = append(out, n)
		}
	}
	order.Sort(out, func(a, b uint64) int { return cmp.Compare(b, a) })
	return out, err
}

// readGeneration reads generation.json and holds it against the certificates.
func (d *Directory) readGeneration(slot string, number uint64) (generation, error) {
	g, _, err := d.readCertificates(slot, number)
	return g, err
}

func (d *Directory) readCertificates(slot string, number uint64) (generation, [][]byte, error) {
	dir := generationPath(slot, number)
	name := join(dir, generationFile)
	data, err := d.readFile(name)
	if err != nil {
		return generation{}, nil, &failure{doing: "read generation", path: d.abs(name), err: err, hint: restoreHint}
	}
	g, err := parseGeneration(data)
	if err == nil && (g.Number != number || g.Slot != slot) {
		err = fmt.Errorf("is of generation %d of slot %q", g.Number, g.Slot)
	}
	if err != nil {
		return g, nil, &failure{doing: "read generation", path: d.abs(name), err: err, hint: restoreHint}
	}
	name = join(dir, fullchainFile)
	var certs [][]byte
	if data, err = d.readFile(name); err == nil {
		certs, err = blocks(data)
	}
	if err == nil && digestOf(certs) != g.Digest {
		err = errors.New("is not what generation.json says it is")
	}
	if err == nil {
		name = join(dir, keyFile)
		err = d.regular(name)
	}
	if err != nil {
		return g, nil, &failure{doing: "read generation", path: d.abs(name), err: err, hint: restoreHint}
	}
	return g, certs, nil
}

// History returns every whole generation of a slot, newest first. What is not
// whole is left out, and whether keys fit is not looked at.
func (d *Directory) History(slot string) ([]rotate.Record, error) {
	if err := checkName("slot", slot); err != nil {
		return nil, err
	}
	numbers, err := d.numbers(slot)
	if err != nil {
		return nil, err
	}
	var out []rotate.Record
	for _, n := range numbers {
		if g, err := d.readGeneration(slot, n); err == nil {
			out = append(out, g.record())
		}
	}
	return out, nil
}

// Load returns the identity of one generation. It is an error if the generation is
// not whole or its key is not that of the certificate.
func (d *Directory) Load(slot string, number uint64) (*pki.Identity, error) {
	if err := checkName("slot", slot); err != nil {
		return nil, err
	}
	_, raw, err := d.readCertificates(slot, number)
	if err != nil {
		return nil, err
	}
	id, err := d.identity(generationPath(slot, number), raw)
	if err != nil {
		return nil, &failure{doing: "read generation", path: d.abs(generationPath(slot, number)), err: err, hint: restoreHint}
	}
	return id, nil
}

// identity puts leaf, chain and key together. The chain is taken as it was kept.
func (d *Directory) identity(dir string, raw [][]byte) (*pki.Identity, error) {
	var certs []*x509.Certificate
	for _, der := range raw {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("there is no certificate")
	}
	data, err := d.readFile(join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	key, err := pki.ParseKey(data)
	if err != nil {
		return nil, err
	}
	id, err := pki.NewIdentity(certs[:1], key)
	if err != nil {
		return nil, err
	}
	return id.WithChain(certs[1:]), nil
}

// GenerationFiles returns the directory with the files of a generation and what is
// known of it; number 0 is the current one. The error matches fs.ErrNotExist where
// there is none.
func (d *Directory) GenerationFiles(slot string, number uint64) (dir string, r rotate.Record, err error) {
	if err := checkName("slot", slot); err != nil {
		return "", rotate.Record{}, err
	}
	if number == 0 {
		if number, err = d.current(slot); err == nil && number == 0 {
			err = fail("read link", d.abs(slotsName, slot, currentName), fs.ErrNotExist)
		}
		if err != nil {
			return "", rotate.Record{}, err
		}
	}
	g, err := d.readGeneration(slot, number)
	if err != nil {
		return "", rotate.Record{}, err
	}
	return d.abs(generationPath(slot, number)), g.record(), nil
}

// Commit writes a generation and makes it the current one. When it returns nil,
// that outlives a crash. On an error the one before is still current. Committing
// once more what an earlier attempt wrote is fine; another identity under a number
// that is in use is an error that matches fs.ErrExist.
//
// Then older generations are removed until keep are left, which must be 1 or more;
// never the current one, the one it was made of, or, while it is held, the one that
// was rolled back from. What cannot be removed now is removed by a later Commit.
func (d *Directory) Commit(slot string, r rotate.Record, id *pki.Identity, keep int) error {
	switch {
	case keep < 1:
		return fmt.Errorf("write generation of slot %q: there is nothing to keep", slot)
	case r.Number == 0 || id == nil:
		return fmt.Errorf("write generation of slot %q: number and identity are needed", slot)
	case r.Number > MaxNumber:
		return failf("write generation", d.abs(generationPath(slot, r.Number)), "look for a directory of generations with a number that none ever had, and move it out of the state directory",
			"numbers end at %d", uint64(MaxNumber))
	}
	end, err := d.beginSlot(slot)
	if err != nil {
		return err
	}
	defer end()
	name := generationPath(slot, r.Number)
	files, err := generationFiles(slot, r, id)
	if err != nil {
		return fail("write generation", d.abs(name), err)
	}
	if err := d.makeBelow(slotsName, slot, generationsName); err != nil {
		return err
	}
	err = d.disk.NewDirectory(d.abs(name), files...)
	if errors.Is(err, fs.ErrExist) {
		err = d.adopt(slot, r, files)
	}
	if err != nil {
		return fail("write generation", d.abs(name), err)
	}
	if err := d.disk.Swap(d.abs(slotsName, slot), currentName, join(generationsName, formatNumber(r.Number))); err != nil {
		return fail("swap link", d.abs(slotsName, slot, currentName), err)
	}
	d.prune(slot, r, keep)
	return nil
}

// adopt takes the generation that an attempt to commit r left.
func (d *Directory) adopt(slot string, r rotate.Record, files []durable.File) error {
	there, err := d.Load(slot, r.Number)
	if err != nil {
		return fmt.Errorf("%w, and is not whole: %w", fs.ErrExist, err)
	}
	if digestOf(there.TLS().Certificate) != sum(r.Digest) {
		return fmt.Errorf("%w, with another certificate", fs.ErrExist)
	}
	about := files[slices.IndexFunc(files, func(f durable.File) bool { return f.Name == generationFile })].Data
	data, err := d.readFile(join(generationPath(slot, r.Number), generationFile))
	dir := d.abs(slotsName, slot, generationsName)
	if err != nil || !bytes.Equal(data, about) {
		err = d.disk.ReplaceBelow(dir, join(formatNumber(r.Number), generationFile), about, fileMode)
	}
	return errors.Join(err, d.disk.SyncDir(dir)) // the attempt may have failed there
}

// prune removes old generations, with their keys. Those that are not whole count
// for nothing and go with those around them.
func (d *Directory) prune(slot string, r rotate.Record, keep int) {
	numbers, err := d.numbers(slot)
	if err != nil {
		return
	}
	whole, left := 0, !r.Held
	for _, n := range numbers { // greatest first
		g, err := d.readGeneration(slot, n)
		isLeft := !left && err == nil && g.Digest == sum(r.Left)
		left = left || isLeft
		if err == nil && whole < keep {
			whole++
			continue
		}
		if whole < keep || isLeft || n == r.Number || n == r.Of {
			continue
		}
		_ = d.disk.RemoveDir(d.abs(generationPath(slot, n))) // the next Commit tries again
	}
}
