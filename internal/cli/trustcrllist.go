package cli

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

// trustCRLListResult is the result of trust crl without a file.
type trustCRLListResult struct {
	Environments []environmentCRLs `json:"environments"`
	now          time.Time
}

// environmentCRLs is what an environment has of lists.
type environmentCRLs struct {
	Name       string      `json:"name"`
	Revocation string      `json:"revocation"`
	CRLs       []admin.CRL `json:"crls"`
}

// runTrustCRLList asks the daemon which lists it has.
func runTrustCRLList(ctx context.Context, o *trustCRLOptions) (*trustCRLListResult, error) {
	s, err := o.daemon.client().Status(ctx)
	if err != nil {
		return nil, o.needsDaemon(err)
	}
	r := &trustCRLListResult{Environments: []environmentCRLs{}, now: o.now}
	var names []string
	for i := range s.Environments {
		e := &s.Environments[i]
		names = append(names, e.Name)
		if o.environment == "" || o.environment == e.Name {
			r.Environments = append(r.Environments, environmentCRLs{Name: e.Name, Revocation: e.Revocation, CRLs: append([]admin.CRL{}, e.CRLs...)})
		}
	}
	if o.environment != "" && !slices.Contains(names, o.environment) {
		_, err = o.pick(names, "")
		return nil, err
	}
	return r, nil
}

// show writes a table for each environment, and below it what went wrong.
func (r *trustCRLListResult) show(p *page) {
	for i := range r.Environments {
		e := &r.Environments[i]
		p.blank()
		p.line("environment %s: revocation %s, %s in force", e.Name, e.Revocation, count(crlsInForce(e.CRLs), "CRL"))
		var rows [][]string
		var troubles []trouble
		for j := range e.CRLs {
			c := &e.CRLs[j]
			rows = append(rows, []string{c.Issuer, c.Number, crlEnd(c, r.now), crlInForce(c), c.Source, stamp(c.Fetched.Time), stamp(c.Next.Time), c.Origin})
			troubles = append(troubles, crlTrouble(c))
		}
		section(p, []string{"CRL OF", "NUMBER", "NEXT UPDATE", "IN FORCE", "SOURCE", "FETCHED", "NEXT TRY", "FROM"}, rows, troubles...)
	}
}

func crlsInForce(crls []admin.CRL) int {
	n := 0
	for i := range crls {
		if crls[i].InForce {
			n++
		}
	}
	return n
}

func crlInForce(c *admin.CRL) string {
	if c.InForce {
		return "yes"
	}
	return "no"
}

// crlEntries is "" for a list that was never had.
func crlEntries(c *admin.CRL) string {
	if c.NextUpdate.IsZero() {
		return ""
	}
	return strconv.Itoa(c.Entries)
}

// crlEnd says until when a list is current.
func crlEnd(c *admin.CRL, now time.Time) string {
	end := stamp(c.NextUpdate.Time)
	if end != "" && now.After(c.NextUpdate.Time) {
		end += " (past)"
	}
	return end
}

// crlTrouble is why a list could not be had.
func crlTrouble(c *admin.CRL) trouble {
	if c.Error == "" {
		return trouble{}
	}
	return trouble{name: c.Origin, text: c.Error, hint: c.Hint}
}
