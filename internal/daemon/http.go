package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/user"
	"strconv"
	"time"

	"github.com/spinecert/spinecert/internal/handover"
	"github.com/spinecert/spinecert/internal/tunnel"
)

// loopStalled is when /healthz takes the run loop for hung; it turns every few seconds.
const loopStalled = 30 * time.Second

// listenAdmin opens the admin socket, 0660 for its group.
func (d *Daemon) listenAdmin(ctx context.Context) (err error) {
	a := d.config.Admin
	if d.socket, err = d.inherited(handover.Admin, a.Socket); d.socket != nil || err != nil {
		return err
	}
	if d.socket, err = tunnel.ListenUnix(ctx, a.Socket, 0o660, a.Group); err != nil {
		return adviseListen(fmt.Errorf("open admin socket: %w", err))
	}
	return nil
}

// listenHTTP opens the address of metrics, health and the status page, if there is one.
func (d *Daemon) listenHTTP(ctx context.Context) (err error) {
	address := d.config.Admin.HTTP
	if d.web, err = d.inherited(handover.HTTP, address); d.web != nil || err != nil || address == "" {
		return err
	}
	var lc net.ListenConfig
	if d.web, err = lc.Listen(ctx, httpNetwork(address), address); err != nil {
		return adviseListen(fmt.Errorf("open admin.http.listen %q: %w", address, errors.Unwrap(err)))
	}
	return nil
}

// serveHTTP serves until ctx ends, then gives requests under way a moment. Where the listener is closed before, they
// have until then.
func serveHTTP(ctx context.Context, s *http.Server, l net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	<-ctx.Done()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.Shutdown(grace); err != nil {
		return errors.Join(err, s.Close())
	}
	return <-ended
}

// loopbackHost answers who asks by a loopback name.
func loopbackHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "ask by a loopback name", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// writerIDs turns user names into user IDs. A name that does not exist may
// change nothing, and is told.
func (d *Daemon) writerIDs(names []string) []int {
	var out []int
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil {
			out = append(out, id)
			continue
		}
		u, err := user.Lookup(name)
		if err != nil {
			d.record1("config_warning", slog.LevelWarn, "admin.writers names a user that does not exist", slog.String("user", name))
			continue
		}
		if id, err := strconv.Atoi(u.Uid); err == nil {
			out = append(out, id)
		}
	}
	return out
}
