package lint

import (
	"fmt"
	"slices"
	"strings"
)

const (
	spine2 = "SPINE.md, 2"
	spine3 = "SPINE.md, 3"
	spine4 = "SPINE.md, 4"
)

// of lists what a rule applies to.
func of(targets ...Target) []Target { return targets }

// nameRows are the rules about names. Those about the letters of a name are the
// rules of pki.CheckName, by which this program makes requests.
func nameRows() []row {
	const another = "ask for a certificate for the registered name of the endpoint: spinecert csr new"
	return []row{
		{Rule{"name-missing", of(TargetLeaf), "The certificate names a host: by a dNSName or, where there is no subject alternative name, by its one common name.",
			spine3, Error, "no peer can accept it by name; " + another}, noName},
		{Rule{"common-name", of(TargetLeaf), "The subject has exactly one common name.",
			spine4, Warning, "programs that read the common name take another one, or none; have the next one issued with the FQDN as its one common name"}, commonNameCount},
		{Rule{"name-wildcard", of(TargetLeaf, TargetRequest), "No name has a wildcard.",
			spine4, Error, "make a request for each name, and write it out"}, nameFault("wildcard")},
		{Rule{"name-underscore", of(TargetLeaf, TargetRequest), "No name has an underscore.",
			spine4, Error, "register a name with a hyphen in its place, and make a request for that"}, nameFault("underscore")},
		{Rule{"name-address", of(TargetLeaf, TargetRequest), "No name is an IP address.",
			spine4, Error, "use the name that DNS has for the address"}, nameFault("address")},
		{Rule{"name-syntax", of(TargetLeaf, TargetRequest), "Each name is one of a host: labels of 1 to 63 letters, digits and inner hyphens, 253 characters in all.",
			"RFC 5280, Section 4.2.1.6", Error, another}, nameFault("empty", "characters", "label", "hyphen", "length")},
		{Rule{"name-domain", of(TargetLeaf, TargetRequest), "Each name is under nhs.uk.",
			spine4, Error, another}, nameFault("domain")},
		{Rule{"name-case", of(TargetLeaf), "Names are in lower case.",
			spine4, Info, "nothing: peers must not tell case apart; ask for lower case the next time"}, nameFault("case")},
		{Rule{"request-name-case", of(TargetRequest), "Names are in lower case.",
			spine4, Warning, "make the request again in lower case, DNS does not tell them apart: spinecert csr new"}, nameFault("case")},
		{Rule{"common-name-length", of(TargetLeaf, TargetRequest), "The common name has at most 64 characters.",
			"RFC 5280, Appendix A.1", Error, "register a shorter name"}, nameFault("common-name")},
		{Rule{"common-name-not-in-san", of(TargetLeaf, TargetRequest), "The common name is among the dNSNames, where there are any.",
			"RFC 6125, Section 6.4.4", Warning, "verifiers look at the dNSNames alone: put the common name among them"}, notInSAN},
		{Rule{"san-missing", of(TargetLeaf), "There is a subject alternative name.",
			spine3, Info, "nothing, if it is G1: name_from_cn lets peers with such certificates in; other programs may refuse it"}, func(s *subject) string {
			if s.has(oidSAN) {
				return ""
			}
			return "there is no subject alternative name: the name is that of the CN"
		}},
		{Rule{"san-types", of(TargetLeaf, TargetRequest), "The subject alternative name holds dNSNames and nothing else.",
			spine4, Warning, "an endpoint of Spine is known by its FQDN alone: leave the others out"}, func(s *subject) string {
			if kinds := s.otherNames(); len(kinds) > 0 {
				return "the subject alternative name has names of the kind " + strings.Join(kinds, ", ")
			}
			return ""
		}},
		{Rule{"email", of(TargetLeaf), "There is no e-mail address, neither in the subject nor in the subject alternative name.",
			spine4, Warning, "nothing breaks; leave it out of the next request"}, emailAddress},
		{Rule{"request-email", of(TargetRequest), "There is no e-mail address, neither in the subject nor in the subject alternative name.",
			spine4, Error, "make the request again and leave the e-mail address blank: spinecert csr new"}, emailAddress},
		{Rule{"hidden-characters", of(TargetLeaf, TargetCA, TargetRequest), "Names have no control characters and no others that do not print.",
			"RFC 5280, Section 4.2.1.6", Error, "do not use it, and ask where it comes from: such names are made to deceive"}, hiddenCharacters},
	}
}

// nameFault finds the names that break one of these rules of pki.CheckName.
func nameFault(rules ...string) func(*subject) string {
	return func(s *subject) string {
		var faults []string
		for _, rule := range rules {
			faults = append(faults, s.faults[rule]...)
		}
		return few(faults)
	}
}

func noName(s *subject) string {
	switch {
	case len(s.dnsNames) > 0:
		return ""
	case s.has(oidSAN):
		return "the subject alternative name has no dNSName, and the common name must not stand in for it"
	case len(s.commonNames) != 1:
		return fmt.Sprintf("there are no subject alternative name and %d common names", len(s.commonNames))
	}
	return ""
}

func commonNameCount(s *subject) string {
	if n := len(s.commonNames); n != 1 {
		return fmt.Sprintf("the subject has %d common names", n)
	}
	return ""
}

func notInSAN(s *subject) string {
	if len(s.dnsNames) == 0 || len(s.commonNames) != 1 {
		return ""
	}
	cn := s.commonNames[0]
	same := func(name string) bool {
		return strings.EqualFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(cn, "."))
	}
	if slices.ContainsFunc(s.dnsNames, same) {
		return ""
	}
	return "the common name " + quote(cn) + " is not among the dNSNames"
}

func emailAddress(s *subject) string {
	var quoted []string
	for _, address := range s.emails {
		quoted = append(quoted, quote(address))
	}
	if len(quoted) == 0 {
		return ""
	}
	return "it has the e-mail address " + few(quoted)
}

func hiddenCharacters(s *subject) string {
	var found []string
	note := func(name string) {
		if hidden(name) && !slices.Contains(found, quote(name)) {
			found = append(found, quote(name))
		}
	}
	for _, a := range s.attributes {
		note(textOf(a.Value))
	}
	for _, name := range slices.Concat(s.dnsNames, s.emails) {
		note(name)
	}
	if len(found) == 0 {
		return ""
	}
	return few(found) + " has characters that do not print"
}
