// Package fetch asks an HTTP server for one file, and trusts nobody on the way. It is
// for lists of revoked certificates, whose addresses strangers write into
// certificates, and for published CA bundles.
//
//	client, err := fetch.New(fetch.Config{
//		Hosts:    []string{"crl.nhs.uk", "10.20.0.0/16"}, // the second: where the first is in HSCN
//		MaxBytes: 64 << 20,
//	})
//	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
//	defer cancel()
//	answer, err := client.Get(ctx, "http://crl.nhs.uk/int/1d/crlc3.crl", kept.Known, spool)
//	if err == nil && answer.Unchanged {
//		// spool is empty: what is kept is current
//	}
//
// # What is asked
//
// Scheme, host and port of the address, and of each of at most three redirects, must
// be among those of [Config]. The address that is connected to is judged when it is
// connected to, so a name that points inward, or does so a moment later, leads
// nowhere. A listed name permits no private address: the address or its CIDR must be
// listed too. Only a proxy that the configuration names is used.
//
// # What is taken
//
// 200 with a body of 1 to MaxBytes bytes, whole and not compressed, or 304 to a
// conditional request. What the body holds is for the caller to judge, and nothing
// about http says who wrote it.
//
// # Concurrency
//
// A [Client] is immutable, and many goroutines may use one. [Client.Get] leaves
// neither a connection nor a goroutine behind.
//
// # Errors
//
// Each error of [Client.Permits] and [Client.Get] is an [*Error] with a one-word
// reason and a hint, of bounded length and printable whatever the address and the
// server say. No error holds a password. The package logs nothing.
package fetch
