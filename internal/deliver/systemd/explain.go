package systemd

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// work is what is done with a unit, for errors.
type work struct{ unit, verb string }

// String is the start of an error.
func (w work) String() string { return fmt.Sprintf("%s unit %q", w.verb, w.unit) }

// commands name what shows more.
func (w work) commands() string {
	return fmt.Sprintf("journalctl -u %s -n 20; systemctl status %s", w.unit, w.unit)
}

func (w work) missing(err error) *failure.Error {
	return failure.New(failure.UnitMissing, "is the name right? systemctl status "+w.unit, "%s: %w", w, err)
}

// polkitUnit is the unit of polkitd, which the bus starts.
const polkitUnit = "polkit.service"

// explain makes a *failure.Error of what went wrong before there was a result.
func (w work) explain(err error) error {
	var told *failure.Error
	switch {
	case errors.As(err, &told):
		return told
	case errors.Is(err, errLost):
		return away(err)
	case errors.Is(err, context.Canceled):
		return failure.New(failure.Interrupted, "", "%s: interrupted", w)
	case errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errUnderWay): // who knows whether systemd had the request
		return failure.New(failure.BusAway, "who does not answer? systemctl status dbus.service polkit.service", "%s: systemd did not answer the request", w)
	case errors.Is(err, context.DeadlineExceeded):
		return failure.New(failure.Timeout, "give it a longer timeout, or find out what it waits for: systemctl list-jobs; "+w.commands(), "%s: no end within its time", w)
	}
	refused, _ := errors.AsType[dbus.Error](err)
	if strings.Contains(err.Error(), polkitUnit) && w.unit != polkitUnit { // systemd asks it, and passes on why there is no answer
		return failure.New(failure.NotPermitted, "polkitd must run: systemctl status "+polkitUnit, "%s: polkit cannot be asked: %w", w, err)
	}
	switch refused.Name {
	case systemdName + ".NoSuchUnit", systemdName + ".LoadFailed", systemdName + ".UnitMasked", systemdName + ".BadUnitSetting":
		return w.missing(err)
	case busName + ".Error.InvalidArgs": // no name of a unit
		return w.missing(err)
	case systemdName + ".JobTypeNotApplicable":
		return failure.New(failure.ReloadFailed, "it has no ExecReload: use action: restart", "%s: %w", w, err)
	case busName + ".Error.AccessDenied", busName + ".Error.InteractiveAuthorizationRequired":
		return failure.New(failure.NotPermitted, w.rule(), "%s: %w", w, err)
	case busName + ".Error.ServiceUnknown", busName + ".Error.NameHasNoOwner", busName + ".Error.NoReply", busName + ".Error.LimitsExceeded", busName + ".Error.Disconnected":
		return away(err)
	}
	return failure.New(failure.ReloadFailed, w.commands(), "%s: %w", w, err)
}

// rule says what polkit must be told.
func (w work) rule() string {
	who := "this user"
	if u, err := user.Current(); err == nil {
		who = fmt.Sprintf("user %q", u.Username)
	}
	return fmt.Sprintf("have polkit allow %s the action org.freedesktop.systemd1.manage-units with unit %q and verb %q, in /etc/polkit-1/rules.d/50-spinecert.rules, which spinecert config systemd prints; polkitd must be installed", who, w.unit, w.verb)
}
