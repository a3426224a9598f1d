package daemon

import "log/slog"

// eventName is one event of the log. docs/logs.md has a row for each, and no line is written without one: a test holds the three together.
type eventName struct {
	name   string
	levels []slog.Level // that it may have
	means  string
	do     string   // what somebody does about it; "" is nothing
	attrs  []string // the keys that a line of it may have, see attrNames
}

// The levels: an error is something that somebody must act on, also at night; a warning can wait until the morning.
const (
	lDebug = slog.LevelDebug
	lInfo  = slog.LevelInfo
	lWarn  = slog.LevelWarn
	lError = slog.LevelError
)

// alertAttrs are the keys of a line on an alert.
var alertAttrs = []string{"condition", "subject", "severity", "alert", "slot", "stops", "hint", "command", "ends"}

// eventNames are the events of the log. A name stays what it is: people search for it, and alerts are made of it.
var eventNames = []eventName{
	// The daemon.
	{"starting", []slog.Level{lInfo}, "the daemon starts", "", []string{"version", "config"}},
	{"ready", []slog.Level{lInfo, lWarn}, "every slot was looked at, and what can be served is served; the sentence says how many slots are ready", "where slots are not ready, the lines above name the cause", nil},
	{"watchdog_unusable", []slog.Level{lWarn}, "what systemd says of its watchdog cannot be understood, and it hears nothing", "take `WATCHDOG_USEC` and `WATCHDOG_PID` out of the drop-ins, or systemd ends the daemon again and again", []string{"error", "hint"}},
	{"reload", []slog.Level{lInfo, lWarn, lError}, "the configuration was read again, with who asked; with `error` it was refused, and the last one stays", "`error`: mend the file, `spinecert config check`, and reload", []string{"uid", "via", "error"}},
	{"config_warning", []slog.Level{lWarn}, "the configuration accepts more than it should; said at each start and reload", "[configuration.md](configuration.md#warnings-at-start)", []string{"key", "line", "user"}},
	{"stage_slow", []slog.Level{lError}, "files did not answer within 20 s; they are still waited for", "look at the file system they are on (NFS?)", []string{"error"}},
	{"tunnel_unbound", []slog.Level{lError}, "a tunnel could not be given its slot and refuses every connection", "`spinecert reload`; if it comes again, restart", []string{"tunnel", "error"}},
	{"stopping", []slog.Level{lInfo}, "asked to stop: connections may end by themselves for `drain`", "", []string{"drain"}},
	{"stopped", []slog.Level{lInfo}, "the last line", "", []string{"connections_cut"}},
	{"upgrade", []slog.Level{lInfo, lError}, "`spinecert upgrade`: another process serves; with `error` it does not, and this one goes on", "`error` says why the installed program did not come up", []string{"program", "from", "to", "uid", "via", "error", "pid", "connections", "drain"}},
	{"left", []slog.Level{lInfo}, "the last line of the process that an upgrade replaced", "", []string{"connections_cut"}},
	{"drain_untold", []slog.Level{lError}, "the process that still drains after an upgrade could not be told of a change", "its connections end within `limits.drain`; `systemctl restart spinecertd` ends them now", []string{"error", "hint"}},
	{"drain_astray", []slog.Level{lError}, "the process that still drains cannot follow a change, and cuts what it had", "its peers connect anew, to the process that serves", []string{"error"}},
	{"forbidden", []slog.Level{lWarn}, "a user who is not one of `admin.writers` tried to change something", "ask the user", []string{"action", "uid", "pid"}},
	{"clock_suspect", []slog.Level{lError}, "the clock of the host has jumped: nothing is cut, dropped or replaced for dates alone", "[revocation.md](revocation.md#when-the-clock-is-wrong)", []string{"reason", "hint"}},
	{"clock_trusted", []slog.Level{lInfo}, "the clock is believed again", "", []string{"reason"}},

	// Alerts: what the sink of type journal says, and how the others stand.
	{"alert_opened", []slog.Level{lWarn, lError}, "something is wrong; an error where it is critical. The condition's page of the [runbook](runbook/README.md) has more", "`command`, or what `hint` says", alertAttrs},
	{"alert_escalated", []slog.Level{lWarn, lError}, "it grew worse, or less time is left", "`command`, or what `hint` says", alertAttrs},
	{"alert_repeated", []slog.Level{lWarn, lError}, "it stands as it was, and nobody acknowledged it", "`spinecert alerts ack` while somebody sees to it", alertAttrs},
	{"alert_resolved", []slog.Level{lInfo}, "it is over", "", alertAttrs},
	{"alert_test", []slog.Level{lWarn}, "`spinecert alerts test` tried the sink", "", alertAttrs},
	{"alert_more", []slog.Level{lWarn}, "more alerts changed at once than there are lines for", "`spinecert alerts list`", []string{"count"}},
	{"alerts_unreadable", []slog.Level{lError}, "`alerts.json` of the last process cannot be understood, and was set aside; everything that is wrong is told anew", "`error` names the file it is now", []string{"error"}},
	{"alerts_unwritten", []slog.Level{lError}, "`alerts.json` cannot be written: what waits for a sink is lost with the process", "[trouble.md](trouble.md#the-disk-is-full)", []string{"error", "hint"}},
	{"sink_failed", []slog.Level{lWarn}, "a sink did not take a message, each cause once; it waits and is tried again, and after 5 minutes is the condition `sink_failing`", "`spinecert alerts test SINK`", []string{"sink", "error", "hint"}},
	{"sink_works", []slog.Level{lInfo}, "it takes messages again", "", []string{"sink"}},

	// Slots.
	{"rotated", []slog.Level{lInfo}, "a slot serves a new generation", "", []string{"slot", "environment", "generation", "serial", "sha256", "not_after", "latency", "origin", "of", "uid", "via"}},
	{"restored", []slog.Level{lInfo}, "after a start, a slot serves what the state directory kept", "", []string{"slot", "environment", "generation", "not_after", "held"}},
	{"candidate_pending", []slog.Level{lInfo, lError}, "the files of a slot do not fit together yet; an error where nothing of what the state directory keeps can be loaded", "wait; after `watch.settle` it is `source_incoherent`", []string{"slot", "environment", "reason", "error", "hint"}},
	{"source_incoherent", []slog.Level{lWarn, lError}, "the files of a slot or environment have not fitted together for longer than `watch.settle`; an error where the slot serves nothing", "put the whole set there; [refusals.md](refusals.md#our-own-material)", []string{"slot", "environment", "reason", "error", "hint"}},
	{"candidate_refused", []slog.Level{lWarn, lError}, "a new certificate or key was judged bad; an error where the slot serves nothing", "`reason` in [refusals.md](refusals.md#our-own-material)", []string{"slot", "environment", "reason", "error", "hint"}},
	{"candidate_cleared", []slog.Level{lInfo}, "files and what is served agree again", "", []string{"slot", "environment"}},
	{"own_chain_refused", []slog.Level{lError}, "what a slot serves does not pass the trust of its own environment; it goes on serving it", "peers may refuse it: a new certificate, or the missing CA in the trust files", []string{"slot", "environment", "reason", "error", "hint"}},
	{"watch_lost", []slog.Level{lWarn}, "a directory cannot be watched; the poll goes on", "raise `fs.inotify.max_user_watches`", []string{"slot", "environment", "reason", "error", "hint"}},
	{"watch_overflow", []slog.Level{lWarn}, "the kernel dropped file events; everything was looked at again", "find what writes so much there, if it comes again", []string{"reason", "error", "hint"}},

	// The state directory.
	{"state_trouble", []slog.Level{lError}, "the state directory is not as it should be", "`spinecert state verify`", []string{"error", "hint"}},
	{"state_unwritable", []slog.Level{lError}, "the audit file cannot be written; its lines wait in memory", "[trouble.md](trouble.md#the-disk-is-full)", []string{"error", "hint"}},
	{"generation_unsaved", []slog.Level{lError}, "the state directory does not take what a slot serves; a restart would go back", "[trouble.md](trouble.md#the-disk-is-full)", []string{"slot", "environment", "reason", "error", "hint"}},
	{"generation_saved", []slog.Level{lInfo}, "it took it after all", "", []string{"slot", "environment"}},
	{"generation_damaged", []slog.Level{lError}, "the generation in force cannot be read from disk; an older one may stand in", "`spinecert state verify`", []string{"slot", "environment", "reason", "error", "hint"}},
	{"restored_older", []slog.Level{lError}, "an older copy of the state directory was put in its place", "[backup.md](backup.md#restored_older)", []string{"slot", "environment", "reason", "error", "hint"}},

	// Trust and revocation.
	{"trust_changed", []slog.Level{lInfo, lDebug}, "an environment has other trust files in force; debug: other CRLs", "", []string{"environment", "sequence", "roots", "subcas", "expired", "crls"}},
	{"trust_pending", []slog.Level{lInfo}, "a trust file is missing or not whole yet; the last trust stays", "wait; after `watch.settle` it is `source_incoherent`", []string{"environment", "reason", "error", "hint"}},
	{"trust_refused", []slog.Level{lWarn}, "the trust files were judged bad; the last trust stays", "[refusals.md](refusals.md#trust-files)", []string{"environment", "reason", "error", "hint"}},
	{"trust_added", []slog.Level{lInfo}, "`spinecert trust add` added a CA", "", []string{"environment", "ca", "sha256", "uid"}},
	{"trust_dropped", []slog.Level{lInfo}, "`spinecert trust accept` let a CA go", "", []string{"environment", "ca", "sha256", "uid"}},
	{"crl_fetch", []slog.Level{lDebug, lInfo, lWarn, lError}, "a CRL was asked for: info when a new one is in force, a warning when it could not be had (once for each cause); an error where none is in force in its place and peers are refused without", "[revocation.md](revocation.md): `spinecert status` says how long the one in force lasts", []string{"environment", "address", "result", "issuer", "entries", "this_update", "next_update", "reason", "error", "hint"}},
	{"crl_unsaved", []slog.Level{lWarn}, "the state directory does not take a CRL; it is in force all the same", "[trouble.md](trouble.md#the-disk-is-full)", []string{"environment", "address", "reason", "error", "hint"}},

	// Tunnels.
	{"handshake_refused", []slog.Level{lWarn}, "a peer was refused", "`reason` in [refusals.md](refusals.md#peers)", refusalAttrs},
	{"handshake_audited", []slog.Level{lWarn}, "a peer was let in that `policy: enforce` would refuse", "`reason` in [refusals.md](refusals.md#peers)", refusalAttrs},
	{"handshake_failed", []slog.Level{lInfo, lWarn}, "a handshake came to nothing; info where somebody hung up on us, as port scans and health checks do", "[refusals.md](refusals.md#failed-handshakes)", refusalAttrs},
	{"handshake_limited", []slog.Level{lWarn}, "a connection was closed before any cryptography", "[refusals.md](refusals.md#limits)", refusalAttrs},
	{"connection_cut", []slog.Level{lWarn}, "an open connection was cut, as its peer is accepted no longer", "[revocation.md](revocation.md#live-connections)", refusalAttrs},
	{"refusals_suppressed", []slog.Level{lWarn}, "there were more refusals than lines", "`spinecert status --refusals`", []string{"tunnel", "suppressed", "hint"}},
	{"tunnel_listen", []slog.Level{lError, lInfo}, "a tunnel cannot listen; info when it can again", "`hint`, or `ss -lntxp`: who has the address?", []string{"tunnel", "address", "error", "hint"}},
	{"tunnel_accept", []slog.Level{lError, lInfo}, "the system gives a tunnel no connections; info when it does again", "raise `LimitNOFILE=` of the unit", []string{"tunnel", "address", "error", "hint"}},
	{"socket_unused", []slog.Level{lWarn}, "systemd opened a socket that no tunnel uses; said at each start and reload", "[sockets.md](sockets.md#names)", []string{"address", "hint"}},
	{"tunnel_forward_failed", []slog.Level{lError}, "the service behind a tunnel did not take a connection", "is it up? The address is in `address`", []string{"tunnel", "address", "error", "hint"}},

	// Requests and the inbox.
	{"request_made", []slog.Level{lInfo}, "a key and a request for a certificate were made", "send it: `spinecert csr show --mail ID`", requestAttrs},
	{"request_cancelled", []slog.Level{lInfo}, "a request and its key were given up", "", requestAttrs},
	{"request_ended", []slog.Level{lInfo}, "the key of a request is in force", "", requestAttrs},
	{"answer_kept", []slog.Level{lInfo}, "an answer fits, and waits for what `error` says", "", requestAttrs},
	{"answer_dropped", []slog.Level{lWarn}, "an answer that waited is refused for good", "import another, or ask for one", requestAttrs},
	{"prepare_failed", []slog.Level{lError}, "a request that is due could not be made", "`hint`; it is tried every hour", requestAttrs},
	{"requests_trouble", []slog.Level{lError}, "the requests on disk could not be looked after", "`spinecert state verify`", []string{"error", "hint"}},
	{"inbox_accepted", []slog.Level{lInfo}, "a file of the inbox was taken; `reason` says for which slot", "", inboxAttrs},
	{"inbox_rejected", []slog.Level{lWarn}, "a file of the inbox was refused and is in `rejected/`", "`reason`, or `FILE.reason` beside it", inboxAttrs},
	{"inbox_waiting", []slog.Level{lWarn}, "a file of the inbox cannot be judged yet", "[trouble.md](trouble.md#the-inbox)", inboxAttrs},
	{"inbox_ignored", []slog.Level{lWarn}, "a directory lies in the inbox", "drop the files themselves", inboxAttrs},
	{"inbox_stuck", []slog.Level{lWarn}, "a file was judged and cannot be moved, or old ones cannot be removed", "[trouble.md](trouble.md#the-inbox)", inboxAttrs},
	{"inbox_crowded", []slog.Level{lWarn}, "more files lie in the inbox than are read at once", "", inboxAttrs},
	{"inbox_unusable", []slog.Level{lError}, "the inbox, or `done/` or `rejected/` in it, cannot be used: nothing that is dropped is taken", "`hint`", inboxAttrs},
	{"inbox_blind", []slog.Level{lWarn}, "the inbox cannot be watched; the poll goes on", "`hint`", inboxAttrs},

	// Services.
	{"service_delivered", []slog.Level{lInfo}, "a service was seen to serve what its slot has", "", serviceAttrs},
	{"service_failed", []slog.Level{lError}, "a delivery, or a later look at what is served, failed", "[trouble.md](trouble.md), `spinecert services`", serviceAttrs},
	{"service_rolled_back", []slog.Level{lWarn}, "after a failure a service is back on what was proved before; the new generation is held", "mend the cause, then `spinecert deliver SERVICE --now`", serviceAttrs},
	{"service_rollback_failed", []slog.Level{lError}, "what was proved before could not be put back either", "look at the service itself, now", serviceAttrs},
	{"service_drift", []slog.Level{lWarn}, "somebody changed delivered files; they are delivered again", "find who", serviceAttrs},
	{"service_recovered", []slog.Level{lInfo}, "a service that failed is as it should be", "", serviceAttrs},
	{"service_record_damaged", []slog.Level{lWarn}, "what is recorded of a service cannot be read; its files are delivered anew", "`spinecert state verify`", serviceAttrs},
	{"service_resumed", []slog.Level{lInfo}, "a delivery that a stop had cut short goes on", "", serviceAttrs},
}

