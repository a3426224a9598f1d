package cli

import (
	"crypto/x509"
	"slices"

	"github.com/spinecert/spinecert/trust"
)

// withoutStaple judges the certificates of a file where a stapled OCSP response is
// demanded of servers. A file has none, and is not refused for that: the verdict is
// the one on all the rest, and a note says so. It takes and returns the verdict on the
// chain as if it had come from a server.
func (v *verification) withoutStaple(s *trust.State, chain []*x509.Certificate, verdict trust.Verdict, err error, r *verifyResult) (trust.Verdict, error) {
	if v.request.Purpose == trust.ClientAuth {
		return verdict, err
	}
	// Everything but revocation, then everything but the purpose: if both hold of the
	// same path, only the staple is left that a server would be refused for.
	server := v.request
	server.Purpose = trust.ServerAuth
	if _, refused := s.Verify(chain, server); refused == nil {
		return verdict, err
	}
	server.Revocation = trust.Off
	unrevoked := v.request
	unrevoked.Purpose = trust.AnyPurpose
	a, errA := s.Verify(chain, server)
	b, errB := s.Verify(chain, unrevoked)
	if errA != nil || errB != nil || !slices.EqualFunc(a.Chain, b.Chain, (*x509.Certificate).Equal) {
		return verdict, err
	}
	r.Notes = append(r.Notes, "a server must staple an OCSP response to this certificate, and a file has none: judge the server itself, HOST:PORT")
	return b, nil
}
