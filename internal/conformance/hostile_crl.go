package main

import (
	"crypto/x509"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// Lists that lie, or say nothing of the certificate in question.
func listCases() []chainCase {
	past := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	sub := func(o ...testpki.CRLOption) func(*chain) { return func(c *chain) { c.ofList(o...) } }
	return []chainCase{
		{"a revoked leaf", trust.Revoked, nil, func(c *chain) { c.after(revokeLeaf()) }},
		{"a revoked subCA", trust.Revoked, nil, func(c *chain) { c.after(revokeSubCA) }},
		{"a leaf that another list took off again", trust.Revoked, nil, func(c *chain) { c.after(revokeBeside) }},
		{"a leaf with removeFromCRL in a complete list", trust.Revoked, nil, func(c *chain) {
			c.after(relist(func(c *chain) []testpki.CRLOption {
				return []testpki.CRLOption{testpki.RevokeWith(c.leaf.Cert.SerialNumber, past(time.Hour), 8)}
			}))
		}},
		{"the list of another issuer", trust.CRLInvalid, nil, func(c *chain) {
			c.after(listOf(func(c *chain) *testpki.Authority { return testpki.NewRoot(c.l, testpki.Name("Foreign")) }))
		}},
		{"the list of the other environment's CA of the same name", trust.CRLInvalid, nil, func(c *chain) {
			c.after(listOf(func(c *chain) *testpki.Authority {
				return testpki.NewRoot(c.l, testpki.RawSubject(c.sub.Cert.RawSubject))
			}))
		}},
		{"a list signed by the leaf, in the CA's name", trust.CRLInvalid, nil, func(c *chain) { c.after(signedByLeaf(true)) }},
		{"a list signed by the leaf, in its own name", trust.CRLInvalid, nil, func(c *chain) { c.after(signedByLeaf(false)) }},
		{"a list whose signature is spoiled", trust.CRLInvalid, nil, sub(testpki.BadCRLSignature())},
		{"a list signed with SHA-1", trust.WeakSignature, nil, sub(testpki.CRLSHA1())},
		{"a list of a CA that may not sign lists", trust.CRLInvalid, nil, func(c *chain) { c.ofSub(testpki.KeyUsage(x509.KeyUsageCertSign)) }},
		{"the partition of another leaf", trust.CRLUnavailable, nil, sub(testpki.IDP(otherList))},
		{"a list without a scope, from elsewhere", trust.CRLUnavailable, nil, func(c *chain) { c.ofList(testpki.NoIDP()); c.after(from(otherList)) }},
		{"a list for CAs only", trust.CRLUnavailable, nil, sub(testpki.IDPFlags(false, true, false, false))},
		{"a list for users only, of the root", trust.CRLUnavailable, nil, func(c *chain) { c.ofRoots(testpki.IDPFlags(true, false, false, false)) }},
		{"an indirect list", trust.CRLInvalid, nil, sub(testpki.IDPFlags(false, false, true, false))},
		{"a list for some reasons only", trust.CRLInvalid, nil, sub(testpki.IDPFlags(false, false, false, true))},
		{"a list for attribute certificates", trust.CRLInvalid, nil, sub(testpki.IDPOnlyAttribute())},
		{"a delta list", trust.CRLInvalid, nil, sub(testpki.Delta())},
		{"a list with an unknown critical extension", trust.CRLInvalid, nil, sub(testpki.CriticalCRLExtension(unknownOID))},
		{"an expired list, replayed", trust.CRLStale, nil, sub(testpki.ThisUpdate(past(48*time.Hour)), testpki.NextUpdate(past(time.Minute)))},
		{"a list past its grace", trust.CRLStale, func(c *chain) { c.config.Grace = time.Hour; c.ofList(testpki.ThisUpdate(past(48 * time.Hour))) },
			sub(testpki.NextUpdate(past(2 * time.Hour)))},
		{"a list that never ends", trust.CRLInvalid, nil, sub(testpki.NextUpdate(time.Time{}))},
		{"a list of tomorrow", trust.CRLInvalid, nil, sub(testpki.ThisUpdate(past(-24 * time.Hour)))},
		{"a list with something behind it", trust.Malformed, nil, func(c *chain) { c.after(func(c *chain) { c.lists[1].der = append(c.lists[1].der, 0) }) }},
		{"half a list", trust.Malformed, nil, func(c *chain) { c.after(func(c *chain) { c.lists[1].der = c.lists[1].der[:len(c.lists[1].der)/2] }) }},
		{"no list of the subCA", trust.CRLUnavailable, nil, func(c *chain) { c.after(func(c *chain) { c.lists = c.lists[:1] }) }},
		{"no list of the root", trust.CRLUnavailable, nil, func(c *chain) { c.after(func(c *chain) { c.lists = c.lists[1:] }) }},
		{"neither list nor address", trust.NoCRLAddress, nil, func(c *chain) { c.ofLeaf(testpki.CDP()); c.after(func(c *chain) { c.lists = c.lists[:1] }) }},
		{"the list of a CA of the same name under another root", trust.CRLUnavailable, nil, func(c *chain) { c.before(namesake) }},
		{"a list by a new key of the CA, which was revoked", trust.CRLUnavailable, func(c *chain) { c.before(newKey(false)) }, func(c *chain) { c.before(revokeNewKey) }},
		{"a leaf on the list by a new key of the CA", trust.Revoked, func(c *chain) { c.before(newKey(false)) }, func(c *chain) { c.after(revokeByNewKey) }},
		{"a list by a new key of the CA, which has expired", trust.CRLUnavailable, func(c *chain) { c.before(newKey(false)) }, func(c *chain) { c.before(newKey(true)) }},
	}
}

// relist makes the list of the subCA anew.
func relist(more func(*chain) []testpki.CRLOption) func(*chain) {
	return func(c *chain) {
		c.lists[1].der = c.sub.CRL(c.l, append([]testpki.CRLOption{testpki.IDP(subList)}, more(c)...)...)
	}
}

func revokeLeaf() func(*chain) {
	return relist(func(c *chain) []testpki.CRLOption {
		return []testpki.CRLOption{testpki.Revoke(c.leaf.Cert.SerialNumber)}
	})
}

func revokeSubCA(c *chain) {
	c.lists[0].der = c.root.CRL(c.l, testpki.IDP(rootList), testpki.Revoke(c.sub.Cert.SerialNumber))
}

// revokeBeside has an older list of another partition name the leaf.
func revokeBeside(c *chain) {
	older := c.sub.CRL(c.l, testpki.IDP(otherList), testpki.ThisUpdate(time.Now().Add(-3*time.Hour)), testpki.Revoke(c.leaf.Cert.SerialNumber))
	c.lists = append(c.lists, list{older, otherList})
}

// listOf puts the list of another CA in the place of the subCA's.
func listOf(other func(*chain) *testpki.Authority) func(*chain) {
	return func(c *chain) { c.lists[1].der = other(c).CRL(c.l, testpki.IDP(subList)) }
}

func signedByLeaf(inTheCAsName bool) func(*chain) {
	return func(c *chain) {
		by := &testpki.Authority{Cert: c.leaf.Cert, Key: c.leaf.Key}
		if inTheCAsName {
			by.Cert = c.sub.Cert
		}
		c.lists[1].der = by.CRL(c.l, testpki.IDP(subList))
	}
}

func from(origin string) func(*chain) { return func(c *chain) { c.lists[1].origin = origin } }

// namesake trusts another root, below which a CA has the subCA's name, and takes the list of that one.
func namesake(c *chain) {
	other := testpki.NewRoot(c.l, testpki.Name("Other Root"))
	same := other.SubCA(c.l, testpki.RawSubject(c.sub.Cert.RawSubject))
	c.bundle = append(c.bundle, other.Cert, same.Cert)
	c.after(func(c *chain) { c.lists[1].der = same.CRL(c.l, testpki.IDP(subList)) })
}

// newKey has the subCA sign its list with a new key, certified by the root.
func newKey(expired bool) func(*chain) {
	return func(c *chain) {
		o := []testpki.Option{testpki.RawSubject(c.sub.Cert.RawSubject), testpki.CDP(rootList)}
		if expired {
			o = append(o, testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)))
		}
		next := c.root.SubCA(c.l, o...)
		c.bundle = append(c.bundle[:2:2], next.Cert)
		c.after(func(c *chain) { c.lists[1].der = next.CRL(c.l, testpki.IDP(subList)) })
	}
}

func revokeNewKey(c *chain) {
	c.after(func(c *chain) {
		c.lists[0].der = c.root.CRL(c.l, testpki.IDP(rootList), testpki.Revoke(c.bundle[2].SerialNumber))
	})
}

// revokeByNewKey has the old key's list be good, and the new key's name the leaf.
func revokeByNewKey(c *chain) {
	next := c.root.SubCA(c.l, testpki.RawSubject(c.sub.Cert.RawSubject), testpki.CDP(rootList))
	c.bundle = append(c.bundle, next.Cert)
	c.lists = append(c.lists, list{next.CRL(c.l, testpki.IDP(otherList), testpki.Revoke(c.leaf.Cert.SerialNumber)), otherList})
}
