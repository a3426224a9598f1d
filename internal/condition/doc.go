// Package condition is the table of what can be wrong with a daemon, and what one such
// thing looks like. Status, check, doctor, metrics, alerts, the status page and the manual
// all speak of conditions, and all of them from this table, so that they cannot disagree.
//
//	c := condition.Condition{Code: condition.Expiring, Kind: condition.Slot, Subject: "pcs", ...}
//	c.Complete("")                  // ID, title, command and runbook, from the table
//	fmt.Println(c.ID, c.Command)    // expiring/slot/pcs spinecert csr new --slot pcs
//
// A [Condition] is a value, and what the daemon's JSON has. The package knows the words;
// whether something is wrong is for internal/daemon to find out, and when somebody is told
// for internal/alert. Nothing here can fail, and everything is safe for several goroutines.
package condition
