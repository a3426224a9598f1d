package config

// The raw structs are the schema: their tags hold the key (yaml), the default, the limits (min, max, enum, and later for
// values that are known but not supported yet) and the manual text (doc). Binding, JSON Schema and the reference table
// of docs/configuration.md are made from them, so a key is described once.

type rawConfig struct {
	DefaultEnvironment text                  `yaml:"default_environment" doc:"Environment of the slots that name none. May be left out while there is only one."`
	Environments       table[rawEnvironment] `yaml:"environments" doc:"Trust configurations by name. At least one is needed."`
	Slots              table[rawSlot]        `yaml:"slots" doc:"The identities of this host, by name."`
	Tunnels            table[rawTunnel]      `yaml:"tunnels" doc:"Listeners that terminate or originate TLS-MA, by name."`
	Services           table[rawService]     `yaml:"services" doc:"Local programs that are given files, told, and seen to serve them, by name."`
	Alerts             rawAlerts             `yaml:"alerts" doc:"Who is told of what is wrong, and when."`
	Admin              rawAdmin              `yaml:"admin" doc:"How the daemon is asked and watched."`
	State              rawState              `yaml:"state" doc:"What the daemon writes."`
	Clock              rawClock              `yaml:"clock" doc:"When the clock is not to be trusted."`
	Limits             rawLimits             `yaml:"limits" doc:"Limits of the whole daemon."`
	Organisation       rawOrganisation       `yaml:"organisation" doc:"Who asks for certificates: what the mail for a request says."`
	Log                rawLog                `yaml:"log" doc:"What is logged, and how."`
	Issuers            later                 `yaml:"issuers"`
	Directory          later                 `yaml:"directory"`
	Gateway            later                 `yaml:"gateway"`
	Fleet              later                 `yaml:"fleet"`
}

type rawEnvironment struct {
	Place         place
	Profile       text       `yaml:"profile" default:"nhs-g2" enum:"nhs-g1|nhs-g2|private" doc:"What certificates of this environment look like; sets the defaults of name_from_cn and tls.cipher_suites."`
	NameFromCN    boolean    `yaml:"name_from_cn" auto:"true for nhs-g1, else false" doc:"Take the peer's name from the CN where the certificate has no SAN. Logged and counted."`
	Trust         list[path] `yaml:"trust" credential:"yes" doc:"Files with roots and subCAs, in any order and form. Needed. Expired ones are kept and reported. Each is a path or credential:NAME."`
	AcceptableCAs automatic  `yaml:"acceptable_cas" auto:"auto" doc:"CAs named to clients in CertificateRequest: auto (the unexpired subCAs of the bundle), or a list of SHA-256 fingerprints or common names of CAs in the bundle."`
	Revocation    text       `yaml:"revocation" default:"require" enum:"require|prefer|off" doc:"require: without a current CRL for every certificate below the root a peer is refused. prefer: it is accepted and counted. off: CRLs are not looked at."`
	CRL           rawCRL     `yaml:"crl" doc:"Where CRLs come from."`

	MinimumKey          rawMinimumKey `yaml:"minimum_key" doc:"Smallest keys that certificates of a peer's chain may have, in bits."`
	SignatureAlgorithms list[text]    `yaml:"signature_algorithms" enum:"sha256-rsa|sha384-rsa|sha512-rsa|sha256-rsapss|sha384-rsapss|sha512-rsapss|ecdsa-sha256|ecdsa-sha384|ecdsa-sha512|ed25519" auto:"all of them" doc:"What certificates of a peer's chain, below its root, may be signed with. MD5 and SHA-1 are refused in any case."`
	OCSP                text          `yaml:"ocsp" default:"must-staple" enum:"must-staple|require" doc:"Where a server must staple an OCSP response that is good. must-staple: where its certificate says so (RFC 7633). require: always. Outbound only; nobody is asked for a response."`
}

type rawMinimumKey struct {
	RSA count `yaml:"rsa" default:"2048" min:"2048" max:"8192" doc:"Bits of an RSA modulus."`
	EC  count `yaml:"ec" default:"256" min:"256" max:"521" doc:"Bits of the curve of an ECDSA key."`
}

