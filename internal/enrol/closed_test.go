package enrol

import (
	"encoding/base64"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"software.sslmate.com/src/go-pkcs12"
)

// What KeepClosed leaves closed is not opened even where it could be: the password
// is the right one, and the zip holds nothing but a certificate.
func TestKeepClosed(t *testing.T) {
	leaf := testpki.NewRoot(t).Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	store, err := pkcs12.Modern2023.Encode(leaf.Key, leaf.Cert, nil, "secret")
	if err != nil {
		t.Fatal(err)
	}
	mail := func(data []byte) []byte {
		return []byte("MIME-Version: 1.0\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(data) + "\n")
	}
	archive := zipped(t, map[string][]byte{"a.pem": leaf.CertPEM()})
	for name, data := range map[string][]byte{
		"store": store, "archive": archive, "mail with a store": mail(store), "mail with an archive": mail(archive),
		"base64 of a store": []byte(base64.StdEncoding.EncodeToString(store)),
	} {
		open := Answer{}
		if err := open.Read(name, data, []byte("secret")); err != nil || len(open.Certificates) != 1 {
			t.Errorf("%s, open: %v, %d certificates", name, err, len(open.Certificates))
		}
		closed := Answer{KeepClosed: true}
		if err := closed.Read(name, data, []byte("secret")); err == nil || len(closed.Certificates)+len(closed.Keys) > 0 {
			t.Errorf("%s, closed: %v, %d certificates, %d keys", name, err, len(closed.Certificates), len(closed.Keys))
		}
		if len(closed.Private) == 0 {
			t.Errorf("%s, closed: not named as private", name)
		}
	}
}

// Keys are named as private whether they can be read or not, and certificates are not.
func TestPrivate(t *testing.T) {
	leaf := testpki.NewRoot(t).Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	const broken = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"
	for name, tc := range map[string]struct {
		data string
		want bool
	}{
		"key":                         {string(leaf.KeyPEM()), true},
		"key that cannot be read":     {broken, true},
		"certificate and such a key":  {string(leaf.CertPEM()) + broken, true},
		"the same, quoted-printable":  {printable(t, string(leaf.CertPEM())+broken), true},
		"certificate":                 {string(leaf.CertPEM()), false},
		"certificate, other encoding": {printable(t, string(leaf.CertPEM())), false},
	} {
		var a Answer
		if err := a.Read(name, []byte(tc.data), nil); err != nil && !tc.want {
			t.Errorf("%s: %v", name, err)
		}
		if got := len(a.Private) > 0; got != tc.want {
			t.Errorf("%s: private %v, want %v", name, got, tc.want)
		}
	}
}
