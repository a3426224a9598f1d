package consumers

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// slot makes the configuration and what the daemon keeps of slot pcs. The CRL is
// that of the subCA; the one of the root is good. Trust is in two files, the wrong
// way round.
func (h *host) slot(crl []byte) {
	h.t.Helper()
	h.write("sub.crl", crl, 0o644)
	h.write("root.crl", h.root.CRL(h.t), 0o644)
	h.write("sub.pem", h.sub.CertPEM(), 0o644)
	h.config = h.path("spinecert.yaml")
	h.write("spinecert.yaml", fmt.Appendf(nil, `environments:
  live: {profile: private, trust: [root.pem, sub.pem], revocation: require, crl: {files: [sub.crl, root.crl]}}
slots:
  pcs: {environment: live, files: {certificate: none.crt, key: none.key}}
state: {directory: %s}
`, h.path("state")), 0o644)
	id, err := pki.NewIdentity(append(h.own.Chain, h.own.Cert), h.own.Key)
	if err != nil {
		h.t.Fatal(err)
	}
	d, err := state.Lock(h.path("state"), state.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	defer d.Close()
	r := rotate.Record{Number: 1, Environment: "live", Origin: rotate.FromFiles, Digest: digest(id), Since: time.Now(), NotAfter: h.own.Cert.NotAfter}
	if err := d.Commit("pcs", r, id, 5); err != nil {
		h.t.Fatal(err)
	}
}

// digest identifies leaf and chain as rotate does: each with its length before it.
func digest(id *pki.Identity) (sum [sha256.Size]byte) {
	sha := sha256.New()
	for _, raw := range id.TLS().Certificate {
		sha.Write(binary.BigEndian.AppendUint64(nil, uint64(len(raw))))
		sha.Write(raw)
	}
	sha.Sum(sum[:0])
	return sum
}
