package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pkitsCRLs reads the lists of NIST's suite, which lie beside the repository.
func pkitsCRLs(t *testing.T) map[string][]byte {
	t.Helper()
	files, _ := filepath.Glob("../../shared/vectors/pkits/crls/*.crl")
	if len(files) == 0 {
		t.Skip("the PKITS CRLs are not beside the repository")
	}
	out := map[string][]byte{}
	for _, file := range files {
		der, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(file)] = der
	}
	return out
}

// pkitsDir returns the directory of the certificates and vectors, which ship with Go.
func pkitsDir(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("go env: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "src/crypto/x509/testdata/nist-pkits")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the PKITS certificates do not come with this Go: %v", err)
	}
	return dir
}

func pkitsCertificates(t *testing.T) []*x509.Certificate {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(pkitsDir(t), "certs", "*.crt"))
	var out []*x509.Certificate
	for _, file := range files {
		der, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := x509.ParseCertificate(der); err == nil { // Go refuses a negative serial number, for one
			out = append(out, c)
		}
	}
	if len(out) < 380 {
		t.Fatalf("only %d of 405 certificates parse", len(out))
	}
	return out
}

// pkitsRefused holds the lists that are refused, and why. Every other one is read.
var pkitsRefused = map[string]struct {
	reason Reason
	detail string
}{
	// The signature or the name of its issuer is wrong (PKITS 4.4.4, 4.4.5).
	"BadCRLSignatureCACRL.crl":  {Malformed, "its signature"}, // a bit string of 2047 bits
	"BadCRLIssuerNameCACRL.crl": {CRLInvalid, "signed by no CA of the bundle"},
	"TwoCRLsCABadCRL.crl":       {CRLInvalid, "signed by no CA of the bundle"},
	// Critical extensions that are not understood (4.4.8, 4.4.9).
	"UnknownCRLExtensionCACRL.crl":      {CRLInvalid, "critical extension"},
	"UnknownCRLEntryExtensionCACRL.crl": {CRLInvalid, "critical extension"},
	// keyUsage without cRLSign (4.7.4, 4.7.5).
	"keyUsageCriticalcRLSignFalseCACRL.crl":    {CRLInvalid, "may not sign CRLs"},
	"keyUsageNotCriticalcRLSignFalseCACRL.crl": {CRLInvalid, "may not sign CRLs"},
	// DSA with SHA-1 (4.1.4 to 4.1.6).
	"DSACACRL.crl":                    {WeakSignature, "DSA-SHA1"},
	"DSAParametersInheritedCACRL.crl": {WeakSignature, "DSA-SHA1"},
	// Kinds of lists that are not supported (4.14, 4.15).
	"onlyContainsAttributeCertsCACRL.crl":   {CRLInvalid, "attribute certificates"},
	"onlySomeReasonsCA1compromiseCRL.crl":   {CRLInvalid, "some reasons"},
	"onlySomeReasonsCA1otherreasonsCRL.crl": {CRLInvalid, "some reasons"},
	"onlySomeReasonsCA2CRL1.crl":            {CRLInvalid, "some reasons"},
	"onlySomeReasonsCA2CRL2.crl":            {CRLInvalid, "some reasons"},
	"onlySomeReasonsCA3compromiseCRL.crl":   {CRLInvalid, "some reasons"},
	"onlySomeReasonsCA3otherreasonsCRL.crl": {CRLInvalid, "some reasons"},
	"onlySomeReasonsCA4compromiseCRL.crl":   {CRLInvalid, "some reasons"},
	"onlySomeReasonsCA4otherreasonsCRL.crl": {CRLInvalid, "some reasons"},
	"distributionPoint2CACRL.crl":           {CRLInvalid, "relative to its issuer"},
	"indirectCRLCA1CRL.crl":                 {CRLInvalid, "indirect"},
	"indirectCRLCA3cRLIssuerCRL.crl":        {CRLInvalid, "indirect"},
	"indirectCRLCA4cRLIssuerCRL.crl":        {CRLInvalid, "indirect"},
	"indirectCRLCA5CRL.crl":                 {CRLInvalid, "indirect"},
	"deltaCRLCA1deltaCRL.crl":               {CRLInvalid, "delta"},
	"deltaCRLCA2deltaCRL.crl":               {CRLInvalid, "delta"},
	"deltaCRLCA3deltaCRL.crl":               {CRLInvalid, "delta"},
	"deltaCRLIndicatorNoBaseCACRL.crl":      {CRLInvalid, "delta"},
}

