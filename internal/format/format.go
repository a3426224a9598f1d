package format

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Needs says what a format is made of, or what the files are made of that it names.
type Needs uint8

// What a format may need.
const (
	Leaf  Needs = 1 << iota // the first of Certificates
	Chain                   // the others; where a root issued the leaf itself, there are none
	Key
	Trust // CAs
	CRLs

	// Identity is all of a slot: a format that needs any of it changes with the slot.
	Identity = Leaf | Chain | Key
)

// Source is what formats are made of. Of it only what a format needs has to be there,
// and nothing is changed.
type Source struct {
	Certificates []*x509.Certificate // the leaf, then its chain in order, without the root
	Key          crypto.Signer       // of the leaf
	CAs          []*x509.Certificate // in any order
	CRLs         [][]byte            // DER, in the order of the file
	Password     []byte              // of a format with Password
	Paths        map[string]string   // ldaprc: the absolute path of the file in each format of Beside
	Now          time.Time           // jks keeps it as the time that it was made
}

// Format is one format.
type Format struct {
	Name     string
	Needs    Needs
	Private  bool     // holds the private key
	Password bool     // needs one, and is never the same twice: salts are random
	Beside   []string // names the files of these formats, by Source.Paths

	encode func(Source) ([]byte, error)
}

// Formats returns every format, in the order of the manual.
func Formats() []Format {
	return []Format{
		{Name: "cert", Needs: Leaf, encode: cert},
		{Name: "chain", Needs: Chain, encode: chain},
		{Name: "fullchain", Needs: Leaf | Chain, encode: fullChain},
		{Name: "key", Needs: Key, Private: true, encode: key},
		{Name: "combined", Needs: Identity, Private: true, encode: combined},
		{Name: "der", Needs: Leaf, encode: der},
		{Name: "pkcs12", Needs: Identity, Private: true, Password: true, encode: pkcs12},
		{Name: "jks", Needs: Identity, Private: true, Password: true, encode: jks},
		{Name: "trust-pem", Needs: Trust, encode: trustPEM},
		{Name: "trust-pkcs12", Needs: Trust, Password: true, encode: trustPKCS12},
		{Name: "crl-pem", Needs: CRLs, encode: crlPEM},
		{Name: "ldaprc", Needs: Identity | Trust, Beside: ldapFormats(), encode: ldaprc},
	}
}

// Names returns their names.
func Names() []string {
	var names []string
	for _, f := range Formats() {
		names = append(names, f.Name)
	}
	return names
}

// Find returns the format of a name, and whether there is one.
func Find(name string) (Format, bool) {
	all := Formats()
	i := slices.IndexFunc(all, func(f Format) bool { return f.Name == name })
	if i < 0 {
		return Format{}, false
	}
	return all[i], true
}

// Encode returns the content of the file, which is never empty. Unless f.Password is
// set, the same source gives the same bytes.
func (f Format) Encode(s Source) ([]byte, error) {
	if f.encode == nil {
		return nil, fmt.Errorf("format %q is not one of Formats", f.Name)
	}
	return f.encode(s)
}
