package trust

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"time"
)

// explainChecks bounds the signature checks that a reason may cost. They may be
// by keys of the peer's making, before it has proved anything.
const explainChecks = 12

// explain finds the one reason for a refusal that crypto/x509 gave. It decides
// nothing: whatever it finds, the chain stays refused.
func (s *State) explain(presented []*x509.Certificate, r Request, cause error) error {
	w := walker{budget: explainChecks, now: r.Now}
	for _, c := range s.config.Bundle.SubCAs() {
		w.pool = append(w.pool, candidate{c, false})
	}
	for _, c := range s.config.Bundle.Roots() {
		w.pool = append(w.pool, candidate{c, true})
	}
	for _, c := range presented[1:] {
		if !s.config.Bundle.Holds(c) {
			w.pool = append(w.pool, candidate{c, false})
		}
	}
	w.walk([]*x509.Certificate{presented[0]})
	if w.best != nil {
		if err := pathProblem(w.best, r.Now); err != nil {
			err.Err = cause
			return err
		}
		return fromX509(presented[0], r, cause)
	}
	return s.explainNoPath(&w, cause)
}

type candidate struct {
	cert *x509.Certificate
	root bool
}

// walker looks for any path of good signatures to a root, whatever else is
// wrong with it: dates, algorithms, constraints.
type walker struct {
	pool   []candidate
	budget int // signature checks that may still be made
	now    time.Time

	best    []*x509.Certificate // the complete path with the fewest problems
	score   int
	longest []*x509.Certificate // where the search got to without a root
	badSigs []*x509.Certificate // whose claimed issuer is here, but did not sign them
}

func (w *walker) walk(path []*x509.Certificate) {
	last := path[len(path)-1]
	if len(path) > len(w.longest) {
		w.longest = append([]*x509.Certificate(nil), path...)
	}
	if len(path) > 8 {
		return
	}
	for _, cand := range w.pool {
		if w.budget == 0 {
			return
		}
		if !bytes.Equal(last.RawIssuer, cand.cert.RawSubject) || contains(path, cand.cert) || tooLarge(cand.cert) {
			continue
		}
		w.budget--
		// CheckSignature, not CheckSignatureFrom: it also answers for SHA-1 and
		// for an issuer that may not issue, which get reasons of their own.
		err := cand.cert.CheckSignature(last.SignatureAlgorithm, last.RawTBSCertificate, last.Signature)
		if err != nil && !unverifiable(err) {
			w.badSigs = append(w.badSigs, last)
			continue
		}
		next := append(append([]*x509.Certificate(nil), path...), cand.cert)
		if !cand.root {
			w.walk(next)
			continue
		}
		if n := problems(next, w.now); w.best == nil || n < w.score {
			w.best, w.score = next, n
		}
	}
}

// unverifiable reports whether a signature was not looked at, as its algorithm
// is MD5 or not known: the path is followed, to say that this is what is wrong.
func unverifiable(err error) bool {
	var insecure x509.InsecureAlgorithmError
	return errors.As(err, &insecure) || errors.Is(err, x509.ErrUnsupportedAlgorithm)
}

// tooLarge reports a key that takes too long to verify with.
func tooLarge(c *x509.Certificate) bool {
	k, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && k.N.BitLen() > maxRSABits
}

func contains(path []*x509.Certificate, c *x509.Certificate) bool {
	for _, p := range path {
		if bytes.Equal(p.Raw, c.Raw) {
			return true
		}
	}
	return false
}

func problems(path []*x509.Certificate, now time.Time) int {
	n := 0
	for i := range path {
		if certProblem(path, i, now) != nil {
			n++
		}
	}
	return n
}

func pathProblem(path []*x509.Certificate, now time.Time) *VerifyError {
	for i := range path {
		if err := certProblem(path, i, now); err != nil {
			return err
		}
	}
	return nil
}

