package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/rotate"
)

const (
	crlName       = "crl"
	crlSuffix     = ".crl"  // the list, in DER
	crlInfoSuffix = ".json" // where it is from
)

const (
	// MaxCRLs bounds the lists that are kept of one environment.
	MaxCRLs = 4096
	// MaxCRL bounds the bytes of one list.
	MaxCRL = 256 << 20
	// maxCRLInfo bounds what is kept beside one.
	maxCRLInfo = 64 << 10
)

var _ rotate.CRLStore = (*Directory)(nil)

// crlInfo is the content of <sum>.json. It is written after the list, and names its
// digest: what does not fit together is from before and after a crash.
type crlInfo struct {
	Schema       int       `json:"schema"`
	Address      string    `json:"address"`
	ETag         string    `json:"etag"`
	LastModified string    `json:"last_modified"`
	Fetched      time.Time `json:"fetched"`
	SHA256       sum       `json:"sha256"` // of the list
}

// parseCRLInfo reads the file of a list with this name.
func parseCRLInfo(data []byte, name string) (crlInfo, error) {
	var i crlInfo
	if err := json.Unmarshal(data, &i); err != nil {
		return i, errors.New("is no JSON of a CRL")
	}
	switch {
	case i.Schema > schema:
		return i, fmt.Errorf("has schema %d, which is not supported by this version", i.Schema)
	case i.Schema != schema || i.Address == "" || i.SHA256 == (sum{}):
		return i, errors.New("is not complete")
	case crlSum(i.Address) != name:
		return i, errors.New("is of another address than its name says")
	}
	return i, nil
}

// crlSum names the files of a list: an address is not to be found in a path.
func crlSum(address string) string {
	s := sha256.Sum256([]byte(address))
	return hex.EncodeToString(s[:])
}

// ListCRLs returns which lists are kept of an environment, in the order of their
// files. A list that is not the one that is described loses ETag and LastModified,
// so that it is asked for anew. What is damaged is left out, and the error says so of
// each.
func (d *Directory) ListCRLs(environment string) ([]rotate.KeptCRL, error) {
	if err := checkName("environment", environment); err != nil {
		return nil, err
	}
	dir := join(crlName, environment)
	if d.lock != nil { // our own changes: what is under way is no damage
		defer d.hold(dir)()
	}
	names, err := d.names(dir)
	errs := []error{err}
	var out []rotate.KeptCRL
	for _, base := range names {
		name, ok := strings.CutSuffix(base, crlInfoSuffix)
		if !ok || !sumPattern.MatchString(name) {
			continue
		}
		if len(out) == MaxCRLs {
			errs = append(errs, failf("read directory", d.abs(dir), "remove those that are not needed", "holds more than %d CRLs", MaxCRLs))
			break
		}
		kept, err := d.keptCRL(dir, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, kept)
	}
	return out, errors.Join(errs...)
}

// keptCRL holds one list against its description.
func (d *Directory) keptCRL(dir, name string) (rotate.KeptCRL, error) {
	i, err := d.crlInfo(dir, name)
	if err != nil {
		return rotate.KeptCRL{}, fail("read crl", d.abs(dir, name+crlInfoSuffix), err)
	}
	kept := rotate.KeptCRL{Address: i.Address, ETag: i.ETag, LastModified: i.LastModified, Fetched: i.Fetched}
	digest, err := d.crlDigest(dir, name)
	if err != nil {
		return kept, fail("read crl", d.abs(dir, name+crlSuffix), err)
	}
	if digest != i.SHA256 {
		kept.ETag, kept.LastModified = "", ""
	}
	return kept, nil
}

func (d *Directory) crlInfo(dir, name string) (crlInfo, error) {
	data, err := d.readFile(join(dir, name+crlInfoSuffix))
	if err != nil {
		return crlInfo{}, err
	}
	return parseCRLInfo(data, name)
}

func (d *Directory) crlDigest(dir, name string) (s sum, err error) {
	f, err := d.openCRL(dir, name)
	if err != nil {
		return s, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, MaxCRL+1)); err != nil {
		return s, err
	}
	h.Sum(s[:0])
	return s, nil
}

