// Package unitstory has no code but tests. They play what docs/services/systemd.md
// is about, in a systemd of their own (package box): spinecertd in the unit that
// is shipped, as the user spinecert without any capability, with nginx and
// HAProxy beside it, polkit, D-Bus and the units for commands.
//
// Every file on that page that begins with its own path is installed from there as
// it stands. The parts of the test share one box, in order.
package unitstory
