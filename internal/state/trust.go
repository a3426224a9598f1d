package state

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

const trustSuffix = ".pem"

var sumPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// TrustFiles returns the files of the CA certificates that were added to an
// environment, in the order of their names; none if none were.
func (d *Directory) TrustFiles(environment string) ([]string, error) {
	if err := checkName("environment", environment); err != nil {
		return nil, err
	}
	names, err := d.names(join(trustName, environment))
	var out []string
	for _, name := range names {
		if sum, ok := strings.CutSuffix(name, trustSuffix); ok && sumPattern.MatchString(sum) && d.regular(join(trustName, environment, name)) == nil {
			out = append(out, d.abs(trustName, environment, name))
		}
	}
	return out, err
}

// TrustData reads the files of the CA certificates that were added to an
// environment, each with its path as its name, in the order of names. What is no
// regular file by the time it is opened is none of them; of those that cannot be
// read the error says why each.
func (d *Directory) TrustData(environment string) ([]trust.Source, error) {
	files, err := d.TrustFiles(environment)
	errs := []error{err}
	var out []trust.Source
	for _, path := range files {
		data, err := d.readFile(join(trustName, environment, filepath.Base(path)))
		switch {
		case err == nil:
			out = append(out, trust.Source{Name: path, Data: data})
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errSymlink) || errors.Is(err, durable.ErrNotRegular): // it is not there any more
		default:
			errs = append(errs, fail("read certificate", path, err))
		}
	}
	return out, errors.Join(errs...)
}

// AddTrust keeps a CA certificate for an environment, and returns its file. It is
// no error if it is there already.
func (d *Directory) AddTrust(environment string, c *x509.Certificate) (path string, err error) {
	if err := checkName("environment", environment); err != nil {
		return "", err
	}
	end, err := d.begin(trustName + "/" + environment)
	if err != nil {
		return "", err
	}
	defer end()
	_ = d.sweepDir(join(trustName, environment))
	if err := d.makeBelow(trustName, environment); err != nil {
		return "", err
	}
	name, data := join(trustName, environment, pki.Fingerprint(c)+trustSuffix), pki.EncodeCertificates(c)
	if there, err := d.readFile(name); err == nil && bytes.Equal(there, data) {
		return d.abs(name), fail("write certificate", d.abs(name), d.disk.SyncDir(d.abs(trustName, environment)))
	}
	return d.abs(name), fail("write certificate", d.abs(name), d.disk.Replace(d.abs(name), data, fileMode))
}

// DropTrust removes the CA certificate with this SHA-256, in lower-case hex, from
// those that were added to an environment. The error matches fs.ErrNotExist if it
// is none of them.
func (d *Directory) DropTrust(environment, sha256 string) error {
	if err := checkName("environment", environment); err != nil {
		return err
	}
	if !sumPattern.MatchString(sha256) {
		return fmt.Errorf("read fingerprint %q: want 64 hex digits", sha256)
	}
	end, err := d.begin(trustName + "/" + environment)
	if err != nil {
		return err
	}
	defer end()
	path := d.abs(trustName, environment, sha256+trustSuffix)
	return fail("remove certificate", path, d.disk.Remove(path))
}
