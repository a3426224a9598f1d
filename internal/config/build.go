package config

import (
	"errors"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/rotate/fetch"
)

// config turns the raw structs into the Config and reports what the tags could not judge. What it returns is complete
// even when it is wrong, so that everything is found in one reading.
func (r *reading) config(raw *rawConfig) *Config {
	c := &Config{ClockMaxStep: raw.Clock.MaxStep.value, LogFormat: raw.Log.Format.text}
	if err := c.LogLevel.UnmarshalText([]byte(raw.Log.Level.text)); err != nil {
		c.LogLevel = slog.LevelInfo // reported already: the tag names every level
	}
	c.DefaultEnvironment = r.defaultEnvironment(raw)
	for _, row := range raw.Environments.rows {
		c.Environments = append(c.Environments, r.environment(row.name, &row.value))
	}
	for _, row := range raw.Slots.rows {
		c.Slots = append(c.Slots, r.slot(row.name, &row.value, raw, c.DefaultEnvironment))
	}
	c.makeIndex()
	for _, row := range raw.Tunnels.rows {
		c.Tunnels = append(c.Tunnels, r.tunnel(row.name, &row.value, raw, c))
	}
	c.Alerts = r.alerts(&raw.Alerts)
	c.Admin = r.admin(&raw.Admin, raw)
	c.State = State{raw.State.Directory.value, raw.State.KeepGenerations.value, raw.State.AuditMax.value}
	if raw.State.Directory.text == "" {
		r.fail(raw.State.Directory.place, "must be a path", "")
	}
	limits := &raw.Limits
	c.Limits = Limits{limits.Handshakes.value, limits.PerSource.value, limits.Connections.value, limits.ChainBytes.value, limits.Drain.value}
	c.Organisation = Organisation{raw.Organisation.Name.text, raw.Organisation.Contact.text, raw.Organisation.ODS.text}
	r.separateListeners(raw, c)
	r.keepManaged(raw, c)
	r.services(raw, c)
	c.credentials = r.sortedCredentials()
	return c
}

func (r *reading) defaultEnvironment(raw *rawConfig) string {
	if len(raw.Environments.rows) == 0 {
		r.fail(raw.Environments.place, "no environment is configured", emptyHint)
		return ""
	}
	name := raw.DefaultEnvironment
	switch {
	case name.set:
		r.known(name, &raw.Environments, "environment")
		return name.text
	case len(raw.Environments.rows) == 1:
		return raw.Environments.rows[0].name
	}
	return ""
}

// named is what both tables of other types can say of their names.
type named interface {
	has(name string) bool
	names() []string
}

// known reports a reference to something that is not configured.
func (r *reading) known(name text, in named, what string) {
	if name.text == "" {
		r.fail(name.place, "no "+what+" is named", "configured here: "+strings.Join(in.names(), ", "))
		return
	}
	if in.has(name.text) || r.broken[what+"s"] {
		return
	}
	hint := "configured here: " + strings.Join(in.names(), ", ")
	if near := nearest(name.text, in.names()); near != "" {
		hint = `did you mean "` + near + `"?`
	} else if len(in.names()) == 0 {
		hint = "configure it first"
	}
	cause := "there is no such " + what
	if plain(name.text) {
		cause = "there is no " + what + ` called "` + name.text + `"`
	}
	r.fail(name.place, cause, hint)
}

