// Command bench measures spinecertd beside nginx (stream), HAProxy and stunnel
// on one machine in one run, and prints the ratios that DESIGN.md, section 9
// sets as targets.
//
//	make bench
//	go run ./bench -quick -only nginx,spinecert
//	go run ./bench -only revocation
//	go run ./bench -only services
//
// What is measured is the proxy's own CPU time (user and system, from
// /proc/PID/stat, over its process tree) and its own memory (from
// /proc/PID/smaps_rollup), not throughput: those hold on a machine that others
// use too. The load generator and the backend live in this process and are not
// counted. The proxies take turns within each round, so that a noisy minute
// meets all of them.
//
// Of revocation it measures a CRL of 1,000,000 entries: in package trust, beside
// HAProxy, replaced under load, and what it does to open connections.
//
// Of services it measures a rotation that feeds twenty nginx, in turns with the same
// reloads by hand, one that feeds one, and what a thousand with nothing to do cost.
//
// Of a daemon with 10,000 slots it measures starts and upgrades, scrapes, and what it
// takes at rest; of one with 1,000 the status page.
//
// Nothing here gates a test: a missed target is a line in a table, and the exit
// status is 1 only when something could not be measured.
package main