// openCRL opens a regular file of a size that is a list's.
func (d *Directory) openCRL(dir, name string) (*os.File, error) {
	f, err := d.open(join(dir, name+crlSuffix), 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = durable.ErrNotRegular
	case info.Size() > MaxCRL:
		err = fmt.Errorf("more than %d bytes", MaxCRL)
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// OpenCRL returns the contents of a list, DER, for reading. The error matches
// fs.ErrNotExist if it is not kept. The caller closes the file.
func (d *Directory) OpenCRL(environment, address string) (*os.File, error) {
	if err := checkName("environment", environment); err != nil {
		return nil, err
	}
	dir, name := join(crlName, environment), crlSum(address)
	f, err := d.openCRL(dir, name)
	return f, fail("read crl", d.abs(dir, name+crlSuffix), err)
}

// SpoolCRL returns an empty file for a download, readable and writable, on the same
// file system as the lists. It has no name: it is gone when it is closed, or when the
// process ends. So it is no change that would have to wait, and a process that has handed the
// directory over gets one, too.
func (d *Directory) SpoolCRL() (*os.File, error) {
	if err := d.isOurs(); err != nil {
		return nil, err
	}
	defer d.hold(crlName)()
	if err := d.makeBelow(crlName); err != nil {
		return nil, err
	}
	f, err := d.disk.Spool(d.abs(crlName))
	return f, fail("make temporary file", d.abs(crlName), err)
}

// KeepCRL keeps k with the whole contents of spool. When it returns nil, both are on
// disk. On an error there is what was there, or, where only k could not be written,
// the new list without ETag and LastModified. Spool is read from its start and stays
// open.
//
// Where spool is nil, k is about the contents that are kept already; it matches
// fs.ErrNotExist if there are none. An ETag that the disk does not know is not kept
// then: nobody knows whether it is of those contents.
func (d *Directory) KeepCRL(environment string, k rotate.KeptCRL, spool *os.File) error {
	if err := checkName("environment", environment); err != nil {
		return err
	}
	dir, name := join(crlName, environment), crlSum(k.Address)
	end, err := d.begin(dir)
	if err != nil {
		return err
	}
	defer end()
	_ = d.sweepDir(dir) // if it fails again, the lock does it
	i := crlInfo{Schema: schema, Address: k.Address, ETag: k.ETag, LastModified: k.LastModified, Fetched: k.Fetched.UTC().Round(0)}
	if spool == nil {
		err = fail("write crl", d.abs(dir, name+crlSuffix), d.sameCRL(dir, name, &i))
	} else {
		err = d.replaceCRL(environment, name, &i, spool)
	}
	if err != nil {
		return err
	}
	data, err := encodeJSON(i)
	if err == nil {
		err = d.disk.Replace(d.abs(dir, name+crlInfoSuffix), data, fileMode)
	}
	return fail("write crl", d.abs(dir, name+crlInfoSuffix), err)
}

// sameCRL completes i for the list that is there.
func (d *Directory) sameCRL(dir, name string, i *crlInfo) error {
	if err := d.regular(join(dir, name+crlSuffix)); err != nil {
		return err
	}
	was, err := d.crlInfo(dir, name)
	if err != nil {
		return err
	}
	if was.ETag != i.ETag || was.LastModified != i.LastModified {
		i.ETag, i.LastModified = "", ""
	}
	i.SHA256 = was.SHA256
	return nil
}

// replaceCRL puts the contents of spool in place, and completes i for them.
func (d *Directory) replaceCRL(environment, name string, i *crlInfo, spool *os.File) error {
	path := d.abs(crlName, environment, name+crlSuffix)
	info, err := spool.Stat()
	if err == nil && info.Size() > MaxCRL {
		err = fmt.Errorf("more than %d bytes", MaxCRL)
	}
	if about, jsonErr := encodeJSON(i); err == nil && (jsonErr != nil || len(about) > maxCRLInfo) {
		err = errors.New("its address is too long")
	}
	if err != nil {
		return fail("write crl", path, err)
	}
	if err := d.roomForCRL(environment, name); err != nil {
		return err
	}
	if err := d.makeBelow(crlName, environment); err != nil {
		return err
	}
	h := sha256.New()
	contents := io.TeeReader(io.NewSectionReader(spool, 0, info.Size()), h)
	if err := d.disk.ReplaceFrom(path, contents, info.Size(), fileMode); err != nil {
		return fail("write crl", path, err)
	}
	h.Sum(i.SHA256[:0])
	return nil
}

// roomForCRL refuses a list more than are kept.
func (d *Directory) roomForCRL(environment, name string) error {
	dir := join(crlName, environment)
	names, err := d.names(dir)
	if err != nil {
		return err
	}
	lists := 0
	for _, base := range names {
		if base == name+crlSuffix {
			return nil
		}
		if strings.HasSuffix(base, crlSuffix) {
			lists++
		}
	}
	if lists >= MaxCRLs {
		return failf("write crl", d.abs(dir), "remove those that are not needed, while the daemon is stopped", "it holds %d already", lists)
	}
	return nil
}

// DropCRL forgets a list. One that is not kept is no error.
func (d *Directory) DropCRL(environment, address string) error {
	if err := checkName("environment", environment); err != nil {
		return err
	}
	dir, name := join(crlName, environment), crlSum(address)
	end, err := d.begin(dir)
	if err != nil {
		return err
	}
	defer end()
	for _, base := range []string{name + crlInfoSuffix, name + crlSuffix} { // half of it is nothing, and swept
		if !d.exists(join(dir, base)) {
			continue
		}
		if err := d.disk.Remove(d.abs(dir, base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail("remove crl", d.abs(dir, base), err)
		}
	}
	return nil
}
