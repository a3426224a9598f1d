package pki

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// NameError says which rule for names in requests a name breaks.
type NameError struct {
	Name   string // as it was given
	Rule   string // one word: empty, address, wildcard, underscore, case, characters, label, hyphen, length, common-name, domain
	Detail string // the rule, as a sentence about the name
	Source string // where the rule is written
	Advice string // the next action
}

// Error returns `judge name "x": cause (rule r, source)`.
func (e *NameError) Error() string {
	return fmt.Sprintf("judge name %q: %s (rule %s: %s)", e.Name, e.Detail, e.Rule, e.Source)
}

// Hint returns the next action.
func (e *NameError) Hint() string { return e.Advice }

const (
	nhsDomain     = ".nhs.uk"
	maxCommonName = 64  // characters: ub-common-name
	maxName       = 253 // octets of 255, without the root's and the first length
	maxNameLabel  = 63
)

// nameRule is one row of the table of rules.
type nameRule struct {
	rule   string
	source string
	breaks func(name string) (detail, advice string) // "" where the name keeps the rule
	last   bool                                      // what breaks it needs no other rule
}

// nameRules is the table, in the order in which people will want to know.
func nameRules() []nameRule {
	const spine = "SPINE.md, section 4"
	return []nameRule{
		{"empty", spine, func(n string) (string, string) {
			if n == "" {
				return "is empty", "give the fully qualified name of the endpoint, such as pcs.thirdparty.nhs.uk"
			}
			return "", ""
		}, true},
		{"address", spine + ": the name is registered in DNS", isAddress, true},
		{"wildcard", spine + ": no wildcard", func(n string) (string, string) {
			if strings.Contains(n, "*") {
				return "has a wildcard", "make a request for each name, and write it out"
			}
			return "", ""
		}, false},
		{"underscore", spine + ": labels a-z 0-9 and '-', no underscore", func(n string) (string, string) {
			if strings.Contains(n, "_") {
				return "has an underscore", "register a name with a hyphen in its place: " + strings.ReplaceAll(n, "_", "-")
			}
			return "", ""
		}, false},
		{"case", spine + ": labels a-z 0-9 and '-'", func(n string) (string, string) {
			if lower := normalName(n + "."); lower != n {
				return "has capital letters", "write it in lower case, DNS does not tell them apart: " + lower
			}
			return "", ""
		}, false},
		{"characters", spine + ": labels a-z 0-9 and '-'", oddCharacters, false},
		{"label", "RFC 1035, section 2.3.4: labels of 1 to 63 octets", badLabel, false},
		{"hyphen", "RFC 1123, section 2.1: a label begins and ends with a letter or digit", badHyphen, false},
		{"length", "RFC 1035, section 2.3.4: names of at most 255 octets", func(n string) (string, string) {
			if len(n) > maxName {
				return fmt.Sprintf("has %d characters, %d are the most", len(n), maxName), "register a shorter name"
			}
			return "", ""
		}, false},
		{"domain", spine + ": under .nhs.uk", func(n string) (string, string) {
			host := normalName(n)
			if !strings.HasSuffix(host, nhsDomain) || host == nhsDomain {
				return "is not under nhs.uk", "use the name that is registered for the endpoint, such as <name>.thirdparty.nhs.uk"
			}
			return "", ""
		}, false},
	}
}

// CheckName judges a name that a request asks for, by SPINE.md, 4 and the rules
// for host names. It looks nothing up. The error joins one [*NameError] for each
// rule that the name breaks.
func CheckName(name string) error {
	var errs []error
	for _, r := range nameRules() {
		detail, advice := r.breaks(name)
		if detail == "" {
			continue
		}
		errs = append(errs, &NameError{Name: name, Rule: r.rule, Detail: detail, Source: r.source, Advice: advice})
		if r.last {
			break
		}
	}
	return errors.Join(errs...)
}

// CheckCommonName is CheckName with the limit of a common name, 64 characters.
func CheckCommonName(name string) error {
	err := CheckName(name)
	if n := len([]rune(name)); n > maxCommonName {
		err = errors.Join(err, &NameError{
			Name: name, Rule: "common-name", Detail: fmt.Sprintf("has %d characters, a common name has at most %d", n, maxCommonName),
			Source: "RFC 5280, appendix A.1: ub-common-name", Advice: "register a shorter name",
		})
	}
	return err
}

func isAddress(n string) (detail, advice string) {
	if _, err := netip.ParseAddr(strings.Trim(n, "[]")); err == nil {
		return "is an IP address", "use the name of the endpoint that DNS has for the address"
	}
	return "", ""
}

// oddCharacters finds what no label may have and no other rule names.
func oddCharacters(n string) (detail, advice string) {
	for _, r := range n {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-._*", r):
		case r == '@':
			return "is an e-mail address", "give the name of the endpoint; the request holds no e-mail address"
		case strings.ContainsRune(":/", r):
			return fmt.Sprintf("has the character %q", r), "give the host name alone, without scheme, port and path"
		default:
			return fmt.Sprintf("has the character %q", r), "use the letters a-z, digits, '-' and the dots between labels"
		}
	}
	return "", ""
}

func badLabel(n string) (detail, advice string) {
	if n != "" && strings.HasSuffix(n, ".") {
		return "ends with a dot", "write it without the last dot"
	}
	for label := range strings.SplitSeq(n, ".") {
		switch {
		case label == "":
			return "has an empty label", "take the extra dot away"
		case len(label) > maxNameLabel:
			return fmt.Sprintf("has a label of %d characters, %d are the most", len(label), maxNameLabel), "register a name with shorter labels"
		}
	}
	return "", ""
}

func badHyphen(n string) (detail, advice string) {
	for label := range strings.SplitSeq(n, ".") {
		if strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return fmt.Sprintf("has the label %q, which begins or ends with a hyphen", label), "register a name whose labels begin and end with a letter or digit"
		}
	}
	return "", ""
}
