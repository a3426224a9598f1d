package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/pki"
)

// managed reads how the keys and requests of a slot are made. Everything that only a slot with files has is refused
// beside it, even where it says what the default is: whoever wrote it expects it to do something.
func (r *reading) managed(raw *rawSlot) *Managed {
	m := raw.Managed
	if raw.Files.Written {
		r.fail(m.Place, "a slot has either files or managed, not both", "remove one: files for an identity that something else keeps in files, managed for one that is asked for and kept here")
	}
	if raw.Watch.Written {
		r.fail(raw.Watch.Place, "is only for files", "remove it: a managed slot has no files to watch")
	}
	if raw.KeyPermissions.set {
		r.fail(raw.KeyPermissions.place, "is only for files", "remove it: the keys of a managed slot are written with mode 0600")
	}
	if raw.FQDN.text == "" {
		r.fail(raw.FQDN.place, "a managed slot needs the name that its certificates are for", "write fqdn: the name that is registered for the endpoint, such as pcs.thirdparty.nhs.uk")
	} else {
		r.requestName(raw.FQDN, pki.CheckCommonName)
	}
	return &Managed{Key: m.Key.text, Issuer: m.Issuer.text, Prepare: m.Prepare.value, SANs: r.sans(&m.SANs)}
}

// sans returns the alternative names to ask for. fqdn among them is no mistake: it is how a request asks for a SAN that
// holds nothing else.
func (r *reading) sans(raw *list[text]) []string {
	var names []string
	for _, name := range raw.items {
		name.text = strings.ToLower(name.text)
		if slices.Contains(names, name.text) {
			r.fail(name.place, "the name stands there twice", "remove one of the two")
			continue
		}
		r.requestName(name, pki.CheckName)
		names = append(names, name.text)
	}
	return names
}

// requestName judges a name that requests will ask for. The message names every rule it breaks, and where each is written.
func (r *reading) requestName(name text, check func(string) error) {
	if r.wrong[name.key] {
		return
	}
	err := check(name.text)
	if err == nil {
		return
	}
	var broken []string
	for _, e := range nameErrors(err) {
		broken = append(broken, fmt.Sprintf("%s (rule %s: %s)", e.Detail, e.Rule, e.Source))
	}
	subject, hint := "the name", ""
	if plain(name.text) { // else it may be text that stands here by mistake, and advice repeats it
		subject, hint = `the name "`+name.text+`"`, pki.Hint(err)
	}
	r.fail(name.place, subject+" "+strings.Join(broken, "; "), hint)
}

// nameErrors returns the leaves of the joined error that judges a name.
func nameErrors(err error) []*pki.NameError {
	switch e := err.(type) {
	case *pki.NameError:
		return []*pki.NameError{e}
	case interface{ Unwrap() []error }:
		var all []*pki.NameError
		for _, inner := range e.Unwrap() {
			all = append(all, nameErrors(inner)...)
		}
		return all
	}
	return nil
}

// keepManaged refuses to keep nothing on disk where a slot has its only copy there.
func (r *reading) keepManaged(raw *rawConfig, c *Config) {
	keep := raw.State.KeepGenerations
	if keep.value > 0 {
		return
	}
	for _, s := range c.Slots {
		if s.Managed != nil {
			r.fail(keep.place, "must be at least 1 while a slot is managed", "write 5, the default: the identities of managed slots are kept nowhere else")
			return
		}
	}
}
