package anchor

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// refuse is an error of something that was examined and judged bad.
func refuse(hint, format string, args ...any) *admin.Error {
	return &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Judge reads and judges what is to be added, and returns the certificates that
// are new. Where r names fingerprints, they must be those of exactly what there
// is to add, or of what the environment has already. The result is valid for what
// it says, and not Done. The error is an [*admin.Error] with CodeRefused.
func (v View) Judge(r admin.TrustAddRequest) ([]*x509.Certificate, admin.TrustAddResult, error) {
	out := admin.TrustAddResult{Environment: v.Environment, Added: []admin.TrustCA{}, Already: []admin.TrustCA{}, Notes: []string{}}
	answer := &enrol.Answer{}
	for _, f := range r.Files {
		if err := answer.Read(f.Name, f.Data, nil); err != nil {
			return nil, out, refuse(pki.Hint(err), "%v", err)
		}
	}
	if len(answer.Keys) > 0 {
		return nil, out, refuse("a trust file holds CA certificates only; move the key away and see who could read it", "there is a private key in the files")
	}
	var certs []*x509.Certificate
	for _, p := range answer.Certificates {
		certs = append(certs, p.Certificate)
	}
	add, have, notes, err := v.Addition(certs)
	if err != nil {
		return nil, out, refuse("add the CA certificates of this environment, root and subCA together", "%v", err)
	}
	out.Notes = append(append(out.Notes, notes...), answer.Passed()...)
	paths := v.paths(v.Bundle)
	for _, c := range add {
		out.Added = append(out.Added, v.describe(c, "", nil))
	}
	for _, c := range have {
		out.Already = append(out.Already, v.describe(c, v.Bundle.File(c), paths))
	}
	if len(r.SHA256) == 0 {
		return add, out, nil
	}
	return add, out, confirmed(add, certs, r.SHA256)
}

// confirmed compares what there is with the fingerprints that somebody named.
func confirmed(add, all []*x509.Certificate, sums []string) error {
	for _, c := range add {
		if sum := pki.Fingerprint(c); !slices.Contains(sums, sum) {
			return refuse("compare it with the one that its authority publishes, and confirm each with --sha256",
				"%q has the SHA-256 %s, which was not confirmed", c.Subject.String(), sum)
		}
	}
	for _, sum := range sums {
		if !slices.ContainsFunc(all, func(c *x509.Certificate) bool { return pki.Fingerprint(c) == sum }) {
			return refuse("is it the right file? Without --sha256 the fingerprints are shown", "no certificate in the files has the SHA-256 %q", sum)
		}
	}
	return nil
}

// Addition sorts CA certificates that are to be added: those that are new and
// those that the bundle has. Notes are for who decides. The error says which of
// them cannot be an anchor of this environment.
func (v View) Addition(certs []*x509.Certificate) (add, have []*x509.Certificate, notes []string, err error) {
	var errs []error
	for _, c := range certs {
		switch {
		case holds(v.Bundle, c):
			have = append(have, c)
		case !c.IsCA:
			errs = append(errs, fmt.Errorf("%q is no CA", c.Subject.String()))
		case v.Now.After(c.NotAfter):
			errs = append(errs, fmt.Errorf("%q expired on %s", c.Subject.String(), c.NotAfter.UTC().Format(time.DateOnly)))
		default:
			add = append(add, c)
		}
	}
	if len(certs) == 0 {
		errs = append(errs, errors.New("there is no certificate in the files"))
	}
	all := slices.Concat(v.Bundle.Certificates(), add)
	for _, c := range add {
		if len(signers(c, all)) == 0 {
			errs = append(errs, fmt.Errorf("%q was issued by %q, which is neither in the environment nor among the files", c.Subject.String(), c.Issuer.String()))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, have, nil, err
	}
	// Once it is kept it is read with the rest at every look: what a bundle refuses
	// must not get that far.
	var sources []trust.Source
	for _, c := range all {
		sources = append(sources, trust.Source{Data: c.Raw})
	}
	if _, err := trust.ParseBundle(sources...); err != nil {
		return nil, have, nil, err
	}
	return add, have, v.remarks(add), nil
}

// remarks notes CAs that the program knows to be of another world than those
// that are in force, and those that it does not know.
func (v View) remarks(add []*x509.Certificate) []string {
	var notes []string
	have, come := worlds(v.Bundle.Certificates()), worlds(add)
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(have, come))))
	switch {
	case len(all) < 2 || len(come) == 0:
	case len(have) == 1 && len(come) == 1:
		notes = append(notes, fmt.Sprintf("environment %s holds CAs of %s, and these are of %s: peers of both would be accepted. Is this the right environment?",
			v.Environment, have[0], come[0]))
	case len(have) < 2:
		notes = append(notes, fmt.Sprintf("the files hold CAs of %s: peers of both would be accepted in environment %s. Are these the right files?",
			strings.Join(come, " and of "), v.Environment))
	}
	for _, c := range add {
		if known(c) == "" {
			notes = append(notes, fmt.Sprintf("%q is none of the NHS CAs that the program knows: compare its fingerprint with the one that its authority publishes", c.Subject.String()))
		}
	}
	return notes
}

// worlds names what the known CAs among certs belong to: chains of live and path
// to live are disjoint (SPINE.md, 1).
func worlds(certs []*x509.Certificate) []string {
	var out []string
	for _, c := range certs {
		k, ok := trust.Known(c)
		if !ok {
			continue
		}
		world := "path to live"
		if k.Environment == "live" {
			world = "live"
		}
		if !slices.Contains(out, world) {
			out = append(out, world)
		}
	}
	return out
}