func (r *reading) environment(name string, raw *rawEnvironment) Environment {
	e := Environment{
		Name:          name,
		Profile:       raw.Profile.text,
		NameFromCN:    raw.NameFromCN.value,
		Trust:         r.paths(&raw.Trust),
		AcceptableCAs: r.acceptableCAs(&raw.AcceptableCAs.list),
		Revocation:    raw.Revocation.text,
		CRL:           r.crl(&raw.CRL),
		MinRSABits:    raw.MinimumKey.RSA.value,
		MinECBits:     raw.MinimumKey.EC.value,
		RequireStaple: raw.OCSP.text == "require",
	}
	e.SignatureAlgorithms = r.signatures(&raw.SignatureAlgorithms)
	r.takes(raw.Place, "environment "+name, append(usesOf(&raw.Trust, "trust"), usesOf(&raw.CRL.Files, "CRLs")...)...)
	if !raw.NameFromCN.set {
		e.NameFromCN = e.Profile == "nhs-g1"
	}
	if len(raw.Trust.items) == 0 {
		r.fail(raw.Trust.place, "no trust files are named", "name the files that hold the roots and subCAs of the environment: trust: [live.pem]")
	}
	if raw.AcceptableCAs.set && len(raw.AcceptableCAs.items) == 0 {
		r.fail(raw.AcceptableCAs.place, "the list is empty", "write auto, or name CAs: a client that finds none of its own sends no certificate")
	}
	if e.NameFromCN && e.Profile != "nhs-g1" {
		r.warn(raw.NameFromCN.place, "names are taken from the CN where a certificate has no SAN, outside profile nhs-g1", "newer certificates carry a SAN; set it to false once all peers have one")
	}
	r.warnRevocation(raw.Revocation)
	if e.Revocation == "require" && e.CRL.none() {
		r.warnNoCRLs(raw.CRL.Files.place)
	}
	return e
}

// none reports whether no CRL can come from anywhere.
func (c *CRL) none() bool { return len(c.Files) == 0 && len(c.Hosts) == 0 }

func (r *reading) warnNoCRLs(p place) {
	r.warn(p, "every peer is refused, as revocation is require, and crl.files and crl.hosts are both empty",
		"name the hosts that CRLs are fetched from in crl.hosts, or the CRLs of the issuing CA and of the root in crl.files")
}

func (r *reading) warnRevocation(mode text) {
	switch mode.text {
	case "off":
		r.warn(mode.place, "revocation is off: revoked certificates are accepted", "set it to require")
	case "prefer":
		r.warn(mode.place, "revocation is prefer: without a current CRL a revoked certificate is accepted", "set it to require once CRLs are at hand")
	}
}

func (r *reading) crl(raw *rawCRL) CRL {
	c := CRL{
		Files:   r.paths(&raw.Files),
		Grace:   raw.Grace.value,
		MaxSize: raw.MaxSize.value,
		Refresh: raw.Refresh.value,
		Timeout: raw.Timeout.value,
		Proxy:   raw.Proxy.text,
	}
	for _, host := range raw.Hosts.items {
		if err := fetch.CheckHost(host.text); err != nil {
			hint := "write the host alone, without scheme, user and path"
			if cause := errors.Unwrap(err); cause != nil && plain(host.text) {
				hint = cause.Error()
			}
			r.fail(host.place, "must be a host, host:port, an address, address:port or a CIDR"+host.not(host.text), hint)
		} else if slices.Contains(c.Hosts, host.text) {
			r.fail(host.place, "the host is listed twice", "remove one of the two")
		}
		c.Hosts = append(c.Hosts, host.text)
	}
	if c.Proxy == "" {
		return c
	}
	proxy, err := url.Parse(c.Proxy)
	if err != nil || proxy.Scheme != "http" || proxy.Port() == "" || fetch.CheckHost(proxy.Host) != nil || proxy.User != nil || strings.Trim(proxy.Path, "/") != "" || proxy.RawQuery != "" || proxy.Fragment != "" {
		r.fail(raw.Proxy.place, "must be http://host:port, without user, password and path", "")
	}
	return c
}

// paths returns the files of a list; an empty word among them is a mistake.
func (r *reading) paths(raw *list[path]) []string {
	var files []string
	for _, f := range raw.items {
		if f.text == "" {
			r.fail(f.place, "must be a path", "")
			continue
		}
		files = append(files, f.value)
	}
	return files
}

func (r *reading) acceptableCAs(raw *list[text]) []string {
	var cas []string
	for _, ca := range raw.items {
		if ca.text == "" || strings.TrimSpace(ca.text) != ca.text {
			r.fail(ca.place, "must be the SHA-256 fingerprint or the common name of a CA", "")
		}
		if digest, ok := fingerprint(ca.text); ok {
			cas = append(cas, digest)
			continue
		}
		cas = append(cas, ca.text)
	}
	return cas
}

