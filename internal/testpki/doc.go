// Package testpki makes certificates, keys and revocation lists for tests:
// a root, subCAs below it, leaves below those, and an [Option] for every
// defect that a certificate or a CRL can have.
//
//	root := testpki.NewRoot(t)
//	sub := root.SubCA(t, testpki.Name("Test Authentication G2"))
//	leaf := sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
//	crl := sub.CRL(t, testpki.Revoke(leaf.Cert.SerialNumber))
//
// Nothing here is fit for anything but tests: defects are made on purpose, and
// RSA keys come from a small pool of the process, because making them is slow.
// Keys exist in memory only.
//
// Unless an option says otherwise everything is signed with SHA-256, keys are
// ECDSA P-256, certificates hold from an hour ago for 365 days, and CRLs from
// an hour ago for seven days. Time is [time.Now], so that a test inside a
// testing/synctest bubble gets material that fits the bubble's clock.
//
// # Concurrency
//
// All functions and methods may be called from several goroutines.
//
// # Errors
//
// There are none to handle: what cannot be made ends the test with Fatal.
package testpki
