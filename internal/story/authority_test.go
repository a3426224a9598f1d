package story

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"mime/quotedprintable"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spinecert/spinecert/internal/testpki"
)

func fingerprint(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.Raw) }

// signing is what an authority was asked for.
type signing struct {
	ca    string
	form  string
	name  string
	days  int
	from  time.Duration
	san   bool
	fresh bool
}

func readSigning(ts *testscript.TestScript, args []string) *signing {
	s := &signing{}
	flags := flag.NewFlagSet("authority", flag.ContinueOnError)
	flags.StringVar(&s.ca, "ca", "live", "live, int, or deep: below live, in no bundle")
	flags.StringVar(&s.form, "form", "pem", "pem, der, chain, p7 or mail")
	flags.StringVar(&s.name, "name", "", "another name than the one asked for")
	flags.IntVar(&s.days, "days", 365, "until it ends; below 0 it has ended")
	flags.DurationVar(&s.from, "from", 0, "until it begins")
	flags.BoolVar(&s.san, "san", false, "with the name as SAN too")
	flags.BoolVar(&s.fresh, "other-key", false, "on a key that nobody has a request for")
	ts.Check(flags.Parse(args))
	return s
}

func (s *signing) authority(w *world) *testpki.Authority {
	return map[string]*testpki.Authority{"live": w.sub, "int": w.other, "deep": w.deep}[s.ca]
}

func (s *signing) options(name string) []testpki.Option {
	const day = 24 * time.Hour
	now := time.Now()
	from, to := now.Add(-time.Minute), now.Add(time.Duration(s.days)*day)
	switch {
	case s.days < 0:
		from = to.Add(-day)
	case s.from != 0:
		from = now.Add(s.from)
	}
	options := []testpki.Option{testpki.Name(name), testpki.Validity(from, to)}
	if s.san {
		return append(options, testpki.DNS(name))
	}
	return append(options, testpki.NoSAN()) // as those of G1 (SPINE.md, 3)
}

// cmdAuthority answers a request: authority sign FILE OUT [FLAG]..., or makes what
// a slot with files has: authority issue NAME [FLAG]... Then SERIAL is that of the
// certificate.
func cmdAuthority(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	switch {
	case !neg && len(args) >= 3 && args[0] == "sign":
		s := readSigning(ts, args[3:])
		leaf := w.sign(ts, s, ts.ReadFile(args[1]))
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), s.dress(ts, leaf), 0o644))
	case !neg && len(args) >= 2 && args[0] == "issue":
		s := readSigning(ts, args[2:])
		leaf := s.authority(w).Issue(w.tb, append(s.options(providerName), testpki.KeyType("ecdsa-p256"))...)
		ts.Setenv("SERIAL", leaf.Cert.SerialNumber.Text(16))
		testpki.WriteFile(w.tb, ts.MkAbs(args[1]+".crt"), leaf.FullChainPEM(), 0o644)
		testpki.WriteFile(w.tb, ts.MkAbs(args[1]+".key"), leaf.KeyPEM(), 0o600)
	case !neg && len(args) >= 2 && args[0] == "crl":
		w.writeCRL(ts, args[1], args[2:])
	default:
		ts.Fatalf("usage: authority sign CSR OUT, authority issue NAME, authority crl OUT")
	}
}

// writeCRL writes a list: authority crl OUT [--ca live|int|root] [--pem] [--life D] [--from D] [--number N]
func (w *world) writeCRL(ts *testscript.TestScript, name string, args []string) {
	flags := flag.NewFlagSet("authority crl", flag.ContinueOnError)
	ca := flags.String("ca", "live", "live, int, or root: that of live")
	asPEM := flags.Bool("pem", false, "PEM, not DER")
	from := flags.Duration("from", -time.Hour, "until it begins")
	life := flags.Duration("life", 24*time.Hour, "until it ends")
	number := flags.Int64("number", 1, "of the list")
	ts.Check(flags.Parse(args))
	a := map[string]*testpki.Authority{"live": w.sub, "int": w.other, "root": w.sub.Root()}[*ca]
	now := time.Now()
	data := a.CRL(w.tb, testpki.ThisUpdate(now.Add(*from)), testpki.NextUpdate(now.Add(*life)), testpki.Number(*number))
	if *asPEM {
		data = testpki.EncodeCRL(data)
	}
	ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o644))
}

// sign makes a certificate for the request in text.
func (w *world) sign(ts *testscript.TestScript, s *signing, text string) *testpki.Leaf {
	const begin = "-----BEGIN CERTIFICATE REQUEST"
	_, rest, _ := strings.Cut(text, begin)
	block, _ := pem.Decode([]byte(begin + rest))
	if block == nil {
		ts.Fatalf("there is no request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	ts.Check(err)
	ts.Check(csr.CheckSignature())
	name := csr.Subject.CommonName
	if s.name != "" {
		name = s.name
	}
	options := s.options(name)
	if !s.fresh {
		options = append(options, testpki.Key(publicOnly{csr.PublicKey}))
	}
	leaf := s.authority(w).Issue(w.tb, options...)
	ts.Setenv("SERIAL", leaf.Cert.SerialNumber.Text(16))
	return leaf
}

// publicOnly stands for a key whose private half is elsewhere.
type publicOnly struct{ key crypto.PublicKey }

// Public implements crypto.Signer.
func (p publicOnly) Public() crypto.PublicKey { return p.key }

// Sign implements crypto.Signer.
func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the private key is elsewhere")
}

// dress gives an answer the form in which it comes.
func (s *signing) dress(ts *testscript.TestScript, leaf *testpki.Leaf) []byte {
	switch s.form {
	case "pem":
		return leaf.CertPEM()
	case "der":
		return leaf.Cert.Raw
	case "chain":
		return leaf.FullChainPEM()
	case "p7":
		cmd := exec.Command("openssl", "crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", "-outform", "DER")
		cmd.Stdin = bytes.NewReader(leaf.FullChainPEM())
		out, err := cmd.Output()
		ts.Check(err)
		return out
	case "mail":
		return mail(ts, leaf.CertPEM())
	}
	ts.Fatalf("--form %s: unknown", s.form)
	return nil
}

// mail is an answer as it is pasted: quoted, encoded as quoted-printable, and with
// the ends of lines that Windows writes.
func mail(ts *testscript.TestScript, cert []byte) []byte {
	var out bytes.Buffer
	out.WriteString("From: Deployment Issue and Resolution <dir@nhs.net>\r\nTo: Spine team <spine@trust.example>\r\nSubject: RE: certificate request\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=\"utf-8\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	body := quotedprintable.NewWriter(&out)
	text := "Hello,\n\nyour certificate is below – please keep it safe = secure.\n\n> " +
		strings.ReplaceAll(strings.TrimSpace(string(cert)), "\n", "\n> ") + "\n\nKind regards\nDIR team\n"
	_, err := io.WriteString(body, strings.ReplaceAll(text, "\n", "\r\n"))
	ts.Check(errors.Join(err, body.Close()))
	return out.Bytes()
}
