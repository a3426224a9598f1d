package cli

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/internal/format"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// exportSource is what was read, and what of it was written.
type exportSource struct {
	answer     *enrol.Answer       // of the files
	kept       *pki.Identity       // of the slot, in place of answer and key
	bundle     []*x509.Certificate // of the environment of the slot
	crls       [][]byte            // DER
	key        crypto.Signer       // nil if there is none
	generation uint64              // of the slot; 0 if there is none
	password   []byte
	to         string
	now        time.Time

	wrote  []string
	lists  []string     // the CRLs that were written
	beside []exportFile // for a format that is more than one file
	notes  []string
}

// read reads what the format needs, from the slot or from files.
func (s *exportSource) read(o *exportOptions, f format.Format) error {
	var err error
	if s.password, err = readPassword(o.passwordFile); err != nil {
		return err
	}
	if f.Password {
		s.judgePassword(o.passwordFile)
	}
	switch {
	case o.slot != "":
		return s.readSlot(o, f)
	case f.Needs == format.CRLs:
		return s.readCRLs(o.files, o.stdin)
	}
	if s.answer, err = readAnswer(o.files, o.stdin, s.password); err != nil {
		return err
	}
	s.notes = append(s.notes, s.answer.Passed()...)
	return s.findKey(o.key)
}

// judgePassword notes what is against a password and no reason to refuse it.
func (s *exportSource) judgePassword(file string) {
	if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		s.notes = append(s.notes, fmt.Sprintf("the password file %s has mode %04o: others may have read it, chmod 600 it", file, info.Mode().Perm()))
	}
	if slices.ContainsFunc(s.password, func(b byte) bool { return b < ' ' || b > '~' }) {
		s.notes = append(s.notes, "the password holds characters that are not ASCII: OpenSSL reads the file, Java 17 does not")
	}
}

// findKey takes the key of --key, else the one that the files hold.
func (s *exportSource) findKey(name string) error {
	if name != "" {
		key, notes, err := readKeyOf(name, s.password)
		s.key, s.notes = key, append(s.notes, notes...)
		return err
	}
	switch keys := s.answer.Keys; len(keys) {
	case 0:
	case 1:
		s.key = keys[0]
	default:
		return judged(codeMalformed, fmt.Errorf("%d private keys are in the files: name the right one with --key", len(keys)))
	}
	return nil
}

// readCRLs reads the CRLs of files, each once. A file without one is judged bad.
func (s *exportSource) readCRLs(names []string, stdin io.Reader) error {
	names, err := crlFiles(names)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		in, err := readInput(name, stdin)
		if err != nil {
			return err
		}
		contents, err := pki.Parse(in.data, s.password)
		if err == nil && len(contents.CRLs) == 0 {
			err = &pki.Error{Part: "crl", Message: "there is no CRL in it", Advice: "see what it holds: spinecert inspect FILE"}
		}
		if err != nil {
			errs = append(errs, pki.WithFile(err, name))
			continue
		}
		for _, der := range contents.CRLs {
			if facts := describeCRL(der, s.now); facts.Error != "" {
				errs = append(errs, pki.WithFile(&pki.Error{Part: "crl", Message: facts.Error, Advice: "get it again, whole"}, name))
			} else if !slices.ContainsFunc(s.crls, func(have []byte) bool { return string(have) == string(der) }) {
				s.crls = append(s.crls, der)
			}
		}
	}
	if len(errs) > 0 {
		return judged(string(trust.CRLInvalid), errors.Join(errs...))
	}
	return nil
}

// noKey says what is missing where the files hold no private key.
func (s *exportSource) noKey() error {
	f := judged(codeMalformed, errors.New("there is no private key in the files"))
	f.hint = "name it with --key"
	if !slices.ContainsFunc(s.answer.Certificates, func(p enrol.Piece) bool { return !p.Certificate.IsCA }) {
		f.hint += "; CA certificates alone make a trust store: --format trust-pem, or trust-pkcs12 for Java"
	}
	return f
}

// authorities are the CAs, subCAs first, with notes on what programs make of them.
func (s *exportSource) authorities() ([]*x509.Certificate, error) {
	from := s.bundle
	if from == nil {
		for _, p := range s.answer.Certificates {
			from = append(from, p.Certificate)
		}
	}
	cas := format.Authorities(from)
	if len(cas) == 0 {
		return nil, errors.New("there is no CA certificate in the files")
	}
	if len(cas) < len(from) {
		s.notes = append(s.notes, "certificates that are no CA were left out")
	}
	if last := cas[len(cas)-1]; !pki.IssuedBy(last, last) {
		s.notes = append(s.notes, "there is no root among them: most programs accept no chain without its root")
	}
	var over []string
	for _, c := range cas {
		if s.now.After(c.NotAfter) {
			over = append(over, c.Subject.String())
		}
	}
	if len(over) > 0 {
		s.notes = append(s.notes, "expired, and of no use in a trust store: "+strings.Join(over, "; "))
	}
	return cas, nil
}
