package prove

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/pki"
)

// Want is what a service must serve.
type Want struct {
	// Chain must be served in this order, the leaf first. Empty: any certificate will
	// do, as the service has one of its own and was given trust and CRLs alone.
	Chain []*x509.Certificate
	// Others may be served after it besides: CAs of the environment, and of the identity.
	Others []*x509.Certificate
	// Identity is shown to a service that asks for a certificate; nil shows none. It need
	// not be that of Chain: what was served before is proved again with what there is now.
	Identity *pki.Identity
	// MayRefuse says that a service which asks for a certificate may refuse us: what it
	// has shown by then counts.
	MayRefuse bool
}

// Match returns nil if what was seen is what is wanted: want.Chain in its order, then
// nothing but want.Others, at every address. Else the error is a *failure.Error:
// wrong_certificate or wrong_chain.
func Match(seen Seen, want Want) error {
	_, err := judge(seen, want)
	return err
}

// judge is Match, and returns with its error what was seen at the address that it is of.
func judge(seen Seen, want Want) (Seen, error) {
	if err := match(seen, want); err != nil {
		return seen, err
	}
	for _, other := range seen.also {
		if err := match(other, want); err != nil {
			return other, err
		}
	}
	return seen, nil
}

// match judges one address.
func match(seen Seen, want Want) error {
	if len(want.Chain) == 0 {
		return nil
	}
	leaf, own := want.Chain[0], want.Chain[1:]
	if len(seen.Chain) == 0 {
		return failure.New(failure.WrongCertificate, "is the protocol of the probe right?", "look at %s: it serves no certificate, and not %s", at(seen), describe(leaf))
	}
	if !seen.Chain[0].Equal(leaf) {
		return failure.New(failure.WrongCertificate, "did it read its files again? Do its settings name the delivered ones, for this server name?",
			"look at %s: it serves %s, and not %s", at(seen), describe(seen.Chain[0]), describe(leaf))
	}
	rest := seen.Chain[1:]
	for i, c := range own {
		if i < len(rest) && rest[i].Equal(c) {
			continue
		}
		return failure.New(failure.WrongChain, "is the file it is set to one with the chain, such as the format fullchain?",
			"look at %s: it serves the certificate without %s in place %d of the chain%s", at(seen), describe(c), i+1, instead(rest, i))
	}
	for _, c := range rest[len(own):] {
		if !slices.ContainsFunc(want.Others, c.Equal) {
			return failure.New(failure.WrongChain, "take it out of the file with the chain, if the service has another than the delivered one",
				"look at %s: it still serves %s, which was not delivered", at(seen), describe(c))
		}
	}
	return nil
}

// instead says what stands where another certificate belongs.
func instead(rest []*x509.Certificate, i int) string {
	if i >= len(rest) {
		return ", and nothing there"
	}
	return ", but " + describe(rest[i])
}

// at names what was looked at.
func at(seen Seen) string {
	if seen.ServerName == "" {
		return seen.Address
	}
	return seen.Address + " (" + seen.ServerName + ")"
}

// describe names a certificate so that two of the same name differ.
func describe(c *x509.Certificate) string {
	serial := c.SerialNumber.Text(16)
	const most = 40 // 20 bytes, RFC 5280, Section 4.1.2.2; a service may show anything
	if len(serial) > most {
		serial = serial[:most] + "..."
	}
	return fmt.Sprintf("%s (serial %s, until %s)", pki.QuoteName(c.Subject), serial, c.NotAfter.UTC().Format(time.RFC3339))
}
