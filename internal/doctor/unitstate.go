package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/spinecert/spinecert/internal/unit"
	"github.com/spinecert/spinecert/rotate"
)

// Names on the bus.
const (
	busOfSystemd = "org.freedesktop.systemd1"
	busOfPolkit  = "org.freedesktop.PolicyKit1"
	getAll       = "org.freedesktop.DBus.Properties.GetAll"
)

// AskUnit returns what systemd says of the unit of the daemon; nil where systemd does not run the host, or has no such unit. The error is that of the bus.
func AskUnit(ctx context.Context) (*UnitState, error) {
	if _, err := os.Stat(systemdBooted); err != nil {
		return nil, nil // nothing is known, and nothing is wrong
	}
	ctx, cancel := context.WithTimeout(ctx, unitWait)
	defer cancel()
	b, err := dialUnits(ctx)
	if err != nil {
		return nil, err
	}
	defer b.close()
	of, err := b.unit(ctx, unit.Name, "Service")
	if err != nil || of == nil {
		return nil, err
	}
	return b.state(ctx, of)
}

// unitBus is a connection that asks for properties.
type unitBus struct {
	conn *dbus.Conn
	end  context.CancelFunc
}

func dialUnits(ctx context.Context) (*unitBus, error) {
	address := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	if address == "" {
		address = "unix:path=/run/dbus/system_bus_socket"
	}
	life, end := context.WithCancel(ctx)
	conn, err := dbus.Dial(address, dbus.WithContext(life))
	if err != nil {
		end()
		return nil, err
	}
	if err := errors.Join(conn.Auth(nil), conn.Hello()); err != nil {
		_ = conn.Close()
		end()
		return nil, err
	}
	return &unitBus{conn, end}, nil
}

func (b *unitBus) close() {
	_ = b.conn.Close() // nothing was written over it
	b.end()
}

// properties are those of one unit, with the methods that read them. One that is of another type than documented is as one that is not there.
type properties map[string]dbus.Variant

func property[T any](p properties, name string) (value T) {
	_ = dbus.Store([]any{p[name].Value()}, &value) // the zero value of an older systemd
	return value
}

// unit returns the properties of a unit and of its kind; nil where there is none.
func (b *unitBus) unit(ctx context.Context, name, kind string) (properties, error) {
	var path dbus.ObjectPath
	manager := b.conn.Object(busOfSystemd, "/org/freedesktop/systemd1")
	if err := manager.CallWithContext(ctx, busOfSystemd+".Manager.LoadUnit", dbus.FlagNoAutoStart, name).Store(&path); err != nil {
		return nil, fmt.Errorf("ask systemd for unit %q: %w", name, err)
	}
	out := properties{}
	for _, face := range []string{"Unit", kind} {
		var some map[string]dbus.Variant
		if err := b.conn.Object(busOfSystemd, path).CallWithContext(ctx, getAll, dbus.FlagNoAutoStart, busOfSystemd+"."+face).Store(&some); err != nil {
			return nil, fmt.Errorf("ask systemd about unit %q: %w", name, err)
		}
		for key, value := range some {
			out[key] = value
		}
		if face == "Unit" && property[string](out, "LoadState") != "loaded" {
			return nil, nil // there is none
		}
	}
	return out, nil
}