type rawCRL struct {
	Files   list[path] `yaml:"files" credential:"yes" doc:"CRLs, PEM or DER: files, or directories, of which each file that ends in .crl, .pem or .der counts. An empty directory is an error, and not an empty set. A file may be credential:NAME."`
	Grace   duration   `yaml:"grace" default:"24h" min:"0s" max:"90d" doc:"How long a CRL is used after its nextUpdate."`
	MaxSize size       `yaml:"max_size" default:"64MiB" min:"1KiB" max:"1GiB" doc:"Largest CRL that is read or fetched."`
	Refresh duration   `yaml:"refresh" default:"1h" min:"1s" max:"30d" doc:"How often each CRL is asked for at least; also before its nextUpdate, and at most once a minute, or as often as this says if that is shorter."`
	Timeout duration   `yaml:"timeout" default:"5s" min:"100ms" max:"5m" doc:"How long a handshake waits for a CRL whose address was never asked before. timeouts.handshake bounds it too."`
	Hosts   list[text] `yaml:"hosts" default:"crl.nhs.uk" doc:"The only hosts that CRLs are fetched from: a name, name:port, address, address:port or CIDR. Addresses that are not public are connected to only if they stand here as such. []: nothing is fetched."`
	Proxy   text       `yaml:"proxy" doc:"HTTP proxy for fetching, http://host:port, without a password. Empty: none, whatever the environment variables say."`
}

type rawSlot struct {
	Place          place
	Environment    text       `yaml:"environment" auto:"default_environment" doc:"The environment whose trust judges this identity and its peers."`
	FQDN           text       `yaml:"fqdn" doc:"The name the certificate should carry. A managed slot needs it, and it keeps the rules for names in requests."`
	Files          rawFiles   `yaml:"files" doc:"Where the identity is read from: certificate, key and perhaps chain, or pkcs12; each a path or credential:NAME. A slot has either this or managed."`
	KeyPermissions text       `yaml:"key_permissions" default:"strict" enum:"strict|warn" doc:"strict: a key that others may read is refused. warn: it is used, and said. Only with files."`
	Watch          rawWatch   `yaml:"watch" doc:"How the files are watched. Only with files."`
	Guard          rawGuard   `yaml:"guard" doc:"What a new identity may do."`
	Affects        rawAffects `yaml:"affects" doc:"Who is cut off when this identity fails; told with every condition."`
	Managed        rawManaged `yaml:"managed" doc:"The identity is kept in the state directory, and its keys and requests are made here. An empty mapping takes the defaults. A slot has either this or files."`
}

type rawManaged struct {
	Place   place
	Written written
	Key     text       `yaml:"key" default:"rsa-2048" enum:"rsa-2048|rsa-3072|rsa-4096|ecdsa-p256|ecdsa-p384|ed25519" doc:"Kind of the keys that requests are made with. Spine's pages ask for RSA 2048 or 4096; whether the others are accepted is unconfirmed."`
	Issuer  text       `yaml:"issuer" default:"manual" enum:"manual" later:"*" doc:"Who turns a request into a certificate. manual: people, by mail."`
	Prepare duration   `yaml:"prepare" default:"120d" min:"0s" max:"3650d" doc:"How long before the end of the certificate the next request is made by itself; 0s never."`
	SANs    list[text] `yaml:"sans" doc:"Names to ask for as subject alternative names, besides fqdn. Only fqdn here: a SAN with nothing else. Without any, the request has the common name alone; whether the authority copies SANs is unconfirmed."`
}

type rawFiles struct {
	Place        place
	Written      written
	Certificate  path `yaml:"certificate" credential:"yes" doc:"Leaf, perhaps followed by its chain: PEM, DER or PKCS#7."`
	Chain        path `yaml:"chain" credential:"yes" doc:"SubCAs that are not in the certificate file. What the bundle holds need not be repeated."`
	Key          path `yaml:"key" credential:"yes" doc:"Private key: PEM or DER, not encrypted."`
	PKCS12       path `yaml:"pkcs12" credential:"yes" doc:"Certificate, chain and key in one PKCS#12 file, instead of the three above."`
	PasswordFile path `yaml:"password_file" credential:"yes" doc:"File that holds the password of pkcs12. Passwords never stand in this file."`
}

