package config

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/order"
)

// alerts reads who is told of what, and when.
func (r *reading) alerts(raw *rawAlerts) Alerts {
	a := Alerts{
		Leaf:           r.steps(&raw.Expiry.Leaf, -1),
		CA:             r.steps(&raw.Expiry.CA, -1),
		RequestPending: r.steps(&raw.RequestPending, +1),
		RepeatWarning:  raw.Repeat.Warning.value,
		RepeatCritical: raw.Repeat.Critical.value,
	}
	r.warnRepeat(raw.Repeat.Warning)
	r.warnRepeat(raw.Repeat.Critical)
	for i := range raw.Sinks.rows {
		row := &raw.Sinks.rows[i]
		a.Sinks = append(a.Sinks, r.sink(row.name, &row.value))
	}
	order.Sort(a.Sinks, func(a, b Sink) int { return cmp.Compare(a.Name, b.Name) })
	return a
}

// steps returns durations that rise or fall from one to the next, by the sign of way.
func (r *reading) steps(raw *list[duration], way int) []time.Duration {
	order, hint := "larger", "write them from the smallest to the largest: [14d, 28d]"
	if way < 0 {
		order, hint = "smaller", "write them from the largest to the smallest: [90d, 30d, 7d]"
	}
	if len(raw.items) == 0 {
		r.fail(raw.place, "the list is empty", "at least one step is needed: remove the key for the default")
	}
	var steps []time.Duration
	for _, step := range raw.items {
		if r.wrong[step.key] {
			continue // it has no value
		}
		if last := len(steps) - 1; last >= 0 && slices.Contains(steps, step.value) {
			r.fail(step.place, "the step is listed twice", "remove one of the two")
		} else if last >= 0 && cmp.Compare(step.value, steps[last]) != way {
			r.fail(step.place, "must be "+order+" than the step before it"+step.not(step.text), hint)
		}
		steps = append(steps, step.value)
	}
	return steps
}

func (r *reading) warnRepeat(every duration) {
	if every.value > 0 && every.value < time.Hour {
		r.warn(every.place, "everything that is wrong and not acknowledged is told again every "+every.text, "write 1h or more, or 0s for never")
	}
}

func (r *reading) sink(name string, raw *rawSink) Sink {
	s := Sink{Name: name, Type: raw.Type.text, Min: raw.Min.text, Timeout: raw.Timeout.value}
	if raw.Type.text == "" {
		r.fail(raw.Type.place, "no type is named", "write type: email, alertmanager, webhook, exec or journal")
		return s
	}
	r.others(raw)
	if name == SinkJournal && s.Type != SinkJournal {
		r.fail(raw.Type.place, "the sink called journal is the log of the daemon, of type journal", "call this one otherwise")
	}
	switch s.Type {
	case SinkEmail:
		r.email(raw, &s)
	case SinkAlertmanager, SinkWebhook:
		r.web(raw, &s)
	case SinkExec:
		s.Command = r.command(&raw.Command, "[/usr/local/bin/page, ARGUMENT]")
	}
	r.takes(raw.Place, "sink "+name, use{&raw.PasswordFile, "password"}, use{&raw.URLFile, "URL"}, use{&raw.CA, "roots"}, use{&raw.Template, "template"})
	r.sinks = append(r.sinks, raw)
	return s
}

// others reports the keys of other types, also where they say what the default is: whoever wrote them expects them to do something.
func (r *reading) others(raw *rawSink) {
	v := reflect.ValueOf(raw).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		types := words(field.Tag, "only")
		key, ok := v.Field(i).Addr().Interface().(interface{ inFile() (place, bool) })
		if !ok || len(types) == 0 || slices.Contains(types, raw.Type.text) {
			continue
		}
		if p, written := key.inFile(); written {
			r.fail(p, "is only for sinks of type "+oneOf(types), "remove it: this one is of type "+raw.Type.text)
		}
	}
}

func (s *scalar) inFile() (place, bool)  { return s.place, s.set }
func (l *list[T]) inFile() (place, bool) { return l.place, l.set }

