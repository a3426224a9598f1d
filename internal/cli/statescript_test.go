package cli

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"os"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// scriptKeep makes a state directory with two generations of an identity, a request
// and an added CA certificate: keep DIR SLOT FULLCHAIN KEY CA
func scriptKeep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: keep DIR SLOT FULLCHAIN KEY CA")
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		return data
	}
	certs, err := pki.ParseCertificates(read(args[2]))
	ts.Check(err)
	key, err := pki.ParseKey(read(args[3]))
	ts.Check(err)
	id, err := pki.NewIdentity(certs, key)
	ts.Check(err)
	d, err := state.Lock(ts.MkAbs(args[0]), state.Options{})
	ts.Check(err)
	defer d.Close()
	r := rotate.Record{Environment: "live", Origin: rotate.FromImport, Digest: identityDigest(id), Since: time.Now()}
	for r.Number = 1; r.Number <= 2; r.Number++ {
		ts.Check(d.Commit(args[1], r, id, 5))
	}
	waits, err := pki.GenerateKey("ecdsa-p256")
	ts.Check(err)
	q, err := d.NewRequest(state.Request{Slot: args[1], Environment: "live", FQDN: "pcs.thirdparty.nhs.uk", Key: "ecdsa-p256", Created: time.Now(), By: "uid " + strconv.Itoa(os.Getuid()), Reason: "new"},
		waits, func() ([]byte, error) { return pki.NewRequest(waits, "pcs.thirdparty.nhs.uk") })
	ts.Check(err)
	ts.Setenv("REQUEST", q.ID)
	ca, err := pki.ParseCertificates(read(args[4]))
	ts.Check(err)
	_, err = d.AddTrust("live", ca[0])
	ts.Check(err)
}

// identityDigest is what package rotate calls an identity.
func identityDigest(id *pki.Identity) (digest [sha256.Size]byte) {
	h := sha256.New()
	for _, c := range append([]*x509.Certificate{id.Leaf()}, id.Chain()...) {
		_ = binary.Write(h, binary.BigEndian, uint64(len(c.Raw))) // a hash never fails
		h.Write(c.Raw)
	}
	h.Sum(digest[:0])
	return digest
}
