// Package web is the status page: one page, drawn on the server, that says how a daemon
// stands, the JSON behind it, and a stream of events that tells an open page to look again.
//
//	page := web.New(web.Options{View: view, Host: web.LoopbackHost, Changes: changes, Ended: ended})
//
// The page needs no script: with one, it renews itself when what it shows has changed.
// Everything is read-only, and comes from this program alone; a strict policy of content
// forbids the rest. What certificates and peers say is text here, never markup, and
// characters that move a cursor or turn a line are written as escapes.
//
// Requests that another site makes a browser send are refused, by their Host, their Origin
// and what the browser says of where they come from. The handler may be used by several
// goroutines; it has no goroutine of its own, and keeps nothing but the last view, for a
// moment.
package web
