// Package rotate keeps TLS identities and the trust they stand under up to date
// while they are in use: it watches files, judges what it finds there and hands
// out a [*crypto/tls.Config] that is always of one piece.
//
//	keeper := rotate.New(rotate.Options{Events: tell})
//	go keeper.Run(ctx)
//	err := keeper.Apply(ctx, rotate.Plan{
//		Environments: []rotate.EnvironmentConfig{{Name: "live", Trust: []string{"/etc/spinecert/trust/live.pem"}}},
//		Slots:        []rotate.SlotConfig{{Name: "pcs", Environment: "live", Files: rotate.Files{Certificate: "/etc/pki/pcs.crt", Key: "/etc/pki/pcs.key"}}},
//	})
//	slot := keeper.Slot("pcs")
//	inbound, err := slot.ServerConfig(trust.Names("proxy.national.ncrs.nhs.uk"))
//	outbound, err := slot.Endpoint(rotate.EndpointConfig{Role: rotate.Client, Peers: trust.Names("sds.national.ncrs.nhs.uk")})
//	conn, err := outbound.Dial(ctx, "tcp", "sds.national.ncrs.nhs.uk:443")
//
// # What it promises
//
// A [Slot] serves a [Snapshot]: one [Generation] (leaf, chain and key that fit
// together) and one trust state, behind one pointer. A connection loads it once,
// so it never sees half of two.
//
// What is served is replaced only by something that was read whole, fits
// together, passes the trust of its [Environment] and the guard rules. Everything
// else leaves the last good identity in service, for ever, and is tried again: on
// the next event, on back-off, when trust changes, at its notBefore.
//
// Trust is another stream. A new bundle or CRL is in force for all slots of the
// environment at once, whatever their own files are doing and whether or not
// their own certificates pass it. It never goes back to an older state, and an
// older CRL never takes the place of a newer one.
//
// Sessions are resumed within one generation only, and a resumed session is
// judged like a new one.
//
// # How changes are found
//
// Events of inotify decide how fast a change is found, the poll decides that it
// is found: where directories cannot be watched, events are lost or a network
// file system gives none, it takes [SlotConfig] Poll at most. Files may be
// renamed over, written in place, linked, or swapped with their directory, in
// any order. Files that do not answer hold up no other source.
//
// # Concurrency
//
// [Keeper.Run] is the one writer. All methods of Keeper, Slot, Environment and
// Endpoint may be called by many goroutines; Apply and those that wait for an
// outcome need a Run. [Slot.Snapshot], [Slot.Status] and [Endpoint.TLS] never
// block. Events are told one at a time by the run loop, which must not be kept.
//
// # Errors
//
// A plan that cannot be is an error of [Keeper.Apply], and changes nothing. Bad
// material is never one: it is a [*Refusal] in the status of the slot or
// environment, and an [Event], told once per cause. A Refusal has a one-word
// reason (that of package trust where trust refused), the guard rule that would
// let it through if there is one, and a hint. No error holds content of files.
package rotate
