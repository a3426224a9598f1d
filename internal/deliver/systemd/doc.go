// Package systemd has units reloaded over D-Bus, and waits for the result.
//
//	m := systemd.New()
//	defer m.Close()
//	err := m.Job(ctx, "nginx.service", "reload")
//	err = m.Check(ctx, "nginx-check.service") // restarts it, as a start may do nothing
//	err = m.Hook(ctx, "postgres", "reload")   // runs spinecert-hook@postgres:reload.service
//
// # The bus
//
// One connection to the system bus (DBUS_SYSTEM_BUS_ADDRESS, else /run/dbus/system_bus_socket), dialled by whoever needs it first,
// shared by all, and dialled anew after it was lost. godbus is used without go-systemd's dbus package: that keeps one waiter a job, and
// systemd answers two requests of the same kind for one unit with the same job, so that the first of them would wait for ever; it takes a JobRemoved of any
// sender for systemd's; and whoever waits does not learn that the connection broke.
//
// # Who may
//
// polkit decides: the daemon is no root. systemd/50-spinecert.rules.example grants named units and verbs. The unit of the
// daemon itself is refused here, under whatever name.
//
// # Errors and concurrency
//
// Every error is a *failure.Error. Where systemd did not answer the request, that is bus_away, however the context ended; timeout is of a job that there is. Such a job goes on, as it may be somebody else's.
// Nothing outlasts its context, whatever the bus does, but for 2 s in which a hook or a check is stopped. A Manager may be used by many goroutines; two hooks of the same service and step at
// once would end each other.
package systemd