// certProblem finds what is wrong with one certificate of a complete path.
func certProblem(path []*x509.Certificate, i int, now time.Time) *VerifyError {
	c := path[i]
	switch {
	case i < len(path)-1 && weakSignature(c):
		return refuse(WeakSignature, c, "%s is signed with %s", describe(c), algorithmName(c))
	case i > 0 && (!c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0):
		return refuse(PathLength, c, "%s issued a certificate but is not a CA", describe(c))
	case len(c.UnhandledCriticalExtensions) > 0:
		return refuse(CriticalExtension, c, "%s has the critical extension %s, which is not understood", describe(c), c.UnhandledCriticalExtensions[0])
	case i > 0 && c.MaxPathLen >= 0 && i-1 > c.MaxPathLen:
		return refuse(PathLength, c, "%s has %d CAs below it and permits %d", describe(c), i-1, c.MaxPathLen)
	case now.After(c.NotAfter):
		return refuse(Expired, c, "%s expired on %s", describe(c), stamp(c.NotAfter))
	case c.NotBefore.After(now.Add(tolerance)):
		return refuse(NotYetValid, c, "%s is not valid before %s", describe(c), stamp(c.NotBefore))
	}
	if err := weakKey(c); err != nil {
		var v *VerifyError
		if errors.As(err, &v) {
			return v
		}
	}
	return nil
}

func (s *State) explainNoPath(w *walker, cause error) error {
	top := w.longest[len(w.longest)-1]
	if contains(w.badSigs, top) {
		e := refuse(BadSignature, top, "the signature of %s does not verify with the key of its issuer %s", describe(top), issuerName(top))
		e.Err = cause
		return e
	}
	if k, ok := knownIssuer(top); ok && len(s.environments) > 0 && !s.environments[k.Environment] {
		e := refuse(WrongEnvironment, top, "%s was issued by %q of the NHS %s PKI, which is not in the bundle of this environment", describe(top), k.Name, k.Environment)
		e.Err = cause
		return e
	}
	if k, ok := Known(top); ok && len(s.environments) > 0 && !s.environments[k.Environment] {
		e := refuse(WrongEnvironment, top, "the chain ends at %q of the NHS %s PKI, which is not in the bundle of this environment", k.Name, k.Environment)
		e.Err = cause
		return e
	}
	var e *VerifyError
	if bytes.Equal(top.RawIssuer, top.RawSubject) {
		e = refuse(UnknownIssuer, top, "%s is self-signed and not a root of this environment", describe(top))
	} else {
		e = refuse(UnknownIssuer, top, "the issuer %s of %s is neither in the bundle nor presented", issuerName(top), describe(top))
	}
	e.Err = cause
	return e
}

// fromX509 gives the reason for what only crypto/x509 judges: path length, name
// constraints and extended key usage.
func fromX509(leaf *x509.Certificate, r Request, cause error) error {
	e := refuse(UnknownIssuer, leaf, "no acceptable path to a root: %s", clip(cause.Error()))
	var invalid x509.CertificateInvalidError
	if errors.As(cause, &invalid) {
		c := invalid.Cert
		switch invalid.Reason {
		case x509.IncompatibleUsage:
			e = refuse(WrongPurpose, leaf, "%s may not be used as a TLS %s", describe(leaf), r.Purpose)
		case x509.TooManyIntermediates:
			e = refuse(PathLength, c, "too many CAs below %s", describe(c))
		case x509.NotAuthorizedToSign:
			e = refuse(PathLength, c, "%s issued a certificate but is not a CA", describe(c))
		case x509.CANotAuthorizedForThisName, x509.UnconstrainedName, x509.TooManyConstraints, x509.NameConstraintsWithoutSANs:
			e = refuse(NameConstraint, leaf, "a CA of the path may not certify the names of %s", describe(leaf))
		case x509.CANotAuthorizedForExtKeyUsage:
			e = refuse(WrongPurpose, leaf, "a CA of the path may not certify a TLS %s", r.Purpose)
		case x509.Expired:
			e = refuse(Expired, c, "%s is not valid at %s", describe(c), stamp(r.Now))
		}
	}
	e.Err = cause
	return e
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
