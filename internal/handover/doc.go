// Package handover starts the installed program beside the running one and gives it what the two cannot both open:
// listening sockets and the lock of the state directory. Live connections are never handed over: the old process
// keeps its own until they end.
//
// # What is said
//
// Over a socket pair, a line of JSON each:
//
//	old -> new   offer    what the inherited descriptors are
//	new -> old   hello    the configuration is good
//	old -> new   stage    the old process changes nothing any more: read everything
//	new -> old   ready    all is staged; nothing was changed, and nothing is accepted yet
//	old -> new   go       the directory and the sockets are yours
//	new -> old   serving  connections are accepted; the old process stops accepting
//	new -> old   note     what concerns open connections, and only the new process was told
//	new -> old   leave    the new process is asked to end; without that word its end is a crash
//
// In place of hello and ready the new process may say why not. Until go the old process goes on as if nothing had been, whatever
// happens to the new one; a process that ends is noticed by the end of its socket. After go there is no way back: the
// new process has begun to write.
//
// # The parent
//
// Under systemd the new process is made a sibling of the old one (CLONE_PARENT), and so a child of systemd, which sees it end as it
// would the old one. Elsewhere it is a child.
//
// # Concurrency
//
// The methods of a Successor or a Predecessor are for one goroutine, but for Kill, Hangup, Tell and Leave.
package handover
