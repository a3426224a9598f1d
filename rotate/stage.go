package rotate

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// maxSourceFile bounds a certificate, key or PKCS#12 file.
const maxSourceFile = 1 << 20

// candidate is what a slot's source would have it serve.
type candidate struct {
	file     string // of the certificate, for messages
	identity *pki.Identity
	digest   [sha256.Size]byte // of leaf, chain and public key
	source   [sha256.Size]byte // of the files
	trust    *trust.State      // the state it was verified with
	notAfter time.Time

	origin Origin
	of     uint64
	held   bool
	left   [sha256.Size]byte
	// leftLeaf is that of the leaf of left alone.
	leftLeaf [sha256.Size]byte
	number   uint64 // 0: the next one
	since    time.Time
	kept     bool // the store has it in force, since this look
}

// examine parses and judges what was read of the files of a slot. It is pure: the
// same material, trust and time give the same answer.
func examine(c *SlotConfig, m *material, state *trust.State, allow []string, now time.Time) (*candidate, *Refusal) {
	if r := keyPermissions(c, m); r != nil {
		return nil, r
	}
	identity, err := c.Files.identity(m)
	if err != nil {
		return nil, materialRefusal(err)
	}
	return examineIdentity(c, &candidate{file: c.Files.certificate(), identity: identity, source: m.digest}, state, allow, now)
}

// examineIdentity judges a candidate by itself: its name and its chain.
func examineIdentity(c *SlotConfig, cand *candidate, state *trust.State, allow []string, now time.Time) (*candidate, *Refusal) {
	if r := checkFQDN(c, cand); r != nil {
		return nil, r
	}
	if r := cand.judge(state, now); r != nil && !slices.Contains(allow, r.Rule) {
		return nil, r
	}
	return cand, nil
}

// judge verifies our own chain and completes it from the bundle. Revocation is
// judged by what is known: a missing CRL is no reason to refuse our own certificate.
func (c *candidate) judge(state *trust.State, now time.Time) *Refusal {
	c.trust = state
	defer c.seal()
	if state == nil {
		return noTrust()
	}
	v, err := state.Verify(c.identity.Certificates(), trust.Request{Purpose: trust.AnyPurpose, Peers: trust.AnyName(), Revocation: ownRevocation(state), NameFromCN: true, Now: now})
	if err != nil {
		return chainRefusal(c.file, err)
	}
	have, want := c.identity.Chain(), v.Chain[1:max(1, len(v.Chain)-1)]
	if len(want) > len(have) && slices.EqualFunc(have, want[:len(have)], (*x509.Certificate).Equal) {
		c.identity = c.identity.WithChain(want)
	}
	return nil
}

func ownRevocation(state *trust.State) trust.Mode {
	if state.Revocation() == trust.Off {
		return trust.Off
	}
	return trust.Prefer
}

// seal computes what identifies the candidate's content.
func (c *candidate) seal() {
	h := sha256.New()
	c.notAfter = c.identity.Leaf().NotAfter
	for _, cert := range c.identity.Certificates() {
		writeChunk(h, cert.Raw)
		if cert.NotAfter.Before(c.notAfter) {
			c.notAfter = cert.NotAfter
		}
	}
	h.Sum(c.digest[:0])
}

func keyPermissions(c *SlotConfig, m *material) *Refusal {
	if c.AllowReadableKey {
		return nil
	}
	key := c.Files.Key
	if c.Files.PKCS12 != "" {
		key = c.Files.PKCS12
	}
	for _, path := range []string{key, c.Files.PasswordFile} {
		if mode, ok := m.mode[path]; ok && exposed(mode) {
			return &Refusal{Reason: reasonKeyReadable, Err: fmt.Errorf("read %q: its mode %#o lets %s", label(path), mode.Perm(), exposure(mode)),
				Advice: fmt.Sprintf("chmod o-rwx,g-w %q, then consider whether it is still secret; key_permissions: warn accepts it", path)}
		}
	}
	return nil
}

// exposed: others have any access, or the group may write.
func exposed(mode fs.FileMode) bool { return mode.Perm()&0o027 != 0 }

func exposure(mode fs.FileMode) string {
	if mode.Perm()&0o007 == 0 {
		return "its group write it"
	}
	return "others than owner and group at it"
}

func checkFQDN(c *SlotConfig, cand *candidate) *Refusal {
	if c.FQDN == "" {
		return nil
	}
	names, _ := cand.identity.Names()
	if slices.Contains(names, strings.ToLower(strings.TrimSuffix(c.FQDN, "."))) {
		return nil
	}
	advice := "put the right certificate there, or correct fqdn in the configuration"
	if c.Managed {
		advice = "import the certificate for that name, or ask the authority for one, or correct fqdn in the configuration"
	}
	return &Refusal{Reason: reasonFQDN, Err: fmt.Errorf("certificate %q is for %q, slot %q expects %q", cand.file, names, c.Name, c.FQDN), Advice: advice}
}

// leafDigest identifies a certificate whatever chain is with it.
func leafDigest(id *pki.Identity) [sha256.Size]byte { return sha256.Sum256(id.Leaf().Raw) }

func hexDigest(d [sha256.Size]byte) string { return hex.EncodeToString(d[:]) }