var (
	refusalAttrs = []string{"tunnel", "reason", "peer", "name", "serial", "issuer", "rule", "error", "hint"}
	requestAttrs = []string{"slot", "request", "uid", "via", "error", "hint"}
	inboxAttrs   = []string{"reason", "file", "error", "hint"}
	serviceAttrs = []string{"service", "slot", "generation", "digest", "took", "step", "reason", "error", "hint", "uid", "via"}
)

// attrName is one key of the log, which is SPINECERT_KEY in the journal.
type attrName struct{ key, means string }

// attrNames are all keys of the log.
var attrNames = []attrName{
	{"action", "what somebody tried"},
	{"address", "of a CRL, a listener or a local service"},
	{"alert", "ID of an alert, for `spinecert alerts ack`"},
	{"ca", "subject of a CA"},
	{"command", "the next action as a command"},
	{"condition", "code of a condition, see [metrics.md](metrics.md#conditions)"},
	{"config", "path of the configuration"},
	{"connections", "open connections"},
	{"connections_cut", "connections that were cut at the end"},
	{"count", "how many"},
	{"crls", "CRLs in force"},
	{"digest", "SHA-256 of a delivered set, its first 12 hex digits"},
	{"drain", "how long connections may still end by themselves"},
	{"ends", "when something stops"},
	{"entries", "serial numbers in a CRL"},
	{"environment", "name in the configuration"},
	{"error", "the whole error"},
	{"event", "the name of the event"},
	{"expired", "CAs that have expired"},
	{"file", "name of a file in the inbox"},
	{"from", "version of the program before"},
	{"generation", "number of a generation"},
	{"held", "whether the slot is held after a rollback"},
	{"hint", "the next action"},
	{"issuer", "common name of an issuer"},
	{"key", "key of the configuration"},
	{"latency", "from the first sign of a change to its publication"},
	{"line", "line of the configuration"},
	{"name", "first name of a peer's certificate, proved by nobody"},
	{"next_update", "nextUpdate of a CRL"},
	{"not_after", "end of the certificate"},
	{"of", "number of the generation that a rollback published again"},
	{"origin", "where a generation came from, if not from files"},
	{"peer", "address and port of a peer"},
	{"pid", "process"},
	{"program", "path of the program"},
	{"reason", "the cause in one word, see [refusals.md](refusals.md); of the inbox and the clock, a sentence"},
	{"request", "ID of a request"},
	{"result", "of a fetch: `fetched`, `unchanged`, `failed`, `refused`"},
	{"roots", "root CAs in the trust files"},
	{"rule", "where it is written what was broken"},
	{"sequence", "number of the trust state since the start"},
	{"serial", "serial number in hex"},
	{"service", "name in the configuration"},
	{"severity", "`warning` or `critical`"},
	{"sha256", "of the DER of a certificate, in hex"},
	{"sink", "name in the configuration"},
	{"slot", "name in the configuration"},
	{"step", "of a delivery"},
	{"stops", "tunnels and services that stop"},
	{"subcas", "subordinate CAs in the trust files"},
	{"subject", "name of the slot, environment, tunnel, service or sink"},
	{"suppressed", "lines that were not written"},
	{"this_update", "thisUpdate of a CRL"},
	{"to", "version of the program after"},
	{"took", "how long it took"},
	{"tunnel", "name in the configuration"},
	{"uid", "user who asked"},
	{"user", "name of a user in the configuration"},
	{"version", "of the program"},
	{"via", "how somebody asked: `socket`, `signal`, or what caused it"},
}