type rawWatch struct {
	Place   place
	Written written
	Poll    duration `yaml:"poll" default:"30s" min:"100ms" max:"1d" doc:"How often the files are looked at even if nothing was reported."`
	Settle  duration `yaml:"settle" default:"60s" min:"0s" max:"1d" doc:"How long a set that does not fit together yet is pending before it is a condition."`
}

type rawGuard struct {
	Allow list[text] `yaml:"allow" enum:"older|names|chain|key-reuse|rolled-back" later:"trust-shrink|crl-number" doc:"Guard rules that are off for this slot for good. Better: allow one candidate with spinecert rotate --allow."`
}

type rawAffects struct {
	ODS   list[text] `yaml:"ods" doc:"ODS codes."`
	ASIDs list[text] `yaml:"asids" doc:"ASIDs. Quotes keep leading zeros for other readers of this file."`
	Note  text       `yaml:"note" doc:"One line of text."`
}

type rawTunnel struct {
	Place         place
	Direction     text              `yaml:"direction" enum:"inbound|outbound" doc:"inbound: terminates TLS-MA. outbound: originates it. Needed."`
	Listen        list[rawListener] `yaml:"listen" doc:"HOST:PORT with an IP address, unix:/path, {unix, group, mode}, or systemd:NAME for the sockets that a socket unit names so. Needed. Outbound: TCP on loopback only. Port 0 (any free port) on loopback only."`
	Forward       text              `yaml:"forward" doc:"HOST:PORT or unix:/path of the service behind the tunnel. Needed."`
	Slot          text              `yaml:"slot" doc:"The identity that is shown to peers. Needed."`
	Peers         list[text]        `yaml:"peers" auto:"inbound: none, must be written; outbound: host of forward" doc:"Exact names of the peers that are accepted, in lower case. [\"*\"] accepts every certificate of the environment, and must be written out."`
	Pins          list[text]        `yaml:"pins" doc:"SHA-256 of public keys (SPKI, hex). If there are any, the peer's key must be one of them, in addition to all else."`
	Policy        text              `yaml:"policy" default:"enforce" enum:"enforce|audit" doc:"enforce: what is refused is refused. audit: it is let in all the same, logged and counted. Only to try new rules out."`
	Revocation    text              `yaml:"revocation" enum:"require|prefer|off" auto:"the environment's" doc:"Overrides revocation of the environment."`
	AcceptableCAs list[text]        `yaml:"acceptable_cas" auto:"the environment's" doc:"Overrides acceptable_cas of the environment. Inbound only."`
	TLS           rawTLS            `yaml:"tls" doc:"Versions and cipher suites."`
	ProxyProtocol text              `yaml:"proxy_protocol" default:"off" enum:"off|v2" doc:"Tell the service behind forward the address of the peer. Inbound only."`
	AllowFrom     list[text]        `yaml:"allow_from" auto:"everyone" doc:"CIDRs of the addresses that may connect; others are closed before any cryptography. Unix sockets are not concerned."`
	AllowUsers    list[text]        `yaml:"allow_users" doc:"Users whose processes may connect to the TCP listeners, by name or uid; the kernel is asked who connects. Needed for TCP, as it lends the identity. [\"*\"] lets every local user in. Outbound only; unix sockets are not concerned."`
	ServerName    text              `yaml:"server_name" auto:"host of forward, unless an address" doc:"Name sent in SNI. Outbound only."`
	Timeouts      rawTimeouts       `yaml:"timeouts" doc:"Time limits of a connection."`
	Connections   count             `yaml:"connections" default:"2000" min:"1" max:"1000000" doc:"Open connections of this tunnel; what is over is closed before any cryptography."`
	Mode          later             `yaml:"mode"`
}

type rawSocket struct {
	Place place
	Unix  path `yaml:"unix" doc:"Path of the socket."`
	Group text `yaml:"group" doc:"Group that owns the socket; the daemon's own if empty."`
	Mode  text `yaml:"mode" default:"0660" doc:"Permissions of the socket, octal."`
}

type rawTLS struct {
	MinVersion   text       `yaml:"min_version" default:"1.2" enum:"1.2|1.3" doc:"Lowest version."`
	MaxVersion   text       `yaml:"max_version" default:"1.2" enum:"1.2|1.3" doc:"Highest version. No published rule of Spine permits 1.3."`
	CipherSuites list[text] `yaml:"cipher_suites" auto:"ECDHE-RSA-AES256-GCM-SHA384, ECDHE-RSA-AES128-GCM-SHA256; profile private: their ECDSA twins as well" doc:"Suites of TLS 1.2, by IANA or OpenSSL name. Those of TLS 1.3 are fixed."`
	Resumption   boolean    `yaml:"resumption" default:"true" doc:"Resume sessions. Every rule is applied to resumed sessions too."`
}

