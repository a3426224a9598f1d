package deliver

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/set"
	"github.com/spinecert/spinecert/internal/format"
	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// settings are the configuration of a service, and what follows from it alone.
type settings struct {
	config.Service
	recipe string       // digest of its files
	needs  format.Needs // of all of them
}

func newSettings(c config.Service) *settings {
	out := &settings{Service: c}
	for _, f := range c.Files {
		if known, ok := format.Find(f.Format); ok {
			out.needs |= known.Needs
		}
	}
	recipe, _ := json.Marshal([]any{c.Directory, c.Files}) // plain values: it cannot fail
	out.recipe = digestOf(string(recipe))
	return out
}

// desired is what a service should be at.
type desired struct {
	generation *rotate.Generation
	trust      *trust.State
	lists      []*trust.CRL // in force, each once; nil where no file needs them
	needs      format.Needs

	// Digests of what it is made of.
	digest   string
	memory   string // all but passwords: nothing is read for it
	beside   string // all but passwords and the identity
	recipe   string
	identity string // "" where no file needs it
	crls     string // "" likewise

	ends     time.Time // when the first of what is delivered is over
	listsEnd time.Time // of the lists alone
}

// desire finds out what a service should be at. It reads nothing. The error says what
// is not there yet.
func (m *Manager) desire(c *settings) (desired, error) {
	slot := m.options.Slot(c.Slot)
	if slot == nil || slot.Snapshot() == nil {
		return desired{}, failure.New(failure.NoMaterial, "spinecert status says how the slot stands", "slot %s has no certificate yet", c.Slot)
	}
	snap := slot.Snapshot()
	d := desired{generation: snap.Generation, trust: snap.Trust, needs: c.needs, recipe: c.recipe}
	bundle := ""
	if d.needs&format.Trust != 0 {
		bundle = fmt.Sprintf("%x", snap.Trust.Bundle().Digest())
	}
	if d.needs&format.CRLs != 0 {
		if err := d.withLists(); err != nil {
			return desired{}, err
		}
	}
	d.ends = d.listsEnd
	if d.needs&format.Identity != 0 {
		d.identity = snap.Generation.Digest()
		if d.ends.IsZero() || snap.Generation.NotAfter.Before(d.ends) {
			d.ends = snap.Generation.NotAfter
		}
	}
	d.beside = digestOf(d.recipe, bundle, d.crls)
	d.memory = digestOf(d.identity, d.beside)
	d.digest = d.memory
	return d, nil
}

// digestOf is the SHA-256 of parts that cannot run into each other.
func digestOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d\n%s\n", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (d *desired) withLists() error {
	if d.lists = listsOf(d.trust); len(d.lists) == 0 {
		return failure.New(failure.NoMaterial, "they are fetched (crl.hosts) or read (crl.files) by themselves; spinecert trust list says how they stand",
			"environment %s has no CRL yet", d.trust.Environment())
	}
	sums := sha256.New()
	for _, l := range d.lists {
		sum := l.Digest()
		sums.Write(sum[:])
		if d.listsEnd.IsZero() || l.NextUpdate().Before(d.listsEnd) {
			d.listsEnd = l.NextUpdate()
		}
	}
	d.crls = hex.EncodeToString(sums.Sum(nil))
	return nil
}

// listsOf returns the lists of a state, each once, in an order that is always the same.
func listsOf(state *trust.State) []*trust.CRL {
	lists := slices.Clone(state.CRLs())
	order.Sort(lists, func(a, b *trust.CRL) int {
		x, y := a.Digest(), b.Digest()
		return bytes.Compare(x[:], y[:])
	})
	return slices.CompactFunc(lists, func(a, b *trust.CRL) bool { return a.Digest() == b.Digest() })
}

