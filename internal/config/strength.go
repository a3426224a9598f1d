package config

import (
	"crypto/x509"
	"slices"
)

// signatures returns the algorithms that are permitted, or nil for all. The tag of the key has named those that there
// are, and has them in the same order as here.
func (r *reading) signatures(raw *list[text]) []x509.SignatureAlgorithm {
	known := map[string]x509.SignatureAlgorithm{
		"sha256-rsa": x509.SHA256WithRSA, "sha384-rsa": x509.SHA384WithRSA, "sha512-rsa": x509.SHA512WithRSA,
		"sha256-rsapss": x509.SHA256WithRSAPSS, "sha384-rsapss": x509.SHA384WithRSAPSS, "sha512-rsapss": x509.SHA512WithRSAPSS,
		"ecdsa-sha256": x509.ECDSAWithSHA256, "ecdsa-sha384": x509.ECDSAWithSHA384, "ecdsa-sha512": x509.ECDSAWithSHA512,
		"ed25519": x509.PureEd25519,
	}
	var algorithms []x509.SignatureAlgorithm
	for _, name := range raw.items {
		a, ok := known[name.text]
		switch {
		case !ok:
			r.fail(name.place, "must be a signature algorithm", "") // where the word is empty: others the tag has refused
		case slices.Contains(algorithms, a):
			r.fail(name.place, "the algorithm is listed twice", "remove one of the two")
		}
		algorithms = append(algorithms, a)
	}
	return algorithms
}
