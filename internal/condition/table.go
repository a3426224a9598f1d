package condition

import "slices"

// Definition is a row of the table: all that is known of a code before it happens.
type Definition struct {
	Code     Code
	Kinds    []Kind // of its subjects
	Title    string // a few words, for a heading or the subject of a mail
	Meaning  string // what is wrong, for the manual
	Critical string // when it is critical; "" never, "always" always
	Impact   string // what stops if nothing is done
	Action   string // what to do, for the manual
	// Command is the next action for an operator, with {subject} and {slot} for names; ""
	// where it depends on the case.
	Command   string
	Continues Code // the code that this one is the next stage of; "" for none
	Dated     bool // it follows from dates, and so is nothing to tell while the clock is suspect
	Stops     bool // tunnels and services stop for it, now or when it ends
	// Due is when it is told, other than at once.
	Due string
}

// Definitions returns the whole table, in the order of the manual. It is the caller's.
func Definitions() []Definition { return slices.Clone(table) }

// Definition returns the row of a code; of an unknown one, a row that says nothing.
func (c Code) Definition() Definition {
	if i, ok := index[c]; ok {
		return table[i]
	}
	return Definition{Code: c}
}

// index finds a row. It is made once, and only read.
var index = func() map[Code]int {
	m := make(map[Code]int, len(table))
	for i := range table {
		m[table[i].Code] = i
	}
	return m
}()