func (b *unitBus) state(ctx context.Context, p properties) (*UnitState, error) {
	st := &UnitState{
		Reload: property[bool](p, "NeedDaemonReload"), DropIns: property[[]string](p, "DropInPaths"), PID: int(property[uint32](p, "MainPID")),
		User: property[string](p, "User"), Group: property[string](p, "Group"), Groups: property[[]string](p, "SupplementaryGroups"),
		ProtectSystem: property[string](p, "ProtectSystem"), ProtectProc: property[string](p, "ProtectProc"),
		Bounding: property[uint64](p, "CapabilityBoundingSet"), Ambient: property[uint64](p, "AmbientCapabilities"),
		Stop: time.Duration(min(property[uint64](p, "TimeoutStopUSec"), uint64(time.Hour.Microseconds()))) * time.Microsecond, Files: property[uint64](p, "LimitNOFILE"),
		Credentials: map[string]string{},
	}
	st.Reload = st.Reload || unread(st.DropIns)
	if state := property[string](p, "ActiveState"); state == "active" || state == "reloading" {
		st.Active, st.Since = true, time.UnixMicro(int64(property[uint64](p, "ActiveEnterTimestamp")))
	}
	for _, path := range property[[]string](p, "ReadWritePaths") {
		st.Write = append(st.Write, strings.TrimLeft(path, "-+"))
	}
	for name, root := range map[string]string{"StateDirectory": "/var/lib/", "RuntimeDirectory": "/run/", "CacheDirectory": "/var/cache/", "LogsDirectory": "/var/log/"} {
		for _, dir := range property[[]string](p, name) {
			st.Write = append(st.Write, root+dir)
		}
	}
	families := property[struct {
		Allow bool
		Names []string
	}](p, "RestrictAddressFamilies")
	st.AllFamilies, st.Families = !families.Allow, families.Names
	st.credentials(p)
	for _, name := range property[[]string](p, "TriggeredBy") {
		if !strings.HasSuffix(name, ".socket") {
			continue
		}
		s, err := b.unit(ctx, name, "Socket")
		if err != nil {
			return nil, err
		}
		if s != nil {
			st.Sockets = append(st.Sockets, UnitSocket{name, property[string](s, "FileDescriptorName"), property[string](s, "ActiveState") == "active"})
		}
	}
	if os.Geteuid() == 0 && st.PID > 0 { // polkit tells nobody else of others
		st.Allows = func(ctx context.Context, unit, verb string) (bool, error) {
			return polkitAllows(ctx, st.PID, unit, verb)
		}
	}
	return st, nil
}

// unread reports whether there is a drop-in that systemd has not read: it does not say so itself of the first one, whose directory it does not know.
func unread(known []string) bool {
	for _, dir := range unitDirectories() {
		found, _ := filepath.Glob(filepath.Join(dir, unit.Name+".d", "*.conf"))
		for _, file := range found {
			if !slices.ContainsFunc(known, func(k string) bool { return filepath.Base(k) == filepath.Base(file) }) {
				return true
			}
		}
	}
	return false
}

// credentials notes what systemd copies, and from where.
func (st *UnitState) credentials(p properties) {
	for _, name := range []string{"SetCredential", "SetCredentialEncrypted"} {
		for _, c := range property[[]struct {
			ID   string
			Data []byte
		}](p, name) {
			if _, ok := st.Credentials[c.ID]; !ok && string(c.Data) != rotate.MissingCredential {
				st.Credentials[c.ID] = ""
			}
		}
	}
	for _, name := range []string{"LoadCredential", "LoadCredentialEncrypted"} {
		for _, c := range property[[]struct{ ID, Path string }](p, name) {
			if st.Credentials[c.ID] = c.Path; !strings.HasPrefix(c.Path, "/") {
				st.Credentials[c.ID] = "" // handed to systemd itself
			}
		}
	}
}

// polkitAllows asks polkit whether a process may do something with a unit, as systemd would. Nothing is done.
func polkitAllows(ctx context.Context, pid int, unit, verb string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, unitWait)
	defer cancel()
	b, err := dialUnits(ctx)
	if err != nil {
		return false, err
	}
	defer b.close()
	subject := struct {
		Kind    string
		Details map[string]dbus.Variant
	}{"unix-process", map[string]dbus.Variant{"pid": dbus.MakeVariant(uint32(pid)), "start-time": dbus.MakeVariant(uint64(0))}}
	var answer struct {
		Authorized, Challenge bool
		Details               map[string]string
	}
	err = b.conn.Object(busOfPolkit, "/org/freedesktop/PolicyKit1/Authority").CallWithContext(ctx, busOfPolkit+".Authority.CheckAuthorization", 0,
		subject, "org.freedesktop.systemd1.manage-units", map[string]string{"unit": unit, "verb": verb}, uint32(0), "").Store(&answer)
	return answer.Authorized, err
}
