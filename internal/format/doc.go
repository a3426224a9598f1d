// Package format writes certificates, keys, CAs and CRLs in the forms that
// programs want. It is the one place that knows them: what spinecert export writes
// and what is delivered to services is the same.
//
//	f, ok := format.Find("fullchain")
//	data, err := f.Encode(format.Source{Certificates: identity.Certificates()})
//
// All of it is pure: nothing is read, and the caller writes. Values may be used by
// many goroutines.
//
// # Errors
//
// A file is whole or an error: nothing is ever empty, and nothing that is missing is
// left out. No error holds key material or a password, or names the file; package pki
// finds the hint of each. Callers tell [ErrNoChain], [ErrNoCRLs] and the other values
// with errors.Is.
package format
