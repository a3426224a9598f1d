package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spinecert/spinecert/pki"
)

// show writes the facts of each file.
func (r *inspectResult) show(p *page) {
	for i := range r.Files {
		f := &r.Files[i]
		if f.Error != "" && f.empty() && len(f.Unknown) == 0 {
			continue // stderr says what is wrong with it, and that is all there is
		}
		p.blank()
		f.show(p)
	}
}

func (f *fileFacts) show(p *page) {
	p.line("%s: %s", f.File, f.summary())
	if f.Chain != nil {
		f.Chain.show(p)
	}
	for i := range f.Certificates {
		f.Certificates[i].show(p, i+1, f.now)
	}
	for i, k := range f.Keys {
		p.line("  private key %d", i+1)
		fits := "no certificate of this file"
		if len(k.Fits) > 0 {
			fits = "certificate " + positions(k.Fits)
		}
		p.fact(4, "key", k.Key)
		p.fact(4, "key sha256", k.KeySHA256)
		p.fact(4, "fits", fits)
	}
	for i, r := range f.Requests {
		p.line("  request %d", i+1)
		p.fact(4, "id", r.ID)
		p.fact(4, "subject", r.Subject)
		p.fact(4, "names", r.Names...)
		p.fact(4, "key", r.Key)
		p.fact(4, "key sha256", r.KeySHA256)
		p.fact(4, "signature", r.Signature)
		showLint(p, r.Lint)
	}
	for i, c := range f.CRLs {
		c.show(p, i+1)
	}
	for _, w := range f.Warnings {
		p.line("  warning: %s", w.Message)
	}
}

// summary is one line that says what the file is.
func (f *fileFacts) summary() string {
	var holds []string
	for _, part := range []struct {
		n    int
		noun string
	}{{len(f.Certificates), "certificate"}, {len(f.Keys), "private key"}, {len(f.Requests), "request"}, {len(f.CRLs), "CRL"}} {
		if part.n > 0 {
			holds = append(holds, count(part.n, part.noun))
		}
	}
	what := strings.Join(holds, ", ")
	if what == "" {
		what = "nothing that is understood"
	}
	switch f.Form {
	case pki.FormPEM, pki.FormDER:
		return strings.ToUpper(string(f.Form)) + ", " + what
	case pki.FormPKCS7:
		return "PKCS#7, " + what
	case pki.FormPKCS12:
		return "PKCS#12, " + what
	}
	return what
}

func (f *chainFacts) show(p *page) {
	var text string
	switch {
	case f.Kind == kindBundle:
		text = "CA certificates only: a trust bundle, whose order does not matter"
	case f.Kind == kindSeveral:
		text = "more than one leaf: no chain"
	case len(f.Order) == 1 && f.LeafFirst:
		text = "the leaf alone"
	case f.Ordered:
		text = "leaf first, in the order of signing"
	case f.LeafFirst:
		text = "leaf first, but then in the wrong order; right is " + positions(f.Order)
	default:
		text = "wrong order, the leaf is not first; right is " + positions(f.Order)
	}
	p.fact(2, "order", text)
	switch {
	case f.Complete && f.Kind == kindChain:
		p.fact(2, "complete", "up to its root")
	case f.Complete:
		p.fact(2, "complete", "every issuer is in the file")
	case f.Kind == kindChain && len(f.Order) > 1:
		p.fact(2, "complete", "up to "+strings.Join(f.Missing, "; ")+", which is not in the file; a root need not be sent")
	default:
		p.fact(2, "missing issuer", f.Missing...)
	}
}

func (c *certificateFacts) show(p *page, position int, now time.Time) {
	p.line("  certificate %d: %s", position, map[string]string{roleRoot: "root", roleSubCA: "subCA", roleLeaf: "leaf"}[c.Role])
	p.fact(4, "subject", c.Subject)
	p.fact(4, "issuer", c.Issuer)
	p.fact(4, "known", c.Known.String())
	p.fact(4, "names", c.namesText()...)
	p.fact(4, "valid", fmt.Sprintf("%s to %s, %s", stamp(c.NotBefore), stamp(c.NotAfter), c.validityText(now)))
	p.fact(4, "serial", c.Serial)
	p.fact(4, "key", c.Key)
	p.fact(4, "signature", c.SignatureAlgorithm)
	p.fact(4, "key usage", strings.Join(c.KeyUsage, ", "))
	p.fact(4, "purposes", strings.Join(c.ExtKeyUsage, ", "))
	if c.CA {
		length := "CA, no limit on the length of the path"
		if c.PathLength != nil {
			length = fmt.Sprintf("CA, path length %d", *c.PathLength)
		}
		p.fact(4, "constraints", length)
	}
	p.fact(4, "crl", c.CRLAddresses...)
	p.fact(4, "ocsp", c.OCSP...)
	p.fact(4, "sha256", c.SHA256)
	p.fact(4, "key sha256", c.KeySHA256)
	showLint(p, c.Lint)
}

func (c *certificateFacts) namesText() []string {
	var out []string
	for _, name := range c.Names {
		if c.NameSource == pki.NameFromCN {
			name += " (from the CN: there is no SAN)"
		}
		out = append(out, name)
	}
	return append(out, c.OtherNames...)
}

func (c *certificateFacts) validityText(now time.Time) string {
	if now.Before(c.NotBefore) {
		return "not valid yet"
	}
	return remaining(c.NotAfter, now)
}

func (c *crlFacts) show(p *page, position int) {
	p.line("  CRL %d", position)
	if c.Error != "" {
		p.fact(4, "error", c.Error)
		return
	}
	p.fact(4, "issuer", c.Issuer)
	p.fact(4, "issued", stamp(c.ThisUpdate))
	p.fact(4, "next update", stamp(c.NextUpdate))
	p.fact(4, "number", c.Number)
	p.fact(4, "entries", fmt.Sprint(c.Entries))
	p.fact(4, "signature", c.SignatureAlgorithm)
	p.fact(4, "authority key", c.AuthorityKeyID)
	if !c.SaysCover {
		p.fact(4, "covers", "does not say; in crl.files, name its file as its address ends")
	}
}
