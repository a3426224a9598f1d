package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// judgementBase is where trust comes from: files of --trust, or an environment
// of the configuration.
type judgementBase struct {
	config      *config.Config // nil with --trust
	environment string         // "" with --trust
	profile     trust.Profile  // "" with --trust: told from the bundle
	trust, crls []string
	revocation  trust.Mode
	nameFromCN  bool
	grace       time.Duration
	notes       []string
	added       []trust.Source // with trust add
	strength    config.Environment
	lists       listServers
}

// base finds out where trust comes from and how strict it is.
func (o *verifyOptions) base() (*judgementBase, error) {
	if len(o.trust) > 0 {
		// CONTRACT.md, 1: verify without configuration.
		b := &judgementBase{trust: o.trust, crls: o.crls, revocation: trust.Off, nameFromCN: true, lists: listServers{hosts: []string{defaultListHost}}}
		if len(o.crls) > 0 {
			b.revocation = trust.Require
		}
		if o.slot == "" {
			return b, nil
		}
		c, err := o.loadConfig()
		b.config = c
		return b, err
	}
	c, err := o.loadConfig()
	if err != nil {
		return nil, err
	}
	name, err := o.environmentOf(c)
	if err != nil {
		return nil, err
	}
	e, ok := c.Environment(name)
	if !ok {
		return nil, usagef("see environments in "+c.File, "--environment %q: not in the configuration", name)
	}
	added, err := addedTrust(c.State.Directory, name)
	var notes []string
	if errors.Is(err, fs.ErrPermission) {
		notes = append(notes, "CAs that were added with trust add could not be read: run as root, or as the user of the daemon")
	} else if err != nil {
		return nil, err
	}
	return &judgementBase{
		config: c, environment: name, notes: notes, profile: trust.Profile(e.Profile), trust: e.Trust, added: added, crls: slices.Concat(e.CRL.Files, o.crls),
		revocation: trust.Mode(e.Revocation), nameFromCN: e.NameFromCN, grace: e.CRL.Grace,
		strength: e, lists: listServers{hosts: e.CRL.Hosts, proxy: e.CRL.Proxy, maxSize: e.CRL.MaxSize, timeout: e.CRL.Timeout},
	}, nil
}

func (o *verifyOptions) loadConfig() (*config.Config, error) {
	file := o.config
	if file == "" {
		file = defaultConfig
	}
	c, err := config.Load(file)
	if err == nil {
		return c, nil
	}
	if exit, _ := classify(err); exit == exitFailed {
		return nil, &exitError{exit: exitFailed, code: codeUnreadable, err: err, hint: "name trust files with --trust, or the configuration with --config"}
	}
	return nil, err
}

// environmentOf is the environment that was named, or the one of the slot, or
// the default one.
func (o *verifyOptions) environmentOf(c *config.Config) (string, error) {
	switch {
	case o.environment != "":
		return o.environment, nil
	case o.slot != "":
		s, err := slotOf(c, o.slot)
		return s.Environment, err
	case c.DefaultEnvironment != "":
		return c.DefaultEnvironment, nil
	case len(c.Environments) == 1:
		return c.Environments[0].Name, nil
	}
	return "", usagef("name one with --environment, or trust files with --trust", "the configuration has several environments and no default")
}

func slotOf(c *config.Config, name string) (config.Slot, error) {
	s, ok := c.Slot(name)
	if !ok {
		return s, usagef("see slots in "+c.File, "--slot %q: not in the configuration", name)
	}
	return s, nil
}

// state reads trust files and CRLs. Files that cannot be used are failures with
// exit status 1: nothing was examined with them.
func (b *judgementBase) state(o *verifyOptions) (*trust.State, error) {
	bundle, err := readTrust(b.trust, o.stdin, b.added...)
	if err != nil {
		return nil, err
	}
	crls, err := b.readCRLs(o, bundle)
	if err != nil {
		return nil, err
	}
	if b.profile == "" {
		b.profile = profileOf(bundle)
	}
	state, err := trust.NewState(trust.StateConfig{
		Environment: b.environment, Profile: b.profile, Bundle: bundle, CRLs: crls, NameFromCN: b.nameFromCN,
		Revocation: b.revocation, Grace: b.grace,
		MinRSABits: b.strength.MinRSABits, MinECBits: b.strength.MinECBits, SignatureAlgorithms: b.strength.SignatureAlgorithms,
		RequireStaple: b.strength.RequireStaple,
	})
	if err != nil {
		return nil, failed(codeFailed, err)
	}
	return state, nil
}

// profileOf tells the conventions from the CAs: those of the NHS have
// partitioned CRLs (SPINE.md, 3).
func profileOf(b *trust.Bundle) trust.Profile {
	for _, c := range b.Certificates() {
		if k, ok := trust.Known(c); ok && k.Generation == "G1" {
			return trust.NHSG1
		} else if ok {
			return trust.NHSG2
		}
	}
	return trust.Private
}

// identity reads what is presented to a peer that asks; nil if nothing is.
func (o *verifyOptions) identity(b *judgementBase) (*pki.Identity, error) {
	files := config.Files{Certificate: o.certificate, Key: o.key}
	if o.slot != "" {
		s, err := slotOf(b.config, o.slot)
		if err != nil {
			return nil, err
		}
		if s.Managed != nil {
			return o.kept(b.config, s)
		}
		files = s.Files
	}
	if files == (config.Files{}) {
		return nil, nil
	}
	identity, err := readIdentity(files)
	if err != nil {
		f := failed(codeFailed, fmt.Errorf("own identity: %w", err))
		f.code = codeOf(err, codeMalformed)
		return nil, f
	}
	return identity, nil
}

// kept is what a managed slot has in force.
func (o *verifyOptions) kept(c *config.Config, slot config.Slot) (*pki.Identity, error) {
	s := &exportSource{}
	if err := s.readGeneration(c, slot, 0); err != nil {
		return nil, err
	}
	return s.kept, nil
}

// codeOf is the code of an exitError, or another one.
func codeOf(err error, otherwise string) string {
	var f *exitError
	if errors.As(err, &f) {
		return f.code
	}
	return otherwise
}

func readIdentity(files config.Files) (*pki.Identity, error) {
	if files.PKCS12 != "" {
		return readPKCS12(files)
	}
	contents := &pki.Contents{}
	for _, name := range []string{files.Certificate, files.Chain} {
		if name == "" {
			continue
		}
		in, err := readInput(name, nil)
		if err != nil {
			return nil, err
		}
		certs, err := pki.ParseCertificates(in.data)
		if err != nil {
			return nil, pki.WithFile(err, name)
		}
		contents.Certificates = append(contents.Certificates, certs...)
	}
	in, err := readInput(files.Key, nil)
	if err != nil {
		return nil, err
	}
	key, err := pki.ParseKey(in.data)
	if err != nil {
		return nil, pki.WithFile(err, files.Key)
	}
	return pki.NewIdentity(contents.Certificates, key)
}

func readPKCS12(files config.Files) (*pki.Identity, error) {
	password, err := readPassword(files.PasswordFile)
	if err != nil {
		return nil, err
	}
	in, err := readInput(files.PKCS12, nil)
	if err != nil {
		return nil, err
	}
	contents, err := pki.Parse(in.data, password)
	if err != nil {
		return nil, pki.WithFile(err, files.PKCS12)
	}
	if len(contents.Keys) != 1 {
		return nil, pki.WithFile(&pki.Error{Part: "pkcs12", Message: fmt.Sprintf("%d private keys found, want one", len(contents.Keys))}, files.PKCS12)
	}
	return pki.NewIdentity(contents.Certificates, contents.Keys[0])
}
