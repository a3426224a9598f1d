package config

import (
	"net"
	"net/mail"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// mailLocal is what stands before the @, RFC 5321, Section 4.1.2, Dot-string. Quoted strings are refused: unquoted, as net/mail returns them, they could end the
// path of an SMTP command. Nor is anything outside ASCII taken, which not every relay is.
var mailLocal = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$")

// mailbox returns an address with its name as it stands in a header, and the address alone; both are "" after a mistake.
func (r *reading) mailbox(t text) (whole, address string) {
	const hint = "write ops@example.nhs.uk, or \"Operations <ops@example.nhs.uk>\""
	parsed, err := mail.ParseAddress(t.text)
	if err != nil {
		r.fail(t.place, "must be an e-mail address", hint)
		return "", ""
	}
	at := strings.LastIndexByte(parsed.Address, '@')
	name, domain := parsed.Address[:at], parsed.Address[at+1:]
	switch {
	case strings.ContainsFunc(parsed.Name, func(c rune) bool { return !unicode.IsPrint(c) }): // =?utf-8?q?=0d=0a?= is a line break
		r.fail(t.place, "the name of the address has characters that cannot be printed", hint)
	case len(name) > 64 || !mailLocal.MatchString(name) || !validHost(strings.ToLower(domain)):
		r.fail(t.place, "must be an e-mail address of plain letters, without quotes, at a host name", hint)
	case parsed.Name == "":
		return parsed.Address, parsed.Address
	default:
		return parsed.String(), parsed.Address
	}
	return "", ""
}

// relay returns HOST:PORT.
func (r *reading) relay(t text) string {
	const hint = "write host and port, such as relay.example.nhs.uk:587; 465 is for tls: tls; an IPv6 address stands in brackets: [2001:db8::1]:25"
	switch host, _, err := net.SplitHostPort(t.text); {
	case t.text == "":
		r.fail(t.place, "no relay is named", hint)
	case err != nil || host == "" || strings.HasPrefix(t.text, "unix:"):
		r.fail(t.place, "must be HOST:PORT"+t.not(t.text), hint)
	default:
		return r.dialled(t).Address
	}
	return ""
}

// url returns the URL of a sink, "" after a mistake, and why nothing protects what is sent there, if that is so. Nothing of a URL is ever quoted.
func (r *reading) url(raw *rawSink, kind string) (address, open string) {
	t := raw.URL
	u, err := url.Parse(t.text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https":
		r.fail(t.place, "must be a URL that begins with http:// or https://", "")
	case u.User != nil:
		r.fail(t.place, "holds a user or a password", "write username: and password_file: beside it")
	case !webHost(u):
		r.fail(t.place, "must name a host, perhaps with a port from 1 to 65535", "a name is written in lower case")
	case strings.Contains(t.text, "#"):
		r.fail(t.place, `has a "#" with what no server is sent behind it`, "remove it")
	case kind == SinkAlertmanager && (strings.Contains(t.text, "?") || strings.Contains(u.Path, "/api/v")):
		r.fail(t.place, "must be the address of Alertmanager alone", "write http://127.0.0.1:9093, with what --web.route-prefix says behind it; /api/v2/alerts is added")
	default:
		if kind == SinkWebhook && holdsToken(u, raw.Format.text) {
			r.warn(t.place, "the URL is a secret: who has it may write there as this host", "write it into a file that the daemon alone may read, and url_file: FILE")
		}
		if u.Scheme == "http" {
			open = "the URL is http"
			if !local(hostPort(t.text)) {
				r.warn(t.place, "the URL is http: whoever is on the way may read the alerts, change them and keep them back", "write https")
			}
		}
		return t.text, open
	}
	return "", ""
}

func webHost(u *url.URL) bool {
	host := u.Hostname()
	_, address := ipAddress(host)
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return (address || validHost(strings.ReplaceAll(host, "_", "x"))) && !strings.HasSuffix(u.Host, ":") && (u.Port() == "" || err == nil && port > 0)
}

// holdsToken reports whether whoever has the URL may use it.
func holdsToken(u *url.URL, format string) bool {
	host := u.Hostname()
	return format != FormatJSON || u.RawQuery != "" || host == "hooks.slack.com" || strings.HasSuffix(host, ".webhook.office.com") || strings.HasSuffix(host, ".logic.azure.com") || strings.HasSuffix(host, ".powerplatform.com")
}

// hostPort returns host and port of a URL that was checked.
func hostPort(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), u.Port())
}

// local reports whether HOST:PORT is this host.
func local(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip, ok := ipAddress(host)
	return ok && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
