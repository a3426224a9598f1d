package cli

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/spinecert/spinecert/pki"
)

// fileLook is a look at the certificates of a file.
func (o *checkOptions) fileLook(name string, limits checkLimits) look {
	return look{
		do: func(context.Context) []checkItem {
			certs, err := o.certificates(name)
			if err != nil {
				return []checkItem{fault(checkFile, name, pluginUnknown, err)}
			}
			return []checkItem{limits.item(checkFile, name, spans(certs), o.now)}
		},
		late: fault(checkFile, name, pluginUnknown, fmt.Errorf("read %q: not done in %s", name, o.limit)),
	}
}

// certificates returns those of a file that count, at least one.
func (o *checkOptions) certificates(name string) ([]*x509.Certificate, error) {
	password, err := readPassword(o.passwordFile)
	if err != nil {
		return nil, err
	}
	data, err := readRegular(name)
	if err != nil {
		return nil, err
	}
	contents, err := pki.Parse(data, password)
	if err != nil {
		// An encrypted or broken key says nothing of the dates of the certificates beside it.
		certs, certErr := pki.ParseCertificates(data)
		if certErr != nil {
			f := failed(codeMalformed, pki.WithFile(err, name))
			if needsPassword(err) {
				f.hint = "put the password into the first line of a file, and name that with --password-file"
			}
			return nil, f
		}
		contents = &pki.Contents{Certificates: certs}
	}
	if len(contents.Certificates) == 0 {
		f := failed(codeMalformed, fmt.Errorf("read %q: there is no certificate in it", name))
		f.hint = "name a file with certificates; spinecert inspect " + quoted(name) + " says what this one holds"
		return nil, f
	}
	if !o.leafOnly {
		return contents.Certificates, nil
	}
	return leavesOf(contents, name)
}

// leavesOf returns the end certificates of a file. A certificate that is the only one, or
// that has its key beside it, is served, whatever it says of itself.
func leavesOf(c *pki.Contents, name string) ([]*x509.Certificate, error) {
	if len(c.Certificates) == 1 {
		return c.Certificates, nil
	}
	var leaves []*x509.Certificate
	for _, cert := range c.Certificates {
		served := slices.ContainsFunc(c.Keys, func(key crypto.Signer) bool {
			return pki.KeyFingerprint(key.Public()) == pki.KeyFingerprint(cert.PublicKey)
		})
		if served || role(cert) == roleLeaf {
			leaves = append(leaves, cert)
		}
	}
	if len(leaves) == 0 {
		f := failed(codeMalformed, fmt.Errorf("read %q: there are only CA certificates in it", name))
		f.hint = "leave --leaf-only out"
		return nil, f
	}
	return leaves, nil
}

// readRegular reads a file. Anything else is refused and not waited for: nobody may
// write to a FIFO for as long as the machine runs.
func readRegular(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, unreadable(name, err)
	case info.IsDir():
		return nil, unreadable(name, errors.New("is a directory: name the files in it"))
	case !info.Mode().IsRegular():
		return nil, unreadable(name, errors.New("is not a file"))
	case info.Size() > maxInput:
		return nil, unreadable(name, fmt.Errorf("more than %d bytes", maxInput))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxInput))
	if err != nil {
		return nil, unreadable(name, err)
	}
	return data, nil
}