func TestPKITSCRLs(t *testing.T) {
	lists, candidates := pkitsCRLs(t), pkitsCertificates(t)
	if len(lists) != 173 {
		t.Fatalf("there are %d CRLs, want 173", len(lists))
	}
	for name := range pkitsRefused {
		if lists[name] == nil {
			t.Errorf("%s does not exist", name)
		}
	}
	for name, der := range lists {
		crl, err := ReadCRL(der, name, candidates)
		if want, refused := pkitsRefused[name]; refused {
			checkCRLError(t, name, err, want.reason, want.detail)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkAgainstLibrary(t, name, der, crl)
	}
}

// checkAgainstLibrary compares a list with the library's reading of it.
func checkAgainstLibrary(t *testing.T, name string, der []byte, crl *CRL) {
	t.Helper()
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !crl.ThisUpdate().Equal(list.ThisUpdate) || !crl.NextUpdate().Equal(list.NextUpdate) {
		t.Errorf("%s: dates %v to %v, want %v to %v", name, crl.ThisUpdate(), crl.NextUpdate(), list.ThisUpdate, list.NextUpdate)
	}
	if (crl.Number() == nil) != (list.Number == nil) || list.Number != nil && crl.Number().Cmp(list.Number) != 0 {
		t.Errorf("%s: number %v, want %v", name, crl.Number(), list.Number)
	}
	if !bytes.Equal(crl.Issuer(), list.RawIssuer) || !bytes.Equal(crl.AuthorityKeyID(), list.AuthorityKeyId) {
		t.Errorf("%s: issuer or key identifier differ", name)
	}
	if err := crl.IssuerCertificate().CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if crl.Len() != len(list.RevokedCertificateEntries) {
		t.Errorf("%s: %d entries, want %d", name, crl.Len(), len(list.RevokedCertificateEntries))
	}
	for _, e := range list.RevokedCertificateEntries {
		got, ok := crl.Lookup(e.SerialNumber)
		if want := e.RevocationTime.Truncate(24 * time.Hour); !ok || got.Reason != e.ReasonCode || !got.Date.Equal(want) {
			t.Errorf("%s: serial %x is %v %v, want %v, reason %d", name, e.SerialNumber, ok, got, want, e.ReasonCode)
		}
	}
}

// TestPKITSLookup takes all vectors: a certificate of a path that is valid is
// never on a list of its issuer, and those of the vectors that are about
// revocation alone are found.
func TestPKITSLookup(t *testing.T) {
	lists, candidates, dir := pkitsCRLs(t), pkitsCertificates(t), pkitsDir(t)
	data, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name              string
		CertPath, CRLPath []string
		ShouldValidate    bool
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	revoked := map[string]string{
		"4.4.2 Invalid Revoked CA Test2":                          "RevokedsubCACert.crt",
		"4.4.3 Invalid Revoked EE Test3":                          "InvalidRevokedEETest3EE.crt",
		"4.4.18 Invalid Long Serial Number Test18":                "InvalidLongSerialNumberTest18EE.crt",
		"4.4.20 Invalid Separate Certificate and CRL Keys Test20": "InvalidSeparateCertificateandCRLKeysTest20EE.crt",
		"4.5.2 Invalid Basic Self-Issued Old With New Test2":      "InvalidBasicSelfIssuedOldWithNewTest2EE.crt",
		"4.5.7 Invalid Basic Self-Issued CRL Signing Key Test7":   "InvalidBasicSelfIssuedCRLSigningKeyTest7EE.crt",
		"4.14.2 Invalid distributionPoint Test2":                  "InvaliddistributionPointTest2EE.crt",
		// On hold in the base, taken back in a delta, which is not supported.
		"4.15.5 Valid delta-CRL Test5": "ValiddeltaCRLTest5EE.crt",
	}
	for _, v := range vectors {
		var crls []*CRL
		for _, file := range v.CRLPath {
			if crl, err := ReadCRL(lists[file], file, candidates); err == nil {
				crls = append(crls, crl)
			}
		}
		found := ""
		for _, file := range v.CertPath {
			if pkitsOnAnyList(t, filepath.Join(dir, "certs", file), crls) {
				found = file
			}
		}
		if want := revoked[v.Name]; found != want && (v.ShouldValidate || want != "") {
			t.Errorf("%s: revoked is %q, want %q", v.Name, found, want)
		}
		delete(revoked, v.Name)
	}
	if len(revoked) > 0 {
		t.Errorf("no such vectors: %v", revoked)
	}
}

func pkitsOnAnyList(t *testing.T, file string, crls []*CRL) bool {
	t.Helper()
	der, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return false // a negative serial number; TestCRLSerials has those
	}
	return slices.ContainsFunc(crls, func(crl *CRL) bool {
		_, on := crl.Lookup(cert.SerialNumber)
		return on && equalNames(crl.Issuer(), cert.RawIssuer)
	})
}