// login returns who logs in, and the file with the password. open says why nothing protects a password on its way, or is "".
func (r *reading) login(raw *rawSink, open, hint string) (username, passwordFile string) {
	username, passwordFile = raw.Username.text, raw.PasswordFile.value
	switch {
	case username == "" && raw.PasswordFile.text != "":
		r.fail(raw.Username.place, "password_file is named, and nobody to log in", "write username: beside it")
	case username != "" && raw.PasswordFile.text == "":
		r.fail(raw.PasswordFile.place, "username is named, and no password", "write password_file: FILE, which holds it in its first line")
	case username != "" && open != "":
		r.fail(raw.Username.place, "the password would be sent as plain text: "+open, hint)
	}
	return username, passwordFile
}

// secured returns the name and the roots that the certificate of the far side is judged by. open is as in login.
func (r *reading) secured(raw *rawSink, open string) (serverName, roots string) {
	if raw.ServerName.text != "" {
		r.hostName(raw.ServerName, "a host name in lower case")
	}
	for _, s := range []scalar{raw.ServerName.scalar, raw.CA.scalar} {
		if s.text != "" && open != "" {
			r.fail(s.place, "has no effect: "+open, "remove it")
		}
	}
	return raw.ServerName.text, raw.CA.value
}

func (r *reading) email(raw *rawSink, s *Sink) {
	if len(raw.To.items) == 0 {
		r.fail(raw.To.place, "nobody to write to is named", "write to: [ops@example.nhs.uk]")
	}
	seen := map[string]bool{}
	for _, to := range raw.To.items {
		whole, address := r.mailbox(to)
		if address != "" && seen[strings.ToLower(address)] {
			r.fail(to.place, "the address is listed twice", "remove one of the two")
		}
		seen[strings.ToLower(address)] = true
		s.To = append(s.To, whole)
	}
	if raw.From.text == "" {
		r.fail(raw.From.place, "no sender is named", "write from: spinecert@example.nhs.uk, an address that the relay takes")
	} else {
		s.From, _ = r.mailbox(raw.From)
	}
	s.SMTP = r.relay(raw.SMTP)
	s.TLS = raw.TLS.text
	open := ""
	if s.TLS == TLSNone {
		open = "tls is none"
	}
	s.ServerName, s.CA = r.secured(raw, open)
	s.Username, s.PasswordFile = r.login(raw, open, "write tls: starttls, or tls")
	if open != "" && s.SMTP != "" && !local(s.SMTP) {
		r.warn(raw.TLS.place, "tls is none: whoever is on the way to the relay may read the alerts, change them and keep them back", "write starttls, or tls")
	}
}

func (r *reading) web(raw *rawSink, s *Sink) {
	hint := "write url_file: FILE, which holds the URL in its first line; or url: where it is no secret"
	if s.Type == SinkAlertmanager {
		hint = "write url: http://127.0.0.1:9093; or url_file: FILE, which holds it in its first line"
	}
	open := ""
	switch {
	case raw.URL.text != "" && raw.URLFile.text != "":
		r.fail(raw.URLFile.place, "both url and url_file are named", "remove one of the two")
	case raw.URLFile.text != "":
		s.URLFile = raw.URLFile.value
	case raw.URL.text != "":
		s.URL, open = r.url(raw, s.Type)
	default:
		r.fail(raw.URL.place, "no URL is named", hint)
	}
	s.ServerName, s.CA = r.secured(raw, open)
	if s.URL != "" && local(hostPort(s.URL)) {
		open = "" // nobody is on the way
	}
	s.Username, s.PasswordFile = r.login(raw, open, "write https")
	if strings.Contains(s.Username, ":") {
		r.fail(raw.Username.place, "holds a colon, which ends the name", "RFC 7617: the password stands behind it")
	}
	if s.Type != SinkWebhook {
		return
	}
	s.Format, s.Template = raw.Format.text, raw.Template.value
	if raw.Template.text != "" && raw.Format.set {
		r.fail(raw.Format.place, "template makes what is sent", "remove one of the two")
	}
}
