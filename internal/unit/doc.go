// Package unit says what a configuration needs of systemd and polkit beyond the unit that is shipped, spinecertd.service: a user without any right
// beyond its state directory.
//
//	needs := unit.Of(c, host)
//	plan := needs.Plan() // files to be copied, commands, notes
//
// It is pure: what it must know of the host comes in with [Host]. Nothing is written and nothing is asked of systemd.
//
// What a file says is quoted as the program that reads it demands: unit files as in systemd.syntax(7), with % for specifiers doubled, the rule of polkit
// as JavaScript.
package unit
