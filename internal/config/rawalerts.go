package config

// The raw structs of alerts; see raw.go. The tag only names the types of a sink that have a key; without it all have.

type rawAlerts struct {
	Expiry         rawExpiry      `yaml:"expiry" doc:"How long before an end it is told. Each step is told once; the first one begins the condition."`
	RequestPending list[duration] `yaml:"request_pending" default:"14d,28d" min:"0s" max:"3650d" doc:"Ages at which a request without an answer is told, the smallest first. What is critical is told at once."`
	Repeat         rawRepeat      `yaml:"repeat" doc:"How long after it was told last something is told again that nobody acknowledged."`
	Sinks          table[rawSink] `yaml:"sinks" doc:"Who is told, by name. Without one of type journal there is one more, named journal: the log of the daemon."`
}

type rawExpiry struct {
	Leaf list[duration] `yaml:"leaf" default:"90d,30d,14d,7d,1d" min:"1h" max:"3650d" doc:"Life that the certificate of a slot has left, the largest first. From 7d on it is critical."`
	CA   list[duration] `yaml:"ca" default:"365d,90d,30d" min:"1h" max:"3650d" doc:"Life that a CA has left that slots or peers are under, the largest first."`
}

type rawRepeat struct {
	Warning  duration `yaml:"warning" default:"7d" min:"0s" max:"365d" doc:"For warnings; 0s never."`
	Critical duration `yaml:"critical" default:"1d" min:"0s" max:"365d" doc:"For what is critical; 0s never."`
}

type rawSink struct {
	Place        place
	Type         text       `yaml:"type" enum:"email|alertmanager|webhook|exec|journal" doc:"How it is told. Needed."`
	Min          text       `yaml:"min" default:"warning" enum:"warning|critical" doc:"Least severity that is told."`
	Timeout      duration   `yaml:"timeout" default:"30s" min:"100ms" max:"10m" only:"email|alertmanager|webhook|exec" doc:"How long one attempt may take. What fails is tried again, for ever."`
	To           list[text] `yaml:"to" only:"email" doc:"Addresses, perhaps with names: \"Spine operations <ops@example.nhs.uk>\". Needed for email, and only there."`
	From         text       `yaml:"from" only:"email" doc:"Address of the sender. Needed for email, and only there."`
	SMTP         text       `yaml:"smtp" only:"email" doc:"HOST:PORT of the relay. Needed for email, and only there."`
	TLS          text       `yaml:"tls" default:"starttls" enum:"starttls|tls|none" only:"email" doc:"starttls: the relay must offer it. tls: from the first byte, as on port 465. none: without, and without a password; said at every start unless the relay is this host. Only email."`
	ServerName   text       `yaml:"server_name" auto:"host of smtp or of the URL" only:"email|alertmanager|webhook" doc:"Name in the certificate of the relay or server. Not exec, journal."`
	Username     text       `yaml:"username" only:"email|alertmanager|webhook" doc:"Who logs in, with password_file beside it. Not exec, journal."`
	PasswordFile path       `yaml:"password_file" credential:"yes" only:"email|alertmanager|webhook" doc:"File with the password in its first line: a path or credential:NAME. Not exec, journal."`
	CA           path       `yaml:"ca" credential:"yes" auto:"those of the system" only:"email|alertmanager|webhook" doc:"PEM file with the roots that the certificate of the relay or server must be under: a path or credential:NAME. Not exec, journal."`
	URL          text       `yaml:"url" only:"alertmanager|webhook" doc:"Address, http or https: of Alertmanager without /api/v2, of a webhook the whole. Either this or url_file; whatever holds a token belongs into a file. Only alertmanager, webhook."`
	URLFile      path       `yaml:"url_file" credential:"yes" only:"alertmanager|webhook" doc:"File with the address in its first line: a path or credential:NAME. Only alertmanager, webhook."`
	Format       text       `yaml:"format" default:"json" enum:"json|teams|slack" only:"webhook" doc:"What is sent: the message as JSON, or as Teams or Slack show it. Only webhook."`
	Template     path       `yaml:"template" credential:"yes" only:"webhook" doc:"File that makes what is sent instead of format: JSON with {{name}} in it, at most 64 KiB; a path or credential:NAME. Only webhook."`
	Command      list[text] `yaml:"command" only:"exec" doc:"A program, with its absolute path, and its arguments; no shell reads them. It gets the message as JSON on standard input; 0 is success. Needed for exec, and only there."`
}