// withPasswords adds the passwords to the digest, so that a new one is delivered. They
// are mixed with the private key: nobody can try them out on a digest.
func (d *desired) withPasswords(c config.Service) error {
	var key []byte
	for _, f := range c.Files {
		if f.PasswordFile == "" {
			continue
		}
		password, err := readPassword(f.PasswordFile)
		if err != nil {
			return err
		}
		if key == nil {
			if key, err = x509.MarshalPKCS8PrivateKey(d.generation.Identity.Signer()); err != nil {
				return err
			}
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s %s %s", d.digest, f.Name, password)
		d.digest = hex.EncodeToString(mac.Sum(nil))
	}
	return nil
}

// maxPassword bounds a password file.
const maxPassword = 4096

// readPassword reads the first line of a file that nobody else may read.
func readPassword(path string) ([]byte, error) {
	wrong := func(advice, format string, args ...any) error {
		if name, ok := rotate.CredentialName(path); ok {
			err := fmt.Errorf(format, args...)
			return failure.New(failure.NoMaterial, rotate.CredentialAdvice(name, err), "read password, credential %q: %w", name, err)
		}
		return failure.New(failure.NoMaterial, advice, "read password file %q: %w", path, fmt.Errorf(format, args...))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, wrong("it needs to be readable for the daemon, and for nobody else", "%w", cause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, wrong("", "%w", cause(err))
	case !info.Mode().IsRegular():
		return nil, wrong("name a file", "it is no regular file")
	case info.Mode().Perm()&0o007 != 0:
		return nil, wrong(fmt.Sprintf("chmod o-rwx %q, and choose another password", path), "it has mode %04o: everybody may read it", info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return nil, wrong("", "%w", cause(err))
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if _, ok := rotate.CredentialName(path); ok && string(line) == rotate.MissingCredential {
		return nil, wrong("", "%w", fs.ErrNotExist)
	}
	if len(line) == 0 || len(data) > maxPassword {
		return nil, wrong("write the password into its first line", "its first line is no password")
	}
	return line, nil
}

// cause takes the path out of an error that is told with it.
func cause(err error) error {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok || inner.Unwrap() == nil {
			return err
		}
		err = inner.Unwrap()
	}
}

// compose makes the files of a set. Kept, if not nil, gives those that are made of an
// identity.
func (m *Manager) compose(c config.Service, d desired, now time.Time, kept func(name string) ([]byte, error)) ([]set.File, error) {
	source, err := m.source(c, d, now)
	if err != nil {
		return nil, err
	}
	var files []set.File
	for _, f := range c.Files {
		known, ok := format.Find(f.Format)
		if !ok {
			return nil, failure.New(failure.NoMaterial, "", "format %q is not known", f.Format)
		}
		data, err := content(f, known, source, kept)
		if err != nil {
			return nil, err
		}
		file := set.File{Name: f.Name, Data: data, Mode: f.Mode}
		if file.UID, file.GID, err = owners(f); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// content makes one file.
func content(f config.ServiceFile, known format.Format, source format.Source, kept func(name string) ([]byte, error)) ([]byte, error) {
	if kept != nil && known.Needs&format.Identity != 0 {
		return kept(f.Name)
	}
	if f.PasswordFile != "" {
		var err error
		if source.Password, err = readPassword(f.PasswordFile); err != nil {
			return nil, err
		}
	}
	data, err := known.Encode(source)
	if err != nil {
		return nil, failure.New(failure.NoMaterial, pki.Hint(err), "make %s (%s): %w", f.Name, f.Format, err)
	}
	return data, nil
}

// source gathers what formats are made of. CRLs are read from where they are kept.
func (m *Manager) source(c config.Service, d desired, now time.Time) (format.Source, error) {
	id := d.generation.Identity
	s := format.Source{Certificates: id.Certificates(), Key: id.Signer(), Now: now, Paths: map[string]string{}}
	if d.needs&format.Trust != 0 {
		s.CAs = d.trust.Bundle().Certificates()
	}
	for _, l := range d.lists {
		der, err := m.options.CRL(d.trust.Environment(), l)
		if err != nil {
			return s, failure.New(failure.NoMaterial, pki.Hint(err), "%w", err)
		}
		s.CRLs = append(s.CRLs, der)
	}
	for _, f := range c.Files {
		if s.Paths[f.Format] == "" {
			s.Paths[f.Format] = stable(c, f.Name)
		}
	}
	return s, nil
}

// stable is the path that the configuration of the service names.
func stable(c config.Service, name string) string {
	return filepath.Join(c.Directory, set.Link, name)
}

// owners looks up who a file is handed to; -1 is the daemon's own.
func owners(f config.ServiceFile) (uid, gid int, err error) {
	uid, gid = -1, -1
	if f.Owner != "" {
		id, err := config.UserID(f.Owner)
		if err != nil {
			return 0, 0, failure.New(failure.NotWritable, "make the user, or name another in owner", "file %s: there is no user %q on this host", f.Name, f.Owner)
		}
		uid = int(id)
	}
	if f.Group != "" {
		if gid, err = config.GroupID(f.Group); err != nil {
			return 0, 0, failure.New(failure.NotWritable, "groupadd "+f.Group+", or name another in group", "file %s: there is no group %q on this host", f.Name, f.Group)
		}
	}
	return uid, gid, nil
}

// shown is what a probe must see of an identity: its chain too where that was
// delivered, and nothing where the service has a certificate of its own.
func shown(d desired) []*x509.Certificate {
	certs := d.generation.Identity.Certificates()
	switch {
	case d.needs&(format.Leaf|format.Key) == 0: // whoever has the key serves the leaf
		return nil
	case d.needs&format.Chain == 0:
		return certs[:1]
	}
	return certs
}