func (r *reading) slot(name string, raw *rawSlot, all *rawConfig, environment string) Slot {
	s := Slot{
		Name:              name,
		Environment:       environment,
		FQDN:              strings.ToLower(raw.FQDN.text),
		StrictPermissions: raw.KeyPermissions.text == "strict",
		Poll:              raw.Watch.Poll.value,
		Settle:            raw.Watch.Settle.value,
		Affects:           r.affects(&raw.Affects),
	}
	switch {
	case raw.Environment.set:
		s.Environment = raw.Environment.text
		r.known(raw.Environment, &all.Environments, "environment")
	case environment == "" && len(all.Environments.rows) > 0:
		r.fail(raw.Environment.place, "no environment is named", "name one, or set default_environment: there are several")
	}
	raw.FQDN.text = s.FQDN
	switch {
	case bool(raw.Managed.Written):
		s.Managed = r.managed(raw)
	case s.FQDN != "":
		r.hostName(raw.FQDN, "a host name")
	}
	if s.Managed == nil && !r.wrong[raw.Managed.Place.key] { // a misspelt managed misses no files
		s.Files = r.files(name, &raw.Files)
	}
	for _, rule := range raw.Guard.Allow.items {
		s.Allow = append(s.Allow, rule.text)
	}
	if !s.StrictPermissions && s.Managed == nil {
		r.warn(raw.KeyPermissions.place, "key_permissions is warn: a private key that other users may read is used", "take the permissions away from the key file, and set it to strict")
	}
	return s
}

const filesHint = "write files: {certificate: FILE, key: FILE}, perhaps with chain, or files: {pkcs12: FILE, password_file: FILE}"

func (r *reading) files(slot string, raw *rawFiles) Files {
	r.takes(raw.Place, "slot "+slot, use{&raw.Certificate, "certificate"}, use{&raw.Chain, "chain"}, use{&raw.Key, "key"}, use{&raw.PKCS12, "PKCS#12 file"}, use{&raw.PasswordFile, "password"})
	f := Files{raw.Certificate.value, raw.Chain.value, raw.Key.value, raw.PKCS12.value, raw.PasswordFile.value}
	parts := raw.Certificate.text + raw.Chain.text + raw.Key.text
	switch {
	case raw.PKCS12.text != "" && parts != "":
		r.fail(raw.Place, "names pkcs12 and single files", filesHint)
	case raw.PKCS12.text != "":
	case parts == "" && bool(raw.Written):
		r.fail(raw.Place, "no files are named", filesHint)
	case parts == "":
		r.fail(raw.Place, "no files are named", filesHint+"; or managed: {}, which keeps the identity in the state directory")
	case raw.Certificate.text == "":
		r.fail(raw.Certificate.place, "no certificate file is named", filesHint)
	case raw.Key.text == "":
		r.fail(raw.Key.place, "no key file is named", filesHint)
	}
	if raw.PasswordFile.text != "" && raw.PKCS12.text == "" {
		r.fail(raw.PasswordFile.place, "is only for pkcs12", "encrypted PEM keys are not read: convert the key once with openssl pkey")
	}
	return f
}

func (r *reading) affects(raw *rawAffects) Affects {
	return Affects{
		ODS:   r.codes(&raw.ODS, "an ODS code of letters and digits"),
		ASIDs: r.codes(&raw.ASIDs, "an ASID of digits"),
		Note:  raw.Note.text,
	}
}

var codeWords = regexp.MustCompile(`^[A-Za-z0-9]{1,32}$`)

func (r *reading) codes(raw *list[text], what string) []string {
	var codes []string
	for _, code := range raw.items {
		if !codeWords.MatchString(code.text) {
			r.fail(code.place, "must be "+what+code.not(code.text), "")
		}
		codes = append(codes, code.text)
	}
	return codes
}

// userWords is what names of users and groups may look like; a bare number is an id.
var userWords = regexp.MustCompile(`^([a-z_][a-z0-9_.-]{0,31}|[0-9]{1,10})$`)

func (r *reading) group(raw text) string {
	if raw.text != "" && (!userWords.MatchString(raw.text) || !validID(raw.text)) {
		r.fail(raw.place, "must be the name or the gid of a group"+raw.not(raw.text), "")
	}
	return raw.text
}