type rawTimeouts struct {
	Handshake duration `yaml:"handshake" default:"10s" min:"100ms" max:"10m" doc:"From the first byte to a finished handshake."`
	Dial      duration `yaml:"dial" default:"5s" min:"100ms" max:"10m" doc:"To reach forward."`
	Idle      duration `yaml:"idle" default:"0s" min:"0s" max:"365d" doc:"Close when nothing flows for so long; 0s never."`
	KeepAlive duration `yaml:"keepalive" default:"30s" min:"0s" max:"1d" doc:"TCP keep-alive interval; 0s none."`
}

type rawAdmin struct {
	Socket  rawAdminSocket `yaml:"socket" doc:"The unix socket of the CLI."`
	Writers list[text]     `yaml:"writers" default:"root" doc:"Users who may change things through the socket, by name or uid. Its group may read."`
	HTTP    rawHTTP        `yaml:"http" doc:"Status page, metrics and health."`
}

type rawAdminSocket struct {
	Path  path `yaml:"path" default:"/run/spinecert/admin.sock" doc:"Path of the socket."`
	Group text `yaml:"group" default:"spinecert" doc:"Group that owns the socket (0660) and may read; \"\" keeps the daemon's own."`
}

type rawHTTP struct {
	Listen text       `yaml:"listen" doc:"Address for the status page, /metrics, /healthz and /readyz, on loopback unless slot and peers are named; empty: none."`
	Slot   text       `yaml:"slot" doc:"The identity that they are served with, over TLS with mutual authentication. Needs peers."`
	Peers  list[text] `yaml:"peers" doc:"Exact names of those who may look, in lower case, judged as those of an inbound tunnel are; [\"*\"] is refused. Needs slot."`
}

type rawState struct {
	Directory       path  `yaml:"directory" default:"/var/lib/spinecert" doc:"The only directory the daemon writes to."`
	KeepGenerations count `yaml:"keep_generations" default:"5" min:"0" max:"1000" doc:"Generations of each slot that are kept on disk, with their keys; the one in force is one of them. 0: in memory only, for hosts without managed slots."`
	AuditMax        size  `yaml:"audit_max" default:"64MiB" min:"64KiB" max:"16GiB" doc:"Size at which audit.jsonl is turned over."`
}

type rawClock struct {
	MaxStep duration `yaml:"max_step" default:"5m" min:"1s" max:"1d" doc:"A step of the wall clock beyond this makes it suspect: nothing is cut or replaced for dates alone."`
}

type rawLimits struct {
	Handshakes  count    `yaml:"handshakes" default:"0" min:"0" max:"1000000" doc:"Handshakes at once; 0 is 4 per CPU."`
	PerSource   count    `yaml:"per_source" default:"64" min:"1" max:"1000000" doc:"Handshakes at once from one address."`
	Connections count    `yaml:"connections" default:"10000" min:"1" max:"1000000" doc:"Open connections of all tunnels."`
	ChainBytes  size     `yaml:"chain_bytes" default:"64KiB" min:"4KiB" max:"16MiB" doc:"What a peer may send before its handshake ends."`
	Drain       duration `yaml:"drain" default:"30s" min:"0s" max:"1d" doc:"How long open connections may finish when the daemon stops or a tunnel is removed."`
}

type rawOrganisation struct {
	Name    text `yaml:"name" doc:"Name of the organisation, as the authority knows it."`
	Contact text `yaml:"contact" doc:"Who answers questions: name, telephone, e-mail address."`
	ODS     text `yaml:"ods" doc:"ODS code of the organisation."`
}

type rawLog struct {
	Level  text `yaml:"level" default:"info" enum:"debug|info|warn|error" doc:"Least severity that is logged."`
	Format text `yaml:"format" default:"auto" enum:"auto|text|json" doc:"auto: fields of the journal where the journal takes standard error, as under systemd, else text. text is key=value, json a line each; both on standard error."`
}
