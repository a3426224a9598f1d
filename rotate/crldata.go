package rotate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// crldata.go: the bytes of lists in force. A trust.CRL keeps none of them: of large ones
// they would be most of what the process needs.

const (
	// maxKeptCRL bounds what is read from the store, as trust.ReadCRL does.
	maxKeptCRL = 256 << 20
	// Of files up to maxSmallFile, lists of up to maxSmallLists in all stay in memory.
	maxSmallFile  = 1 << 20
	maxSmallLists = 16 << 20
	// A list is in force before it is on disk: behind that nothing waits for the disk.
	saveLook = 10 * time.Millisecond
	saveWait = 10 * time.Second
)

// errReplaced says that a list is not where it was read.
var errReplaced = errors.New("what is there now is not the list in force")

// CRLData returns the DER of a list that is in force, read again from where it came: a
// file of EnvironmentConfig.CRLs, or the CRLStore. A list of a file up to 1 MiB is had
// from memory (16 MiB for an environment) where the file holds it no longer: a list
// stays in force when its file is cut short, or replaced by one that is refused. It is the
// same list, byte for byte, or an error that says why it is not to be had, a *Refusal that
// is pending: of a larger one, and of one that never came to the CRLStore, nothing is left
// but what handshakes need. It reads from the disk, waits up to ten
// seconds for a list that is being written there, and may be called by several goroutines.
func (e *Environment) CRLData(c *trust.CRL) ([]byte, error) {
	config := e.status.Load().Config
	read, advice := e.crlFromStore, "spinecert trust crl says when it is fetched again; spinecert state verify looks at what is kept"
	if isSource(&config, c.Origin()) {
		read = func(c *trust.CRL) ([]byte, error) {
			data, err := crlFromFile(c, config.MaxCRL)
			if small := e.small.Load(); err != nil && small != nil && (*small)[c.Digest()] != nil {
				return bytes.Clone((*small)[c.Digest()]), nil
			}
			return data, err
		}
		advice = "put a current list into the file; spinecert status says why the one that is there is not in force"
	}
	data, err := read(c)
	for end := time.Now().Add(saveWait); err != nil && time.Now().Before(end); time.Sleep(saveLook) {
		saves := e.saves(c.Origin()) // before: it may end while the file is read
		if data, err = read(c); err == nil || !saves {
			break
		}
	}
	if err == nil {
		return data, nil
	}
	return nil, &Refusal{Reason: reasonUnreadable, Pending: true, Advice: advice,
		Err: fmt.Errorf("read crl %q of environment %q again: %w", c.Origin(), e.name, pathless(err))}
}

// saves reports whether a list is being written to the store.
func (e *Environment) saves(address string) (saving bool) {
	ctx, cancel := context.WithTimeout(context.Background(), saveWait)
	defer cancel()
	err := e.keeper.call(ctx, func() { l := e.lists[address]; saving = l != nil && l.saving })
	return err == nil && saving
}

// pathless takes the path out of an error that is told with it.
func pathless(err error) error {
	var pe *fs.PathError
	var r *Refusal
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case !errors.As(err, &r):
		return err
	}
	if cause := errors.Unwrap(r.Err); cause != nil {
		return cause
	}
	return errReplaced // no file, or a larger one
}

// smallLists are the bytes of lists, by their digests.
type smallLists map[[sha256.Size]byte][]byte

// keepSmall keeps the bytes of small lists of files in force, which were read now or before.
func (e *Environment) keepSmall(read smallLists) {
	var was smallLists
	if p := e.small.Load(); p != nil {
		was = *p
	}
	next := was.followedBy(read, slices.Concat(e.kept, e.files), maxSmallLists)
	e.small.Store(&next)
}

// followedBy returns the bytes of lists, those of the first as long as there is room.
func (s smallLists) followedBy(read smallLists, lists []*trust.CRL, room int) smallLists {
	next := smallLists{}
	for _, c := range lists {
		sum := c.Digest()
		der := s[sum]
		if der == nil {
			der = bytes.Clone(read[sum]) // what it was read with may be larger
		}
		if der != nil && next[sum] == nil && len(der) <= room {
			next[sum] = der
			room -= len(der)
		}
	}
	return next
}

// crlFromFile finds a list among those of its file, DER or PEM.
func crlFromFile(c *trust.CRL, limit int64) ([]byte, error) {
	if limit == 0 {
		limit = maxFile
	}
	at, _, err := resolve(c.Origin())
	if err != nil {
		return nil, err
	}
	data, _, err := readFile(at, limit)
	if err != nil {
		return nil, err
	}
	contents, err := pki.Parse(data, nil)
	if err != nil {
		return nil, errReplaced
	}
	for _, der := range contents.CRLs {
		if sha256.Sum256(der) == c.Digest() {
			return der, nil
		}
	}
	return nil, errReplaced
}

// crlFromStore reads what was fetched or carried here.
func (e *Environment) crlFromStore(c *trust.CRL) ([]byte, error) {
	store := e.keeper.options.CRLs
	if store == nil {
		return nil, errors.New("lists are kept in memory alone")
	}
	f, err := store.OpenCRL(e.name, c.Origin())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeptCRL {
		return nil, errReplaced
	}
	data := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	if _, err := data.ReadFrom(io.NewSectionReader(f, 0, maxKeptCRL)); err != nil {
		return nil, err
	}
	der, err := oneCRL(data.Bytes(), c.Origin())
	if err != nil || sha256.Sum256(der) != c.Digest() {
		return nil, errReplaced
	}
	return der, nil
}
