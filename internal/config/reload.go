package config

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const reloadHint = "write exactly one of {unit: NAME.service}, {haproxy: /run/haproxy/admin.sock}, {signal: HUP, pid_file: FILE} and {exec: [/path, ARGUMENT]} (one more beside haproxy), " +
	"or the word none, which must be written out, where the service watches its files itself"

// validate returns the step before the service is told; the zero Command for none.
func (r *reading) validate(choice *orNone[rawValidate]) Command {
	raw := &choice.value
	switch unit := raw.Unit.text != ""; {
	case unit && raw.Exec.set:
		r.fail(raw.Place, "names both exec and unit", "remove one of the two")
	case unit:
		return Command{Unit: r.unit(raw.Unit), Timeout: raw.Timeout.value}
	case raw.Exec.set:
		return Command{Exec: r.command(&raw.Exec, commandExample), Timeout: raw.Timeout.value}
	}
	return Command{}
}

// reload returns how the service is told.
func (r *reading) reload(choice *orNone[rawReload]) Reload {
	raw := &choice.value
	if !choice.mapped {
		if !choice.none {
			r.fail(choice.place, "nothing says how the service is told of new files", reloadHint)
		}
		return Reload{Kind: ReloadNone}
	}
	reload := Reload{Timeout: raw.Timeout.value, Window: r.window(raw.Window)}
	if reload.Window != nil {
		reload.WindowWait = raw.WindowWait.value
	} else if raw.WindowWait.set && raw.Window.text == "" {
		r.fail(raw.WindowWait.place, "there is no window to wait for", `write window: "22:00-04:00" beside it, or remove it`)
	}
	kinds := r.reloadKinds(raw)
	if i := slices.Index(kinds, ReloadHAProxy); i >= 0 && len(kinds) == 2 { // what its socket cannot take, its reload does
		r.instead(raw, kinds[1-i], &reload)
		kinds = []string{ReloadHAProxy}
	}
	switch {
	case len(kinds) > 1:
		r.fail(raw.Place, "names "+strings.Join(kinds, " and ")+", and a service is told in one way", reloadHint)
	case len(kinds) == 0:
		r.fail(raw.Place, "nothing says how the service is told of new files", reloadHint)
	default:
		reload.Kind = kinds[0]
	}
	switch reload.Kind {
	case ReloadHAProxy:
		reload.Socket = raw.HAProxy.value
		if !filepath.IsAbs(raw.HAProxy.text) && strings.ContainsAny(raw.HAProxy.text, ":@") {
			r.fail(raw.HAProxy.place, "must be the path of a unix socket"+raw.HAProxy.not(raw.HAProxy.text), "write haproxy: /run/haproxy/admin.sock, and in HAProxy stats socket /run/haproxy/admin.sock level admin")
		}
		r.socketPath(raw.HAProxy.place, reload.Socket)
	default:
		r.instead(raw, reload.Kind, &reload)
	}
	return reload
}

// instead reads one way to have a service reload as a whole.
func (r *reading) instead(raw *rawReload, kind string, reload *Reload) {
	switch kind {
	case ReloadUnit:
		reload.Unit, reload.Action = r.unit(raw.Unit), raw.Action.text
	case ReloadSignal:
		reload.Signal, reload.PIDFile = raw.Signal.text, raw.PIDFile.value
	case ReloadExec:
		reload.Exec = r.command(&raw.Exec, commandExample)
	}
}

// reloadKinds returns the ways in which a service is to be told. An empty word is none; one that was refused is one.
func (r *reading) reloadKinds(raw *rawReload) []string {
	var kinds []string
	signal := raw.Signal.text != "" || r.wrong[raw.Signal.key]
	for _, way := range []struct {
		named bool
		kind  string
	}{
		{raw.Unit.text != "" || r.wrong[raw.Unit.key], ReloadUnit},
		{raw.HAProxy.text != "" || r.wrong[raw.HAProxy.key], ReloadHAProxy},
		{signal, ReloadSignal},
		{raw.Exec.set || r.wrong[raw.Exec.key], ReloadExec},
	} {
		if way.named {
			kinds = append(kinds, way.kind)
		}
	}
	switch {
	case signal && raw.PIDFile.text == "":
		r.fail(raw.PIDFile.place, "a signal needs the file with the number of the process", "write pid_file: /run/NAME.pid")
	case !signal && raw.PIDFile.text != "":
		r.fail(raw.PIDFile.place, "is only for signal", "remove it, or write signal: HUP beside it")
	}
	if raw.Action.set && raw.Unit.text == "" {
		r.fail(raw.Action.place, "is only for unit", "remove it, or write unit: NAME.service beside it")
	}
	return kinds
}

// unitWords is a name of a service unit as systemd.unit(5) has it, with its instance if it is one of a template.
var unitWords = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?\.service$`)

// unit returns the name of a unit of systemd.
func (r *reading) unit(t text) string {
	name := t.text
	switch {
	case strings.Contains(name, "/"):
		r.fail(t.place, "must be the name of a unit, not a path", "write NAME.service")
	case strings.HasSuffix(name, "@.service"):
		r.fail(t.place, "is a template without an instance", "write NAME@INSTANCE.service")
	case unitWords.MatchString(name+".service") && !strings.HasSuffix(name, ".service"):
		hint := "a unit that can be told is a service: NAME.service"
		if filepath.Ext(name) == "" && plain(name) {
			hint = "write " + name + ".service"
		}
		r.fail(t.place, "must end in .service"+t.not(name), hint)
	case !unitWords.MatchString(name) || len(name) > 255:
		r.fail(t.place, "must be the name of a unit, NAME.service"+t.not(name), "")
	case name == "spinecertd.service" || strings.HasPrefix(name, "spinecert-hook@"):
		r.fail(t.place, "must not be a unit of spinecert itself", "name the unit of the service that reads the files")
	}
	return name
}

const commandExample = "[/usr/sbin/nginx, -t]"

// command returns a program and its arguments. Arguments are never quoted: they may hold a secret.
func (r *reading) command(raw *list[text], example string) []string {
	words := make([]string, len(raw.items))
	for i, word := range raw.items {
		words[i] = word.text
	}
	if len(words) == 0 {
		r.fail(raw.place, "no program is named", "write "+example)
		return nil
	}
	program := raw.items[0]
	switch {
	case len(words) == 1 && strings.Contains(words[0], " "):
		r.fail(program.place, "is one word with blanks in it, and no shell takes it apart", "write each argument as a word of its own: "+example)
	case !filepath.IsAbs(words[0]):
		r.fail(program.place, "must begin with the absolute path of a program"+program.not(words[0]), "write "+example+": no shell and no PATH finds it")
	}
	return words
}

var windowWords = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])$`)

// window returns the part of the day that is written; nil for none, and for one that is wrong.
func (r *reading) window(t text) *Window {
	if t.text == "" {
		return nil
	}
	const hint = `write window: "22:00-04:00", in local time, or remove it for at any time`
	digits := windowWords.FindStringSubmatch(t.text)
	if digits == nil {
		r.fail(t.place, "must be HH:MM-HH:MM"+t.not(t.text), hint)
		return nil
	}
	since := func(hour, minute string) time.Duration {
		h, _ := strconv.Atoi(hour) // the pattern has digits alone
		m, _ := strconv.Atoi(minute)
		return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
	}
	w := &Window{since(digits[1], digits[2]), since(digits[3], digits[4])}
	if w.From == w.To {
		r.fail(t.place, "the window ends where it begins"+t.not(t.text), hint)
		return nil
	}
	return w
}
