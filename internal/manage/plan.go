package manage

import (
	"slices"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// Plan translates the configuration for package rotate. The CA certificates that
// were added to an environment in the state directory join its trust files; d may
// be nil. Where they cannot be listed their directory stands for them: it cannot be
// read either, so that the environment keeps the trust it has and says why.
func Plan(c *config.Config, d *state.Directory) rotate.Plan {
	var p rotate.Plan
	for _, e := range c.Environments {
		files := slices.Clone(e.Trust)
		if d != nil {
			added, err := d.TrustFiles(e.Name)
			if err != nil {
				added = []string{d.TrustPath(e.Name)}
			}
			files = append(files, added...)
		}
		p.Environments = append(p.Environments, rotate.EnvironmentConfig{
			Name: e.Name, Profile: trust.Profile(e.Profile), NameFromCN: e.NameFromCN, Trust: files, CRLs: e.CRL.Files,
			Fetch:  rotate.CRLFetch{Hosts: e.CRL.Hosts, Proxy: e.CRL.Proxy, Refresh: e.CRL.Refresh, Timeout: e.CRL.Timeout},
			MaxCRL: e.CRL.MaxSize, AcceptableCAs: e.AcceptableCAs, Revocation: trust.Mode(e.Revocation), Grace: e.CRL.Grace,
			MinRSABits: e.MinRSABits, MinECBits: e.MinECBits, Signatures: e.SignatureAlgorithms, RequireStaple: e.RequireStaple,
		})
	}
	for _, s := range c.Slots {
		p.Slots = append(p.Slots, rotate.SlotConfig{
			Name: s.Name, Environment: s.Environment, FQDN: s.FQDN, Files: rotate.Files(s.Files), Managed: s.Managed != nil,
			Keep: c.State.KeepGenerations, AllowReadableKey: !s.StrictPermissions, Allow: s.Allow, Poll: s.Poll, Settle: s.Settle,
		})
	}
	return p
}
