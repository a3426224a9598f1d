package pki_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

func TestParseCertificatesForms(t *testing.T) {
	dir, leaf, _ := material(t)
	openssl(t, dir, "x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.der")
	openssl(t, dir, "x509", "-in", "leaf.pem", "-text", "-out", "text.pem")
	openssl(t, dir, "x509", "-in", "leaf.pem", "-trustout", "-addtrust", "serverAuth", "-out", "trusted.pem")
	openssl(t, dir, "crl2pkcs7", "-nocrl", "-certfile", "full.pem", "-out", "p7.pem")
	openssl(t, dir, "crl2pkcs7", "-nocrl", "-certfile", "full.pem", "-outform", "DER", "-out", "p7.der")
	full := leaf.FullChainPEM()
	label := func(data []byte, from, to string) []byte {
		return bytes.ReplaceAll(data, []byte(from+dashes), []byte(to+dashes))
	}
	tests := map[string]struct {
		data []byte
		n    int
	}{
		"good pem":            {full, 2},
		"good crlf":           {bytes.ReplaceAll(full, []byte("\n"), []byte("\r\n")), 2},
		"good cr":             {bytes.ReplaceAll(full, []byte("\n"), []byte("\r")), 2},
		"good bom":            {slices.Concat([]byte("\xef\xbb\xbf"), leaf.CertPEM(), []byte("\xef\xbb\xbf"), leaf.ChainPEM()), 2},
		"good indented":       {bytes.ReplaceAll(full, []byte("\n"), []byte("\n    ")), 2},
		"good no newline":     {slices.Concat(bytes.TrimSpace(leaf.CertPEM()), leaf.ChainPEM()), 2},
		"good one line":       {bytes.ReplaceAll(leaf.CertPEM(), []byte("\n"), nil), 1},
		"good text":           {read(t, dir, "text.pem"), 1},
		"good mail":           {slices.Concat([]byte("Dear all,\n----\nhere: -----BEGIN X\n\n"), full, []byte("\n-- \nDIR\n-----------\n")), 2},
		"good signed mail":    {slices.Concat([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n"), full, []byte("-----BEGIN PGP SIGNATURE-----\n\nabc=\n=abcd\n-----END PGP SIGNATURE-----\n")), 2},
		"good trusted":        {read(t, dir, "trusted.pem"), 1},
		"good old label":      {label(full, "CERTIFICATE", "X509 CERTIFICATE"), 2},
		"good with key":       {slices.Concat(leaf.KeyPEM(), full), 2},
		"good der":            {read(t, dir, "leaf.der"), 1},
		"good der twice":      {slices.Concat(leaf.Cert.Raw, leaf.Chain[0].Raw), 2},
		"good pkcs7 pem":      {read(t, dir, "p7.pem"), 2},
		"good pkcs7 der":      {read(t, dir, "p7.der"), 2},
		"good pkcs7 as cert":  {label(read(t, dir, "p7.pem"), "PKCS7", "CERTIFICATE"), 2},
		"good pkcs7 with pem": {slices.Concat(read(t, dir, "p7.pem"), full), 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			certs, err := pki.ParseCertificates(tt.data)
			if err != nil {
				t.Fatal(err)
			}
			if len(certs) != tt.n {
				t.Fatalf("%d certificates, want %d", len(certs), tt.n)
			}
			if !slices.ContainsFunc(certs, leaf.Cert.Equal) {
				t.Error("the leaf is not among them")
			}
		})
	}
}

const dashes = "-----"

func TestParseCertificatesRefusals(t *testing.T) {
	leaf := testpki.NewRoot(t).SubCA(t).Issue(t)
	one := string(leaf.CertPEM())
	lines := strings.SplitAfter(one, "\n")
	der := leaf.Cert.Raw
	block := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	tests := map[string]struct {
		data       string
		want       string
		incoherent bool
	}{
		"bad empty":         {"", "is empty", true},
		"bad text":          {"0123 hello", "holds neither", true},
		"bad no end":        {strings.Join(lines[:4], ""), "has no END line", true},
		"bad second no end": {one + strings.Join(lines[:4], ""), "line " + itoa(len(lines)) + " has no END line", true},
		"bad no end, next":  {strings.Join(lines[:4], "") + one, "has no END line", true},
		"bad no begin":      {strings.Join(lines[2:], ""), "does not begin", true},
		"bad begin cut":     {one + "-----BEGIN CERTI", "not a whole PEM BEGIN line", true},
		"bad begin cut 2":   {one + "-----BEG", "ends inside", true},
		"bad end cut":       {one[:len(one)-4], "incomplete END line", true},
		"bad end other":     {strings.Replace(one, "END CERTIFICATE", "END PKCS7", 1), "another or an incomplete END", true},
		"bad base64 cut":    {strings.Join(slices.Delete(slices.Clone(lines), 3, 5), ""), "truncated", true},
		"bad base64":        {strings.Replace(one, lines[2], "!!!!\n", 1), "broken or cut base64", true},
		"bad no content":    {"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "broken or cut base64", true},
		"bad der cut":       {string(der[:len(der)-1]), "truncated", true},
		"bad der header":    {string(der[:3]), "truncated", true},
		"bad key alone":     {string(leaf.KeyPEM()), "no certificate found, but a private key", true},
		"bad unknown alone": {"-----BEGIN WHATEVER-----\nAAAA\n-----END WHATEVER-----\n", `but a PEM block "WHATEVER"`, true},
		"bad label":         {strings.ReplaceAll(one, "CERTIFICATE", "x y"), "not a whole PEM BEGIN line", true},
		"bad trailing":      {string(der) + "x", "trailing data", false},
		"bad in block":      {block(append(slices.Clone(der), 'x')), "trailing data", false},
		"bad content":       {block([]byte{0x30, 3, 2, 1, 5}), "holds neither", false},
		"bad der":           {"\x30\x03\x02\x01\x05", "neither a certificate nor a key", false},
		"bad ber":           {"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", "indefinite length", false},
		"bad certificate":   {block(spoil(der)), "malformed", false},
		"bad utf-16":        {"\xff\xfe-\x00-\x00", "UTF-16", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := pki.ParseCertificates([]byte(tt.data))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if !strings.HasPrefix(err.Error(), "read certificate: ") {
				t.Errorf("error does not say what was read: %v", err)
			}
			if errors.Is(err, pki.ErrIncoherent) != tt.incoherent {
				t.Errorf("incoherent is %v, want %v: %v", !tt.incoherent, tt.incoherent, err)
			}
		})
	}
}

// spoil makes the version of a certificate one that does not exist.
func spoil(der []byte) []byte {
	i := bytes.Index(der, []byte{0xA0, 3, 2, 1, 2})
	out := slices.Clone(der)
	out[i+4] = 9
	return out
}

// A writer may stop anywhere: what is there is then less, or an error that waiting
// mends, and nothing else.
func TestEveryPrefix(t *testing.T) {
	leaf := testpki.NewRoot(t).SubCA(t).Issue(t)
	pemFile := slices.Concat([]byte("Bag Attributes\n    localKeyID: 01\n"), leaf.FullChainPEM(), leaf.KeyPEM())
	for name, file := range map[string][]byte{"pem": pemFile, "der": leaf.Cert.Raw} {
		for n := range file {
			certs, err := pki.ParseCertificates(file[:n])
			if err == nil && (len(certs) == 0 || name == "der") {
				t.Fatalf("%s: %d bytes: %d certificates without error", name, n, len(certs))
			}
			if err != nil && !errors.Is(err, pki.ErrIncoherent) {
				t.Fatalf("%s: %d bytes: not incoherent: %v", name, n, err)
			}
			if _, err := pki.ParseKey(file[:n]); err == nil && n < len(file)-1 || err != nil && !errors.Is(err, pki.ErrIncoherent) {
				t.Fatalf("%s: %d bytes: key: %v", name, n, err)
			}
		}
	}
}

func TestParseEverything(t *testing.T) {
	ca := testpki.NewRoot(t).SubCA(t)
	leaf := ca.Issue(t)
	crl := ca.CRL(t, testpki.Revoke(leaf.Cert.SerialNumber))
	request := testpki.Request(t, leaf.Key, "a.nhs.uk")
	file := slices.Concat(leaf.KeyPEM(), leaf.FullChainPEM(), testpki.EncodeCRL(crl),
		pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: request}),
		pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS", Bytes: []byte("xxx")}))
	c, err := pki.Parse(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Form != pki.FormPEM || len(c.Keys) != 1 || len(c.Certificates) != 2 || len(c.CRLs) != 1 || len(c.Requests) != 1 ||
		!slices.Equal(c.Unknown, []string{"DH PARAMETERS"}) {
		t.Errorf("got %+v", c)
	}
	for name, der := range map[string][]byte{"crl": crl, "request": request, "certificate": leaf.Cert.Raw} {
		c, err := pki.Parse(der, nil)
		if err != nil || c.Form != pki.FormDER || len(c.CRLs)+len(c.Requests)+len(c.Certificates) != 1 {
			t.Errorf("%s in DER: %v, %+v", name, err, c)
		}
	}
}

func TestParsePKCS7WithCRL(t *testing.T) {
	ca := testpki.NewRoot(t)
	dir := t.TempDir()
	testpki.WriteFile(t, filepath.Join(dir, "crl.pem"), testpki.EncodeCRL(ca.CRL(t)), 0o600)
	testpki.WriteFile(t, filepath.Join(dir, "ca.pem"), ca.CertPEM(), 0o600)
	openssl(t, dir, "crl2pkcs7", "-in", "crl.pem", "-certfile", "ca.pem", "-out", "p7.pem")
	c, err := pki.Parse(read(t, dir, "p7.pem"), nil)
	if err != nil || c.Form != pki.FormPKCS7 || len(c.Certificates) != 1 || len(c.CRLs) != 1 {
		t.Errorf("got %v, %+v", err, c)
	}
	if _, err := pki.ParseCertificates(read(t, dir, "p7.pem")); err != nil {
		t.Error(err)
	}
}

// Nothing a hostile file does may take more than linear time.
func TestParseHostileText(t *testing.T) {
	const n = 100_000
	for name, text := range map[string]string{
		"begin marks in one line": strings.Repeat("x-----BEGIN ", n),
		"end marks in one line":   strings.Repeat("x-----END A-----", n),
		"blocks on one line":      strings.Repeat("-----BEGIN A-----AAAA-----END A-----", n),
		"blocks":                  strings.Repeat("-----BEGIN A-----\nAAAA\n-----END A-----\n", n),
		"spaces":                  strings.Repeat(" ", n) + strings.Repeat("\n", n),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := pki.ParseCertificates([]byte(text)); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestRealNHSFiles(t *testing.T) {
	dir := spineCA(t)
	for name, n := range map[string]int{
		"live-bundle.pem": 4, "int-bundle.pem": 4, "dep-bundle.pem": 4,
		"leaf-g1-int-api.pem": 1, "leaf-g1-live-bars-proxy.pem": 1,
	} {
		certs, err := pki.ParseCertificates(read(t, dir, name))
		if err != nil || len(certs) != n {
			t.Errorf("%s: %d certificates, want %d: %v", name, len(certs), n, err)
		}
	}
	certs, err := pki.ParseCertificates(read(t, dir, "leaf-g1-live-bars-proxy.pem"))
	if err != nil {
		t.Fatal(err)
	}
	names, source := pki.Names(certs[0])
	if source != pki.NameFromCN || !slices.Equal(names, []string{"bars-proxy.spineservices.nhs.uk"}) {
		t.Errorf("names are %q from %q", names, source)
	}
	bundle, err := pki.ParseCertificates(read(t, dir, "live-bundle.pem"))
	if err != nil {
		t.Fatal(err)
	}
	const root = "c418cfa50aad03d826fa1a6932b8187be18193f4b25a7a56f30df45d5f89f8f7" // SPINE.md, 3
	if !slices.ContainsFunc(fingerprints(bundle), func(f string) bool { return f == root }) {
		t.Errorf("the G2 root is not in %q", fingerprints(bundle))
	}
}
