// Package sink has the ways on which alerts leave the host: mail, Alertmanager, webhooks, programs and the log.
//
//	s, err := sink.New(config.Sink{Name: "ops", Type: config.SinkEmail, ...}, sink.Options{Host: "gateway1"})
//	if s.Mirror != nil { err = s.Mirror.Show(ctx, active, resolved) } else { err = s.Sender.Send(ctx, message) }
//
// # What is read when
//
// New reads the template of a webhook, and nothing else: a template that cannot be used is an error of the configuration. What is secret, or renewed, such
// as the files of a password, of an address or of roots, is read for each attempt, so that a new one counts at once.
//
// # Words
//
// One place writes what people read (text.go), and one makes it harmless (safe.go). Names from certificates, answers of peers and notes of operators reach
// every sink without control characters, line breaks and changes of writing direction, and bounded. Each format escapes what means something to it on top
// of that.
//
// # Networks
//
// A peer may refuse, hang, close, answer garbage or without end: each attempt ends with its context or its timeout, and reads a bounded number of bytes.
// No proxy of the environment is used and no redirect is followed. TLS is 1.2 or later and always verified. Where TLS is demanded, nothing is said without
// it; a password is never sent without it, unless to the host itself.
//
// # Errors and concurrency
//
// Every error of Send and Show is an [*Error]: one line that names the host of an address, never its path or query, and no password, with a hint. New
// returns plain errors with a hint. A sink is used by one goroutine at a time; several sinks are independent of each other.
package sink
