package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// pkitsVector is one test of vectors.json, which ships with Go.
type pkitsVector struct {
	Name                        string
	CertPath, CRLPath           []string // the trust anchor first
	ShouldValidate              bool
	InitialPolicySet            []string
	InitialPolicyMappingInhibit bool
	InitialExplicitPolicy       bool
	InitialAnyPolicyInhibit     bool
}

// laxer reports whether the vector asks for less than every policy. The program
// has one setting, any policy; what certificates ask for is honoured all the same.
func (v *pkitsVector) laxer() bool {
	return !slices.Contains(v.InitialPolicySet, "anyPolicy") || v.InitialExplicitPolicy || v.InitialPolicyMappingInhibit || v.InitialAnyPolicyInhibit
}

// pkitsTime is within the validity of the suite, 2010 to 2030.
var pkitsTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// The reasons why vectors do not apply.
const (
	naDSA       = "DSA is not accepted"
	naNames     = "names are chained as their DER is: SPINE.md, 3; refused, as unknown_issuer"
	naPathLen   = "crypto/x509 counts self-issued certificates against pathLenConstraint; refused, as path_length"
	naDN        = "constraints on directory names are not implemented; refused, as critical_extension"
	naHost      = "crypto/x509 excludes the subdomains of a host as well; refused, as name_constraint"
	naRelative  = "distribution points relative to an issuer are not implemented; refused, as malformed or crl_invalid"
	naReasons   = "CRLs for some reasons only are not implemented; refused, as crl_invalid"
	naIndirect  = "indirect CRLs are not implemented; refused, as crl_invalid"
	naDelta     = "delta CRLs are not used (RFC 5280, Section 6.3.1, use-deltas unset); refused, as crl_invalid"
	naPolicySet = "needs an initial policy set of its own; the program accepts any policy"
)

// pkitsNotApplicable holds the vectors that do not apply, by their number.
// All but 4.15.4 want an acceptance that is refused here.
var pkitsNotApplicable = map[string]string{
	"4.1.4": naDSA, "4.1.5": naDSA,
	"4.3.3": naNames, "4.3.4": naNames, "4.3.5": naNames, "4.3.10": naNames, "4.3.11": naNames,
	"4.6.15": naPathLen, "4.6.17": naPathLen,
	"4.13.1": naDN, "4.13.4": naDN, "4.13.5": naDN, "4.13.6": naDN, "4.13.11": naDN, "4.13.14": naDN, "4.13.18": naDN, "4.13.19": naDN, "4.13.27": naDN,
	"4.13.25": naHost, "4.13.36": naHost,
	"4.14.4": naRelative, "4.14.5": naRelative, "4.14.7": naRelative, "4.14.29": naRelative,
	"4.14.18": naReasons, "4.14.19": naReasons,
	"4.14.22": naIndirect, "4.14.24": naIndirect, "4.14.25": naIndirect, "4.14.28": naIndirect, "4.14.30": naIndirect, "4.14.33": naIndirect,
	// Valid but for the delta, which without use-deltas nobody reads.
	"4.15.4": naDelta, "4.15.5": naDelta,
}

func pkits(l *lab) ([]outcome, error) {
	crls, err := shared("vectors", "pkits", "crls")
	if err != nil {
		return nil, err
	}
	root, err := exec.CommandContext(l.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, &missing{fmt.Sprintf("go env GOROOT: %v", err), true}
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "src", "crypto", "x509", "testdata", "nist-pkits")
	data, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		return nil, &missing{fmt.Sprintf("the vectors do not come with this Go: %v", err), true}
	}
	var vectors []pkitsVector
	if err := json.Unmarshal(data, &vectors); err != nil {
		return nil, fmt.Errorf("read vectors: %w", err)
	}
	var out []outcome
	for _, v := range vectors {
		o := outcome{name: v.Name, got: v.judge(filepath.Join(dir, "certs"), crls, false)}
		if !v.ShouldValidate {
			o.want = anyReason
		}
		if bundled := v.judge(filepath.Join(dir, "certs"), crls, true); (bundled == nil) != (o.got == nil) {
			l.Errorf("%s: with its subCAs presented %v, with them in the bundle %v", v.Name, o.got, bundled)
		}
		number, _, _ := strings.Cut(v.Name, " ")
		o.na = pkitsNotApplicable[number]
		if v.laxer() && !v.ShouldValidate && o.got == nil {
			o.na = naPolicySet // what is valid under that setting is valid under any: those apply
		}
		if o.na != "" && o.got == nil && o.na != naPolicySet && o.na != naDelta {
			l.Errorf("%s applies after all: it is accepted", v.Name)
		}
		out = append(out, o)
	}
	return out, nil
}

// judge verifies the path of v. The CAs of the path are those whose CRLs are read,
// as those of the bundle are in an environment; they are presented by the peer,
// or with bundled in the bundle, as far as it takes them.
func (v *pkitsVector) judge(certs, lists string, bundled bool) error {
	var path []*x509.Certificate
	for _, file := range v.CertPath {
		der, err := os.ReadFile(filepath.Join(certs, file))
		if err != nil {
			return err
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return &refusal{trust.Malformed, err.Error()} // a TLS peer gets no further either
		}
		path = append(path, c)
	}
	slices.Reverse(path)
	last := len(path) - 1
	sources := []trust.Source{{Name: "anchor", Data: path[last].Raw}}
	presented := path[:last]
	if bundled {
		for _, c := range path[1:last] {
			if _, err := trust.ParseBundle(sources[0], trust.Source{Name: "subca", Data: c.Raw}); err == nil {
				sources = append(sources, trust.Source{Name: "subca", Data: c.Raw})
			}
		}
	}
	bundle, err := trust.ParseBundle(sources...)
	if err != nil {
		return err
	}
	config := trust.StateConfig{Bundle: bundle, Profile: trust.Private, Revocation: trust.Require}
	for _, file := range v.CRLPath {
		der, err := os.ReadFile(filepath.Join(lists, file))
		if err != nil {
			return err
		}
		if crl, err := trust.ReadCRL(der, file, path); err == nil { // one that is refused is not in force
			config.CRLs = append(config.CRLs, crl)
		}
	}
	state, err := trust.NewState(config)
	if err != nil {
		return err
	}
	_, err = state.Verify(presented, trust.Request{Peers: trust.AnyName(), Now: pkitsTime})
	return err
}
