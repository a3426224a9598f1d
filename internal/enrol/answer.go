package enrol

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/spinecert/spinecert/pki"
)

// Bounds of one answer. A real one has a handful of certificates in a few
// kilobytes; whoever writes the mail chooses all of it.
const (
	maxAnswer       = 16 << 20 // bytes of one file
	maxCertificates = 50
	maxStores       = 4 // PKCS#12: each may cost seconds
	maxDepth        = 4 // parts of mails in mails
	maxParts        = 100
	maxTold         = 10 // problems that one error tells

	// Each byte of a file may be read as a mail, as the part of one and as text,
	// with and without its quoted-printable: what is read of a file in all is so
	// many times its size. Mails within mails could be far more.
	maxReadings = 8
)

// Piece is a certificate and where it was found.
type Piece struct {
	Certificate *x509.Certificate
	Where       string // file, and the part of a mail or the name in an archive
}

// Problem is something in an answer that could not be read, or was passed over
// on purpose.
type Problem struct {
	Where string
	Err   error
}

// Answer is what files hold that came back for a request. The zero value is empty
// and ready to use.
type Answer struct {
	Certificates []Piece // each once, in the order of reading
	Keys         []crypto.Signer
	Requests     []*x509.CertificateRequest
	Problems     []Problem
	Looked       []string // where anything was looked for
	Private      []string // where private keys are, or may be: keys that were read or not, and what KeepClosed left closed

	// KeepClosed leaves PKCS#12 files and zips unread, in mails as well, for a
	// place that takes certificates only. Nothing is decrypted or unpacked.
	KeepClosed bool

	stores int
	checks pki.Checks // of the signatures among the certificates, and those of the trust files
}

// Read adds what a file holds. It takes PEM in any state in which mails leave it
// (quoted-printable, quoted with '>', CRLF, UTF-16, other line lengths, text
// around it), a saved mail with attachments, DER, PKCS#7, PKCS#12 (which needs
// the password) and a zip of these. The name is for messages only.
//
// What cannot be read becomes a Problem: an answer may be good all the same. The
// error, of type [*pki.Error], is for a file in which nothing at all was found.
func (a *Answer) Read(name string, data, password []byte) error {
	before := len(a.Problems)
	r := &reader{answer: a, password: password, left: maxReadings * len(data), unpack: maxArchiveBytes}
	if len(data) > maxAnswer {
		a.problem(name, fmt.Errorf("more than %d bytes", maxAnswer))
	} else {
		r.any(name, data, 0)
	}
	if r.left < 0 {
		a.problem(name, errors.New("it is too much to read, with its mails in mails: save the part with the certificate alone"))
	}
	if r.found > 0 {
		return nil
	}
	var causes []error
	for i, p := range a.Problems[before:] {
		if i == maxTold {
			causes = append(causes, fmt.Errorf("%d more", len(a.Problems)-before-i))
			break
		}
		if p.Where != name {
			p.Err = fmt.Errorf("%s: %w", p.Where, p.Err)
		}
		causes = append(causes, p.Err)
	}
	if len(causes) == 0 {
		causes = []error{&pki.Error{Part: "answer", Message: "nothing in it is understood",
			Advice: "a certificate is wanted, as PEM (also within a mail), DER, PKCS#7, PKCS#12, or a zip of them"}}
	}
	a.Problems = a.Problems[:before]
	if len(causes) == 1 {
		return pki.WithFile(causes[0], name)
	}
	return pki.WithFile(errors.Join(causes...), name)
}

func (a *Answer) problem(where string, err error) {
	if len(a.Problems) < maxParts {
		a.Problems = append(a.Problems, Problem{Where: where, Err: err})
	}
}

func (a *Answer) private(where string) {
	if len(a.Private) < maxParts {
		a.Private = append(a.Private, where)
	}
}

// closed leaves a file unread that may hold keys.
func (a *Answer) closed(where, form string) {
	a.private(where)
	a.problem(where, &pki.Error{Part: "answer", Message: "is " + form + ", which may hold private keys: only certificates are taken here"})
}

// reader reads one file.
type reader struct {
	answer   *Answer
	password []byte
	found    int // certificates, keys and requests, also those that were known
	parts    int
	left     int   // bytes of text that may still be gone through; negative: it was too much
	unpack   int64 // bytes that may still come out of zips
}

// spend takes the cost of reading n bytes off what is left, and reports whether
// there was enough.
func (r *reader) spend(n int) bool {
	if r.left < n {
		r.left = -1
		return false
	}
	r.left -= n
	return true
}

// any reads data of a form that it finds out.
func (r *reader) any(where string, data []byte, depth int) {
	if len(r.answer.Looked) < maxParts {
		r.answer.Looked = append(r.answer.Looked, where)
	}
	switch {
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		r.archive(where, data, depth)
	case isDER(data):
		r.parse(where, data)
	default:
		r.text(where, data, depth)
	}
}

// isDER reports whether data begins with a SEQUENCE of a length that no text has.
func isDER(data []byte) bool { return len(data) > 1 && data[0] == 0x30 && data[1] >= 0x80 }

// isStore reports whether DER begins like a PFX: a SEQUENCE, version 3.
func isStore(data []byte) bool {
	return isDER(data) && bytes.Contains(data[:min(len(data), 10)], []byte{2, 1, 3})
}

// parse reads DER, or one PEM block that was put in order.
func (r *reader) parse(where string, data []byte) {
	if isStore(data) {
		if r.answer.KeepClosed {
			r.answer.closed(where, "PKCS#12")
			return
		}
		if r.answer.stores++; r.answer.stores > maxStores {
			r.answer.problem(where, fmt.Errorf("more than %d PKCS#12 files", maxStores))
			return
		}
	}
	contents, err := pki.Parse(data, r.password)
	if err != nil {
		if e, ok := errors.AsType[*pki.Error](err); ok && e.Part == "key" {
			r.answer.private(where)
		}
		r.answer.problem(where, err)
		return
	}
	r.take(where, contents)
}

func (r *reader) take(where string, c *pki.Contents) {
	a := r.answer
	for _, cert := range c.Certificates {
		r.found++
		if slices.ContainsFunc(a.Certificates, func(p Piece) bool { return p.Certificate.Equal(cert) }) {
			continue
		}
		if len(a.Certificates) == maxCertificates {
			a.problem(where, fmt.Errorf("more than %d certificates", maxCertificates))
			return
		}
		a.Certificates = append(a.Certificates, Piece{cert, where})
	}
	if len(c.Keys) > 0 {
		a.private(where)
	}
	for _, key := range c.Keys {
		r.found++
		known := func(k crypto.Signer) bool { return samePublic(k.Public(), key.Public()) }
		if !slices.ContainsFunc(a.Keys, known) && len(a.Keys) < maxCertificates {
			a.Keys = append(a.Keys, key)
		}
	}
	for _, request := range c.Requests {
		r.found++
		if len(a.Requests) < maxCertificates {
			a.Requests = append(a.Requests, request)
		}
	}
}

// samePublic compares public keys of any kind.
func samePublic(x, y crypto.PublicKey) bool {
	k, ok := x.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(y)
}