// table is constant; it is a variable because Go has no constant structs.
var table = []Definition{
	{
		Code: Expiring, Stops: true, Kinds: []Kind{Slot}, Title: "certificate ends soon",
		Meaning:  "the leaf certificate that a slot serves, or a CA of its chain, ends within the first time of `alerts.expiry.leaf`, 90 days",
		Critical: "within 7 days",
		Impact:   "on the day it ends every peer refuses it, and every tunnel and service on it stops",
		Action:   "ask for the next certificate, and put it in place",
		Dated:    true, Due: "at each time of `alerts.expiry.leaf`",
	},
	{
		Code: Expired, Stops: true, Kinds: []Kind{Slot}, Title: "certificate has ended", Continues: Expiring,
		Meaning:  "the leaf certificate that a slot serves, or a CA of its chain, has ended; it is still served, as nothing better is there",
		Critical: "always",
		Impact:   "peers refuse it: tunnels and services on it do not work with Spine",
		Action:   "put a new certificate in place; until then nothing works",
		Dated:    true,
	},
	{
		Code: CAExpiring, Stops: true, Kinds: []Kind{Environment}, Title: "CA ends soon",
		Meaning:  "a CA of the bundle ends within the first time of `alerts.expiry.ca`, 365 days; or it has ended while slots or peers are under it, or nothing of its name succeeds it in an environment that is in use",
		Critical: "once it has ended, and within 30 days of it where slots or peers are under it",
		Impact:   "from that day every certificate under it is refused, ours and those of peers",
		Action:   "add its successor to the trust files before that",
		Command:  "spinecert trust fetch", Dated: true, Due: "at each time of `alerts.expiry.ca`",
	},
	{
		Code: OwnCertificateRevoked, Stops: true, Kinds: []Kind{Slot}, Title: "our certificate was revoked",
		Meaning:  "a CRL names what the slot serves, or a CA above it",
		Critical: "always",
		Impact:   "peers that look at CRLs refuse it",
		Action:   "ask the authority why, and for another certificate, on a new key",
	},
	{
		Code: RequestPending, Stops: true, Kinds: []Kind{Slot}, Title: "request waits for its certificate",
		Meaning:  "a request waits for its certificate, or its answer to come into force",
		Critical: "when the certificate in force ends within 30 days, or there is none and the old one is expiring",
		Impact:   "without an answer the certificate in force ends",
		Action:   "send the request, or ask where it is; import the answer",
		Command:  "spinecert csr list", Due: "at each time of `alerts.request_pending`, and at once when critical",
	},
	{
		Code: RotationRefused, Stops: true, Kinds: []Kind{Slot, Environment}, Title: "new material was refused",
		Meaning:  "the files of a slot, the trust files or CRL files of an environment, or an answer, were judged bad; what was served goes on",
		Critical: "when a slot has nothing to serve, and for CRL files where revocation is `require`",
		Impact:   "the old certificate goes on until it ends",
		Action:   "read the reason, correct the files",
		Command:  "spinecert doctor",
	},
	{
		Code: SourceIncoherent, Stops: true, Kinds: []Kind{Slot}, Title: "files do not fit together",
		Meaning:  "the files of a slot have not fitted together for longer than `watch.settle`",
		Critical: "when a slot has nothing to serve",
		Impact:   "the old certificate goes on until it ends",
		Action:   "complete the set: certificate, chain and key of one identity",
		Command:  "spinecert doctor",
	},
	{
		Code: KeyReadable, Stops: true, Kinds: []Kind{Slot}, Title: "private key is readable by others",
		Meaning:  "others than the daemon's user may read the private key; it was not taken",
		Critical: "when a slot has nothing to serve",
		Impact:   "the new certificate is not served",
		Action:   "take the permission away; consider the key as known to others",
	},
	{
		Code: CRLStale, Stops: true, Kinds: []Kind{Environment}, Title: "revocation list is missing or stale",
		Meaning:  "a CRL was due for renewal, ends soon and cannot be had again, or was never had; or no CRL in force covers what the issuer of our own certificate issued, that issuer itself, or a peer that was refused for it within 24 hours, and nothing fetches one",
		Critical: "with `require`, once three quarters of `crl.grace` are over, and where peers of a tunnel are refused without the list",
		Impact:   "with `require` peers are refused once the grace is over; with `prefer` they are accepted unchecked",
		Action:   "mend the way to the list, or carry it here",
		Command:  "spinecert doctor", Dated: true,
	},
	{
		Code: RevocationOff, Kinds: []Kind{Environment, Tunnel}, Title: "revocation is not checked",
		Meaning: "peers are accepted without looking at any CRL",
		Impact:  "a peer whose certificate was withdrawn gets in",
		Action:  "set `revocation: require`",
	},
	{
		Code: PolicyAudit, Kinds: []Kind{Tunnel}, Title: "tunnel only audits",
		Meaning: "`policy: audit`: peers that would be refused are let in, and counted",
		Impact:  "peers that nobody listed get in",
		Action:  "see whom it would hit, then set `policy: enforce`",
		Command: "spinecert status --refusals",
	},
	{
		Code: ServiceFailed, Stops: true, Kinds: []Kind{Service}, Title: "service does not serve its certificate",
		Meaning:  "the service does not serve what its slot has: step, reason and what it serves instead; or its delivery goes on, or waits for another service, for more than an hour. Waiting for a window, its own or that of a service it comes after, is none. While a failure is tried again the condition stays, with the time of the first",
		Critical: "when nothing was ever proved, when what was proved does not serve any more or could not be put back, and when it ends within 7 days",
		Impact:   "the service goes on with its old certificate until that ends, or does not answer",
		Action:   "mend what the step says, then deliver again",
		Command:  "spinecert deliver {subject} --now",
	},
	{
		Code: TunnelDown, Stops: true, Kinds: []Kind{Tunnel}, Title: "tunnel does not listen",
		Meaning:  "a listener does not open; it is tried again by itself",
		Critical: "always",
		Impact:   "nobody can connect through this tunnel",
		Action:   "free the address, or correct `listen`",
		Command:  "spinecert reload",
	},
	{
		Code: TrustChanged, Kinds: []Kind{Environment}, Title: "trust files lack a CA",
		Meaning: "the trust files lack a CA that has not expired: not taken until `spinecert trust accept`",
		Impact:  "changes of the trust files are not in force",
		Action:  "see whom it hits, then accept it or put the CA back; do not restart before that, as a restart takes the files as they are",
		Command: "spinecert trust diff --environment {subject}",
	},
	{
		Code: EnvironmentMixture, Kinds: []Kind{Environment}, Title: "trust of several environments is mixed",
		Meaning:  "the trust files hold CAs of several NHS environments",
		Critical: "when live is one of them; INT and DEP together are a warning",
		Impact:   "a peer of one environment passes as a peer of the other",
		Action:   "keep one environment in each set of trust files",
		Command:  "spinecert trust list",
	},
	{
		Code: ClockSuspect, Kinds: []Kind{Host}, Title: "clock cannot be believed",
		Meaning:  "the wall clock cannot be believed, and why",
		Critical: "always",
		Impact:   "who connects is judged by it; nothing dated is told, cut or replaced meanwhile",
		Action:   "have the clock synchronised; if it is right as it is, say so",
		Command:  "timedatectl",
	},
	{
		Code: StateUnwritable, Kinds: []Kind{Host, Slot}, Title: "state directory takes nothing",
		Meaning:  "the state directory takes no audit lines, which wait in memory; no alerts; or not the generation that the slot serves, or would serve",
		Critical: "when a slot has nothing to serve",
		Impact:   "a restart comes up with what was written last",
		Action:   "make room, or give the directory back to the daemon's user; do not restart before that",
		Command:  "spinecert doctor",
	},
	{
		Code: RestoredOlder, Kinds: []Kind{Slot}, Title: "older backup was put back",
		Meaning:  "the state directory holds older generations of the slot than were once in force; the next new generation ends it",
		Critical: "always",
		Impact:   "what is served may have been replaced for a reason, and its key may be the one that was given up",
		Action:   "restore the lost generations, or ask for the certificate again",
	},
	{
		Code: SinkFailing, Kinds: []Kind{Sink}, Title: "alerts do not get through",
		Meaning:  "a sink of alerts has not taken what it was sent for more than 5 minutes; what it was to be told waits, and is tried again",
		Critical: "when no sink but the log works",
		Impact:   "nobody is told of anything else",
		Action:   "read the error, correct the sink, and try it",
		Command:  "spinecert alerts test {subject}",
	},
	{
		Code: WeakAlgorithm, Kinds: []Kind{Slot, Environment}, Title: "weak key or signature",
		Meaning: "a certificate that is served, or a subCA of the bundle, is signed with MD5 or SHA-1, or has a smaller key than `minimum_key`",
		Impact:  "peers may refuse it, and what such a subCA issued is refused here",
		Action:  "ask for a certificate on a larger key, signed with SHA-256",
	},
	{
		Code: G1Chain, Kinds: []Kind{Slot}, Title: "chain is of the first generation",
		Meaning: "the chain that is served ends in the first generation of NHS CAs",
		Impact:  "it stops when the first generation is withdrawn",
		Action:  "ask for a G2 certificate",
	},
}
