// Package alert decides who is told what, and when, of the conditions of a daemon.
//
// Each condition that lasts is an alert with a life of its own: opened, escalated when it
// grows worse, repeated as long as nobody acknowledges it, resolved. A [Book] keeps these
// lives, and for each sink what it is still to be told; it has no clock and no disk, and is
// given both. [Run] keeps a book up to date: it looks at the conditions again and again,
// writes the book to a file before anything is sent, and sends.
//
// What a sink does not take waits, in the file as well, at most one notice for each alert
// and sink: what happens meanwhile is merged into it. So nothing is lost while a relay is
// down for days, and nobody is flooded when it is back.
package alert
