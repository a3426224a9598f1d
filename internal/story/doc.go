// Package story has no code but tests. They play, with the real programs started
// as processes, what happens to a certificate over the years: it is asked for,
// comes back by mail, serves, is renewed, rolled back and asked for again, while
// requests go through the tunnel that uses it.
//
// Each script in testdata is one story. spinecert and spinecertd are the test
// binary itself, so that the race detector is in both. Beside the commands of
// testscript there are
//
//	run STATUS COMMAND...          spinecert with the configuration of the script, and its exit status
//	json PATH VALUE                what its last line says, with --output json
//	daemon start|stop|kill         spinecertd: start waits until it answers, kill is SIGKILL
//	authority sign CSR OUT [FLAG]  the authority answers a request, in the form in which answers come
//	authority issue NAME [FLAG]    NAME.crt and NAME.key, for a slot with files
//	traffic start|serves|kept|check|stop
//	                               requests through the tunnel all the time, on kept, new and resumed connections
//	wait-for PATH VALUE            until the status of the daemon says so
//	wait-file FILE [TEXT]          until the file is there, with the text in it
//	drop FILE NAME                 into the inbox, as NAME
//
// Everything that is waited for has an end, and nothing sleeps in its place.
package story
