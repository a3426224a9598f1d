package rotate

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

// Files names the files of one identity: a certificate (with or without its
// chain, or the key, in the same file), an optional chain and a key; or a
// PKCS#12 file with the file that holds its password. Paths are absolute.
type Files struct {
	Certificate, Chain, Key string
	PKCS12, PasswordFile    string
}

// paths returns the files to read, each once.
func (f Files) paths() []string {
	var out []string
	for _, p := range []string{f.Certificate, f.Chain, f.Key, f.PKCS12, f.PasswordFile} {
		if p != "" && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// certificate returns the file that the leaf comes from, as messages have it.
func (f Files) certificate() string { return label(cmp.Or(f.Certificate, f.PKCS12)) }

func (f Files) check() error {
	pair := f.Certificate != "" && f.Key != "" && f.PKCS12 == "" && f.PasswordFile == ""
	p12 := f.PKCS12 != "" && f.Certificate == "" && f.Key == "" && f.Chain == ""
	if !pair && !p12 {
		return errors.New("files: need certificate and key, or pkcs12")
	}
	return checkAbsolute(f.paths())
}

func checkAbsolute(paths []string) error {
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("path %q is not absolute", p)
		}
	}
	return nil
}

// SlotConfig describes one slot.
type SlotConfig struct {
	Name        string
	Environment string
	FQDN        string // a name that the certificate must carry; "" demands none
	Files       Files
	// Managed says that the slot has no files: its identities are offered to it, see
	// Keeper.Offer, and are kept in the Store.
	Managed bool
	// Keep is how many generations stay in the Store; 0 keeps none, and is not for managed slots.
	Keep int
	// AllowReadableKey accepts a key file that others than owner and group may read.
	AllowReadableKey bool
	Allow            []string      // guard rules that never refuse, see CheckRule
	Poll             time.Duration // how often the files are looked at without an event; 0 is 30 s
	Settle           time.Duration // how long an incoherent source is nothing to worry about; 0 is 60 s
}

// EnvironmentConfig describes one environment: the trust that its slots share.
type EnvironmentConfig struct {
	Name          string
	Profile       trust.Profile
	NameFromCN    bool
	Trust         []string // files with roots and subCAs, absolute
	CRLs          []string // files with CRLs, or directories of such files, absolute
	Fetch         CRLFetch
	MaxCRL        int64    // bytes of one CRL file; 0 is 64 MiB
	AcceptableCAs []string // see trust.StateConfig, as for the next four
	MinRSABits    int
	MinECBits     int
	Signatures    []x509.SignatureAlgorithm
	RequireStaple bool
	Revocation    trust.Mode
	Grace         time.Duration
	Poll          time.Duration
	Settle        time.Duration
}

// Plan is the whole set of environments and slots that a Keeper keeps.
type Plan struct {
	Environments []EnvironmentConfig
	Slots        []SlotConfig
}

