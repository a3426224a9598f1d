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
}

// stage parses and judges what was read. It is pure: the same material, trust
// and time give the same answer. current may be nil.
func stage(c *SlotConfig, m *material, state *trust.State, current *Generation, allow []string, now time.Time) (*candidate, *Refusal) {
	if r := keyPermissions(c, m); r != nil {
		return nil, r
	}
	identity, err := c.Files.identity(m)
	if err != nil {
		return nil, materialRefusal(err)
	}
	if r := checkFQDN(c, identity); r != nil {
		return nil, r
	}
	cand := &candidate{file: c.Files.certificate(), identity: identity, source: m.digest}
	if r := cand.judge(state, now); r != nil && !slices.Contains(allow, r.Rule) {
		return nil, r
	}
	if current != nil && cand.digest != current.digest {
		if r := guard(c, current, cand, allow); r != nil {
			return nil, r
		}
	}
	return cand, nil
}

// judge verifies our own chain and completes it from the bundle. Revocation is
// judged by what is known: a missing CRL is no reason to refuse our own certificate.
func (c *candidate) judge(state *trust.State, now time.Time) *Refusal {
	c.trust = state
	defer c.seal()
	if state == nil {
		return &Refusal{Reason: reasonNoTrust, Err: fmt.Errorf("the trust of its environment is not ready")}
	}
	presented := append([]*x509.Certificate{c.identity.Leaf()}, c.identity.Chain()...)
	v, err := state.Verify(presented, trust.Request{Purpose: trust.AnyPurpose, Peers: trust.AnyName(), Revocation: ownRevocation(state), NameFromCN: true, Now: now})
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
	for _, cert := range append([]*x509.Certificate{c.identity.Leaf()}, c.identity.Chain()...) {
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
			return &Refusal{Reason: reasonKeyReadable, Err: fmt.Errorf("read %q: its mode %#o lets %s", path, mode.Perm(), exposure(mode)),
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

func checkFQDN(c *SlotConfig, id *pki.Identity) *Refusal {
	if c.FQDN == "" {
		return nil
	}
	names, _ := id.Names()
	if slices.Contains(names, strings.ToLower(strings.TrimSuffix(c.FQDN, "."))) {
		return nil
	}
	return &Refusal{Reason: reasonFQDN, Err: fmt.Errorf("certificate %q is for %q, slot %q expects %q", c.Files.certificate(), names, c.Name, c.FQDN),
		Advice: "put the right certificate there, or correct fqdn in the configuration"}
}

// guard compares next with current: what must not happen by accident.
func guard(c *SlotConfig, current *Generation, next *candidate, allow []string) *Refusal {
	was, is := current.Identity.Leaf(), next.identity.Leaf()
	if is.NotBefore.Before(was.NotBefore) && !slices.Contains(allow, RuleOlder) {
		return &Refusal{Reason: RuleOlder, Rule: RuleOlder,
			Err:    fmt.Errorf("certificate %q starts on %s, before the one that serves (%s)", next.file, day(is.NotBefore), day(was.NotBefore)),
			Advice: fmt.Sprintf("if an older certificate is meant: spinecert rotate %s --allow older", c.Name)}
	}
	if lost := lostNames(current.Identity, next.identity); len(lost) > 0 && !slices.Contains(allow, RuleNames) {
		return &Refusal{Reason: RuleNames, Rule: RuleNames, Err: fmt.Errorf("certificate %q lacks the names %q, which the one that serves has", next.file, lost),
			Advice: fmt.Sprintf("if the names are meant to go: spinecert rotate %s --allow names", c.Name)}
	}
	return nil
}

// lostNames: a name that moves from CN to SAN is not lost, as pki.Names reads either.
func lostNames(was, is *pki.Identity) []string {
	have, _ := is.Names()
	had, _ := was.Names()
	var lost []string
	for _, n := range had {
		if !slices.Contains(have, n) {
			lost = append(lost, n)
		}
	}
	return lost
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func hexDigest(d [sha256.Size]byte) string { return hex.EncodeToString(d[:]) }
