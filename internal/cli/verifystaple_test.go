package cli

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/spinecert/spinecert/internal/testpki"
)

// stapleWorld is a server, and two configurations that judge it.
type stapleWorld struct {
	dir                   string
	address               string
	demands, mild, client *testpki.Leaf // must staple; need not; a client that must
	good, revoked         []byte        // responses about demands
	present               atomic.Pointer[tls.Certificate]
}

func newStapleWorld(t *testing.T) *stapleWorld {
	t.Helper()
	w := &stapleWorld{dir: t.TempDir()}
	root := testpki.NewRoot(t)
	sub := root.SubCA(t)
	must := testpki.Extension(pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}})
	w.demands, w.mild = sub.Issue(t, testpki.DNS("peer.nhs.uk"), must), sub.Issue(t, testpki.DNS("peer.nhs.uk"))
	w.client = sub.Issue(t, testpki.DNS("peer.nhs.uk"), must, testpki.EKU(x509.ExtKeyUsageClientAuth))
	for to, status := range map[*[]byte]int{&w.good: ocsp.Good, &w.revoked: ocsp.Revoked} {
		now := time.Now().Truncate(time.Second)
		r := ocsp.Response{Status: status, SerialNumber: w.demands.Cert.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour), RevokedAt: now.Add(-time.Hour)}
		var err error
		if *to, err = ocsp.CreateResponse(sub.Cert, sub.Cert, r, sub.Key); err != nil {
			t.Fatal(err)
		}
	}
	const config = "environments: {live: {profile: private, trust: [trust.pem], crl: {files: [root.crl, sub.crl]}, ocsp: WORD}}\nstate: {directory: state}\n"
	for name, data := range map[string][]byte{
		"trust.pem": sub.BundlePEM(), "root.crl": root.CRL(t), "sub.crl": sub.CRL(t),
		"demands.pem": w.demands.FullChainPEM(), "mild.pem": w.mild.FullChainPEM(), "client.pem": w.client.FullChainPEM(),
		"require": []byte(strings.ReplaceAll(config, "WORD", "require")), "must-staple": []byte(strings.ReplaceAll(config, "WORD", "must-staple")),
	} {
		testpki.WriteFile(t, w.file(name), data, 0o600)
	}
	w.address = serveOnce(t, func(c net.Conn) {
		_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*w.present.Load()}}).Handshake()
	})
	return w
}

func (w *stapleWorld) file(name string) string { return filepath.Join(w.dir, name) }

// TestVerifyStaple: what the daemon would refuse is not accepted.
func TestVerifyStaple(t *testing.T) {
	w := newStapleWorld(t)
	for name, test := range map[string]struct {
		leaf         *testpki.Leaf
		staple       []byte
		ocsp, reason string
	}{
		"none, the certificate demands one":   {w.demands, nil, "must-staple", "crl_unavailable"},
		"none, the configuration demands one": {w.mild, nil, "require", "crl_unavailable"},
		"none, and nobody demands one":        {w.mild, nil, "must-staple", ""},
		"good":                                {w.demands, w.good, "require", ""},
		"of another":                          {w.mild, w.good, "require", "crl_invalid"},
		"revoked":                             {w.demands, w.revoked, "must-staple", "revoked"},
	} {
		shown := test.leaf.TLS()
		shown.OCSPStaple = test.staple
		w.present.Store(&shown)
		exit, r, fault := verifyJSON(t, "--config", w.file(test.ocsp), "--name", "peer.nhs.uk", w.address)
		if r.Reason != test.reason || (exit == exitDone) != (test.reason == "") || len(r.Notes) != 0 {
			t.Errorf("%s: exit %d, %+v", name, exit, r)
		}
		if test.reason == "crl_unavailable" && !strings.Contains(fault.Hint, "ssl_stapling") {
			t.Errorf("%s: hint %q", name, fault.Hint)
		}
	}
	shown := w.demands.TLS()
	w.present.Store(&shown)
	exit, r, fault := verifyJSON(t, "--trust", w.file("trust.pem"), "--crl", w.file("root.crl"), "--crl", w.file("sub.crl"), "--name", "peer.nhs.uk", w.address)
	if exit != exitJudged || r.Reason != "crl_unavailable" || !strings.Contains(fault.Hint, "ssl_stapling") {
		t.Errorf("trust files: exit %d, %+v, %+v", exit, r, fault)
	}
	if exit, r, _ := verifyJSON(t, "--config", w.file("require"), "--revocation", "off", "--name", "peer.nhs.uk", w.address); exit != exitDone {
		t.Errorf("off: exit %d, %+v", exit, r)
	}
}

// TestVerifyFileHasNoStaple: it is said, and all else is judged.
func TestVerifyFileHasNoStaple(t *testing.T) {
	w := newStapleWorld(t)
	for name, test := range map[string]struct {
		args   []string
		reason string
		note   bool
	}{
		"demanded by the configuration": {[]string{"--config", w.file("require"), w.file("mild.pem")}, "", true},
		"demanded by the certificate":   {[]string{"--config", w.file("must-staple"), w.file("demands.pem")}, "", true},
		"of a server":                   {[]string{"--config", w.file("require"), "--purpose", "server", w.file("demands.pem")}, "", true},
		"not demanded":                  {[]string{"--config", w.file("must-staple"), "--purpose", "server", w.file("mild.pem")}, "", false},
		"a client has none":             {[]string{"--config", w.file("require"), "--purpose", "client", w.file("demands.pem")}, "", false},
		"a client's alone":              {[]string{"--config", w.file("require"), w.file("client.pem")}, "", false},
		"a client is no server":         {[]string{"--config", w.file("require"), "--purpose", "server", w.file("client.pem")}, "wrong_purpose", false},
		"without revocation":            {[]string{"--config", w.file("require"), "--revocation", "off", w.file("demands.pem")}, "", false},
		"another name":                  {[]string{"--config", w.file("require"), "--purpose", "server", "--name", "other.nhs.uk", w.file("demands.pem")}, "name_mismatch", false},
		"no list": {[]string{"--trust", w.file("trust.pem"), "--revocation", "require", "--purpose", "server", w.file("demands.pem")},
			"no_crl_address", false},
	} {
		exit, r, _ := verifyJSON(t, test.args...)
		note := len(r.Notes) == 1 && strings.Contains(r.Notes[0], "HOST:PORT")
		if r.Reason != test.reason || (exit == exitDone) != (test.reason == "") || note != test.note || !note && len(r.Notes) > 0 {
			t.Errorf("%s: exit %d, %+v", name, exit, r)
		}
	}
}
