package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// style is a way in which people and programs put a new pair on disk.
type style string

const (
	keyThenCert   style = "key, then certificate"
	certThenKey   style = "certificate, then key"
	renameBoth    style = "both renamed at once"
	overwrite     style = "both written over" // cp new.crt /etc/pki: neither atomic nor rare
	swapDirectory style = "directory symlink"
	swapData      style = "..data symlink" // Kubernetes secret volumes
)

// styles returns all of them, in the order in which rotations take turns.
func styles() []style {
	return []style{keyThenCert, swapData, certThenKey, swapDirectory, renameBoth, overwrite}
}

// defect is what is wrong with a broken rotation.
type defect string

const (
	tornPair   defect = "torn pair"
	foreignKey defect = "foreign key"
	expired    defect = "expired"
	otherCA    defect = "other CA"
)

func defects() []defect { return []defect{tornPair, expired, foreignKey, otherCA} }

// Names within the directory of a slot. The configuration names live/tls.crt
// and live/tls.key, so that every style can be used on the same paths:
//
//	provider/live -> set-3
//	provider/set-3/{tls.crt,tls.key}           plain files, or
//	provider/set-3/tls.crt -> ..data/tls.crt   with ..data -> ..set-4
const (
	liveName = "live"
	certName = "tls.crt"
	keyName  = "tls.key"
	dataName = "..data"
)

// pair is the content of the two files.
type pair struct{ certificate, key []byte }

// place is where the pair of one slot lives on disk. Not safe for concurrent use.
type place struct {
	dir   string
	sets  int      // directories made so far
	kept  []string // directories that hold or held a set, oldest first
	pause time.Duration
}

// newPlace makes the directory of a slot with its first pair. pause is the time
// between the two files where they are written one after the other.
func newPlace(dir string, first pair, pause time.Duration) (*place, error) {
	p := &place{dir: dir, pause: pause}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := p.write(swapDirectory, first); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *place) certificate() string { return filepath.Join(p.dir, liveName, certName) }
func (p *place) key() string         { return filepath.Join(p.dir, liveName, keyName) }

// write puts a pair on disk and returns the time just before the call that
// completed it.
func (p *place) write(s style, m pair) (completed time.Time, err error) {
	switch s {
	case keyThenCert:
		completed, err = p.inTurn(replacement{p.key(), m.key}, replacement{p.certificate(), m.certificate}, p.pause)
	case certThenKey:
		completed, err = p.inTurn(replacement{p.certificate(), m.certificate}, replacement{p.key(), m.key}, p.pause)
	case renameBoth:
		completed, err = p.inTurn(replacement{p.key(), m.key}, replacement{p.certificate(), m.certificate}, 0)
	case overwrite:
		if err = os.WriteFile(p.key(), m.key, 0o600); err == nil {
			completed = time.Now()
			err = os.WriteFile(p.certificate(), m.certificate, 0o600)
		}
	case swapDirectory:
		completed, err = p.swap(p.dir, liveName, "set-", m)
	case swapData:
		if err = p.useData(); err == nil {
			completed, err = p.swap(p.live(), dataName, "..set-", m)
		}
	default:
		err = fmt.Errorf("unknown style %q", s)
	}
	if err != nil {
		return completed, fmt.Errorf("write pair %q (%s): %w", p.dir, s, err)
	}
	return completed, nil
}

type replacement struct {
	path    string
	content []byte
}

// inTurn stages both files, then renames them over the live ones.
func (p *place) inTurn(first, second replacement, pause time.Duration) (time.Time, error) {
	for _, r := range []replacement{first, second} {
		if err := os.WriteFile(r.path+".new", r.content, 0o600); err != nil {
			return time.Time{}, err
		}
	}
	if err := os.Rename(first.path+".new", first.path); err != nil {
		return time.Time{}, err
	}
	time.Sleep(pause)
	completed := time.Now()
	return completed, os.Rename(second.path+".new", second.path)
}

// swap writes a set into a new directory below parent and points the symlink there.
func (p *place) swap(parent, link, prefix string, m pair) (time.Time, error) {
	name, err := p.newSet(parent, prefix, m)
	if err != nil {
		return time.Time{}, err
	}
	staged := filepath.Join(parent, link+".new")
	if err := os.Symlink(name, staged); err != nil {
		return time.Time{}, err
	}
	completed := time.Now()
	if err := os.Rename(staged, filepath.Join(parent, link)); err != nil {
		return time.Time{}, err
	}
	return completed, p.sweep()
}

// newSet makes a directory with the pair and returns its name within parent.
func (p *place) newSet(parent, prefix string, m pair) (string, error) {
	p.sets++
	name := prefix + strconv.Itoa(p.sets)
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	p.kept = append(p.kept, dir)
	if err := os.WriteFile(filepath.Join(dir, keyName), m.key, 0o600); err != nil {
		return "", err
	}
	return name, os.WriteFile(filepath.Join(dir, certName), m.certificate, 0o600)
}

// useData turns plain files into the layout of a Kubernetes secret volume. The
// content stays the same at every step, so it is no rotation.
func (p *place) useData() error {
	certificate, err := os.ReadFile(p.certificate())
	if err != nil {
		return err
	}
	key, err := os.ReadFile(p.key())
	if err != nil {
		return err
	}
	plain := false
	for _, path := range []string{p.certificate(), p.key()} {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		plain = plain || info.Mode()&fs.ModeSymlink == 0
	}
	if !plain {
		return nil
	}
	if _, err := p.swap(p.live(), dataName, "..set-", pair{certificate, key}); err != nil {
		return err
	}
	for _, path := range []string{p.certificate(), p.key()} {
		staged := path + ".new"
		if err := os.Symlink(filepath.Join(dataName, filepath.Base(path)), staged); err != nil {
			return err
		}
		if err := os.Rename(staged, path); err != nil {
			return err
		}
	}
	return nil
}

// live is the directory behind the live symlink. ..data has to be made inside
// it: relative to the symlink the daemon would see the same.
func (p *place) live() string { return filepath.Join(p.dir, liveName) }

// keptSets is how many sets stay on disk: the current one may be nested in the
// one before it, and a reader may still be in the last.
const keptSets = 4

// sweep removes directories that nothing points to any more.
func (p *place) sweep() error {
	inUse, err := p.inUse()
	if err != nil {
		return err
	}
	var kept []string
	for i, dir := range p.kept {
		// A set made through the live symlink is gone with the directory that held it.
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if i >= len(p.kept)-keptSets || inUse[filepath.Base(dir)] {
			kept = append(kept, dir)
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	p.kept = kept
	return nil
}

// inUse names the directories that the symlinks point to.
func (p *place) inUse() (map[string]bool, error) {
	used := map[string]bool{}
	for _, link := range []string{p.live(), filepath.Join(p.live(), dataName)} {
		target, err := os.Readlink(link)
		switch {
		case err == nil:
			used[target] = true
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return used, nil
}
