// Package pki reads the things of a public key infrastructure: private keys,
// certificates, requests and revocation lists, in PEM, DER, PKCS#7 and PKCS#12,
// and joins a leaf certificate, its chain and its key into an [Identity].
//
//	certs, err := pki.ParseCertificates(pemOrDER)
//	key, err := pki.ParseKey(keyPEM)
//	id, err := pki.NewIdentity(certs, key)
//	config := &tls.Config{Certificates: []tls.Certificate{*id.TLS()}}
//
// It also makes keys and certificate requests, and judges the names in them by
// the rules of Spine:
//
//	key, err := pki.GenerateKey(pki.RSA2048)
//	csr, err := pki.NewRequest(key, "pcs.thirdparty.nhs.uk")
//
// The package is pure: it opens no file and knows no time. It says nothing of
// validity or trust either: an expired certificate of an unknown CA makes a fine
// identity. Judgement is the business of package trust.
//
// # Tolerance
//
// Text around PEM blocks (such as the Bag Attributes that openssl prints), byte
// order marks, CRLF and indentation are ignored, and the order of certificates
// does not matter. What is cut short is never ignored: a BEGIN line without its
// END line, broken base64 and DER that ends early are errors.
//
// # Errors
//
// Errors are of type [*Error]. They name the part that is at fault, and most
// have a hint, which [Hint] finds. Those that a writer still at work explains
// (an empty or half-written file, a key that arrives before its certificate)
// match [ErrIncoherent] with errors.Is, so that a caller can look again later.
// A name that breaks a rule is a [*NameError].
// No error holds a password or anything of the content of a key.
//
// # Concurrency
//
// All functions may be called at once. An Identity is immutable.
package pki
