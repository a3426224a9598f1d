package main

import (
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

const (
	largeList = 1_000_000 // entries
	smallList = 1_000
)

// signer is the authority in the words of package testpki. It stands in for the
// testing.TB that testpki asks for: a program has none.
type signer struct {
	testing.TB // nil: a method that signer lacks is a mistake here
	cas        [2]*testpki.Authority
}

// failed is what a testpki function ended with.
type failed struct{ err error }

func newSigner(a *authority) *signer {
	root := &testpki.Authority{Cert: a.root, Key: a.rootKey}
	return &signer{cas: [2]*testpki.Authority{root, {Cert: a.sub, Key: a.subKey, Parent: root}}}
}

// Helper implements testing.TB.
func (*signer) Helper() {}

// Fatalf implements testing.TB.
func (*signer) Fatalf(format string, args ...any) { panic(failed{fmt.Errorf(format, args...)}) }

// Fatal implements testing.TB.
func (*signer) Fatal(args ...any) { panic(failed{fmt.Errorf("%s", fmt.Sprint(args...))}) }

// list returns a CRL of the subCA in DER: n entries of nobody, and revoked. Each is
// newer than the one before.
func (s *signer) list(n int, revoked ...*big.Int) (der []byte, err error) {
	defer catch(&err)
	return testpki.NewLargeCRL(s, s.cas[1], n, testpki.Revoke(revoked...)), nil
}

// rootList returns a CRL of the root, without entries.
func (s *signer) rootList() (der []byte, err error) {
	defer catch(&err)
	return s.cas[0].CRL(s), nil
}

func catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case failed:
		*err = fmt.Errorf("make list: %w", p.err)
	default:
		panic(p)
	}
}

// lists are the files of a run's CRLs, in DER but where it says PEM.
type lists struct {
	dir                string
	root, small, large string
	pem                string // root and large, as HAProxy reads them
	size               int64  // of large, in bytes
}

// writeLists makes the lists that all figures of revocation share. What they take to
// make is nobody's figure.
func (l *lab) writeLists() (lists, error) {
	out := lists{dir: filepath.Join(l.dir, "lists")}
	if err := os.MkdirAll(out.dir, 0o700); err != nil {
		return out, fmt.Errorf("make directory: %w", err)
	}
	root, err := l.signer.rootList()
	if err != nil {
		return out, err
	}
	small, err := l.signer.list(smallList)
	if err != nil {
		return out, err
	}
	large, err := l.signer.list(largeList)
	if err != nil {
		return out, err
	}
	text := append(crlPEM(root), crlPEM(large)...)
	out.size = int64(len(large))
	for _, f := range []struct {
		at   *string
		name string
		data []byte
	}{{&out.root, "root.crl", root}, {&out.small, "small.crl", small}, {&out.large, "large.crl", large}, {&out.pem, "both.pem", text}} {
		if *f.at, err = out.write(f.name, f.data); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (s *lists) write(name string, data []byte) (string, error) {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("write %q: %w", path, err)
	}
	return path, nil
}

func crlPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// serials returns the serial numbers of identities.
func serials(ids []*identity) []*big.Int {
	var out []*big.Int
	for _, id := range ids {
		out = append(out, id.cert.SerialNumber)
	}
	return out
}

// issueMany makes n client identities of one key, named peer-0 and so on: they
// differ in what revocation looks at.
func (l *lab) issueMany(n int) ([]*identity, error) {
	var out []*identity
	for i := range n {
		id, err := l.authority.issue(peerName(i), l.clientID.key)
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, nil
}

func peerName(i int) string { return fmt.Sprintf("peer-%d.bench.test", i) }
