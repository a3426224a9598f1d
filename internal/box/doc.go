// Package box boots a real systemd for tests: PID 1, D-Bus, polkit, the journal, units and their sandboxing.
//
//	b := box.Start(t)
//	b.Push("/etc/systemd/system/x.service", unit, 0o644)
//	b.Run("systemctl", "daemon-reload")
//	out, err := b.Exec(ctx, "systemctl", "start", "x.service")
//
// A box is systemd-nspawn over an overlay of the root file system of this machine, so that every program that is installed here
// is there too, and nothing that is written in it is kept. It has an empty /tmp and /run, a loopback of its own (ports
// never clash with those of the host, and are reached from within, or with Dial), and none of the services that the
// host starts: it boots to basic.target, and units are started by whoever wants them.
//
// # What it needs
//
// Root, systemd-nspawn (Debian: systemd-container), dbus, nsenter, and leave to mount. PID 1 of the host need not be systemd. Where
// something is missing the test is skipped with the reason; with CI=true it fails.
//
// # What is left of it
//
// Nothing. The mounts live in a mount namespace of the box and end with its last process, and that ends with the test process, even when that is
// killed. What remains of a killed one, a directory and control groups, is removed by the next Start. It tells it from one in use by a lock, and
// leaves alone what is not as it makes it: anybody may make a directory of such a name in /tmp.
//
// # Concurrency
//
// Boxes stand beside each other, also those of several processes. The methods of one may be called by many goroutines, except Run and Push, which end the test
// that they were given.
package box
