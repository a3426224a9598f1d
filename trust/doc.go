// Package trust judges certificate chains: may this peer, with these
// certificates, at this moment, be who it says it is?
//
// It is pure: it reads no disk, no network and no clock. What it judges with is
// a [State], an immutable value made from a [Bundle] of CA certificates and the
// CRLs of their issuers. Many goroutines may use one State at the same time.
//
//	bundle, err := trust.ParseBundle(trust.Source{Name: "live.pem", Data: data})
//	state, err := trust.NewState(trust.StateConfig{Environment: "live", Bundle: bundle, Revocation: trust.Require})
//	verdict, err := state.Verify(chain, trust.Request{
//		Purpose: trust.ClientAuth,
//		Peers:   trust.Names("proxy.national.ncrs.nhs.uk"),
//		Now:     time.Now(),
//	})
//
// # Order of checks
//
// A path with good signatures from the leaf to a root of this environment,
// validity, extended key usage and critical extensions, the names of the peer,
// then revocation. Names come before revocation so that an unlisted peer cannot
// make anybody look for its CRL.
//
// # Errors
//
// A refusal is a [*VerifyError] with one [Reason]; the reason is also the metric
// label. Everything that is not an explicit acceptance is a refusal.
package trust