// Check returns every problem of the plan (errors.Join). Nothing is read.
func (p Plan) Check() error {
	var errs []error
	envs := map[string]bool{}
	for _, e := range p.Environments {
		if e.Name == "" || envs[e.Name] {
			errs = append(errs, fmt.Errorf("environment %q: its name is empty or used twice", e.Name))
		}
		envs[e.Name] = true
		if len(e.Trust) == 0 {
			errs = append(errs, fmt.Errorf("environment %q: no trust file", e.Name))
		}
		if err := checkAbsolute(slices.Concat(e.Trust, e.CRLs)); err != nil {
			errs = append(errs, fmt.Errorf("environment %q: %w", e.Name, err))
		}
		if err := checkTimes(e.Poll, e.Settle, e.Fetch.Refresh, e.Fetch.Timeout); err != nil {
			errs = append(errs, fmt.Errorf("environment %q: %w", e.Name, err))
		}
		if _, err := fetch.New(e.Fetch.client(e.MaxCRL)); err != nil {
			errs = append(errs, fmt.Errorf("environment %q: %w", e.Name, err))
		}
	}
	slots := map[string]bool{}
	for _, s := range p.Slots {
		if s.Name == "" || slots[s.Name] {
			errs = append(errs, fmt.Errorf("slot %q: its name is empty or used twice", s.Name))
		}
		slots[s.Name] = true
		if !envs[s.Environment] {
			errs = append(errs, fmt.Errorf("slot %q: there is no environment %q", s.Name, s.Environment))
		}
		if err := s.checkSource(); err != nil {
			errs = append(errs, fmt.Errorf("slot %q: %w", s.Name, err))
		}
		if err := checkTimes(s.Poll, s.Settle); err != nil {
			errs = append(errs, fmt.Errorf("slot %q: %w", s.Name, err))
		}
		for _, rule := range s.Allow {
			if err := CheckRule(rule); err != nil {
				errs = append(errs, fmt.Errorf("slot %q: %w", s.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (c *SlotConfig) checkSource() error {
	switch {
	case !c.Managed:
		return c.Files.check()
	case c.Files != Files{}:
		return errors.New("a managed slot has no files")
	case c.Keep < 1:
		return errors.New("a managed slot keeps one generation at least")
	}
	return nil
}

// longest bounds the times of a plan, so that no sum of them overflows.
const longest = 365 * 24 * time.Hour

func checkTimes(times ...time.Duration) error {
	for _, t := range times {
		if t < 0 || t > longest {
			return fmt.Errorf("a time of %s is not between 0 and a year", t)
		}
	}
	return nil
}

// CheckRule returns an error unless rule is a guard rule that can be allowed.
func CheckRule(rule string) error {
	if !slices.Contains(Rules(), rule) {
		return fmt.Errorf("unknown guard rule %q: there are %s", rule, strings.Join(Rules(), ", "))
	}
	return nil
}

// Rules returns the guard rules that can be allowed for a slot.
func Rules() []string {
	return []string{RuleOlder, RuleNames, RuleChain, RuleKeyReuse, RuleRolledBack}
}

// identity makes the identity from what was read of f.
func (f Files) identity(m *material) (*pki.Identity, error) {
	if f.PKCS12 != "" {
		return f.fromPKCS12(m)
	}
	certs, err := pki.ParseCertificates(m.data[f.Certificate])
	if err != nil {
		return nil, pki.WithFile(err, label(f.Certificate))
	}
	if f.Chain != "" && f.Chain != f.Certificate {
		chain, err := pki.ParseCertificates(m.data[f.Chain])
		if err != nil {
			return nil, pki.WithFile(err, label(f.Chain))
		}
		certs = append(certs, chain...)
	}
	key, err := pki.ParseKey(m.data[f.Key])
	if err != nil {
		return nil, pki.WithFile(err, label(f.Key))
	}
	id, err := pki.NewIdentity(certs, key)
	if pki.Mismatch(err) {
		return nil, fmt.Errorf("%w, read from %q", pki.WithFile(err, label(f.Certificate)), label(f.Key))
	}
	if err != nil {
		return nil, pki.WithFile(err, label(f.Certificate))
	}
	return id, nil
}

func (f Files) fromPKCS12(m *material) (*pki.Identity, error) {
	var password []byte
	if f.PasswordFile != "" {
		password = firstLine(m.data[f.PasswordFile])
	}
	contents, err := pki.Parse(m.data[f.PKCS12], password)
	if err != nil {
		return nil, pki.WithFile(err, label(f.PKCS12))
	}
	if len(contents.Keys) != 1 {
		return nil, fmt.Errorf("read pkcs12 %q: %d private keys in it, need one", label(f.PKCS12), len(contents.Keys))
	}
	id, err := pki.NewIdentity(contents.Certificates, contents.Keys[0])
	if err != nil {
		return nil, pki.WithFile(err, label(f.PKCS12))
	}
	return id, nil
}

// firstLine: a password file ends with a newline that is not part of the password.
func firstLine(b []byte) []byte {
	for i, c := range b {
		if c == '\n' || c == '\r' {
			return b[:i]
		}
	}
	return b
}
