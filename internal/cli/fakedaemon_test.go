package cli

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

func pemBlock(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

// serveFakeDaemons serves the admin API on one socket for each behaviour and
// returns their directory.
func serveFakeDaemons(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sc") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self := []int{os.Getuid()}
	status := func(context.Context) admin.Status { return exampleStatus() }
	good := admin.Backend{Writers: func() []int { return self }, Forbidden: func(admin.Caller, string) {}, Status: status, Rotate: fakeRotate,
		Reload: func(context.Context, admin.Caller) (admin.ReloadResult, error) {
			return admin.ReloadResult{Config: admin.ConfigStatus{File: "/etc/spinecert/spinecert.yaml"}, Refused: []string{}}, nil
		}}
	badConfig := good
	badConfig.Reload = func(context.Context, admin.Caller) (admin.ReloadResult, error) {
		return admin.ReloadResult{}, &admin.Error{Code: admin.CodeConfiguration, Message: "the configuration is wrong, nothing changed",
			Hint: "spinecert config check", Problems: []string{"/etc/s.yaml:3:5: slots.pcs: first", "/etc/s.yaml:9:1: second"}}
	}
	refused := good
	refused.Reload = func(context.Context, admin.Caller) (admin.ReloadResult, error) {
		return admin.ReloadResult{Config: admin.ConfigStatus{File: "/etc/spinecert/spinecert.yaml"}, Refused: []string{"slot pcs: expired"}},
			&admin.Error{Code: admin.CodeRefused, Message: "1 slot refused its material"}
	}
	reader := good
	reader.Writers = func() []int { return nil }
	slow := good
	slow.Status = func(ctx context.Context) admin.Status {
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Second):
		}
		return admin.Status{}
	}
	for name, backend := range map[string]admin.Backend{"good": good, "badconfig": badConfig, "refused": refused, "reader": reader, "slow": slow} {
		serveUnix(t, filepath.Join(dir, name), admin.NewServer(backend))
	}
	serveUnix(t, filepath.Join(dir, "noise"), &http.Server{Handler: http.NotFoundHandler()})
	return dir
}

func serveUnix(t *testing.T, path string, server *http.Server) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve %s: %v", path, err)
		}
	}()
	t.Cleanup(func() { server.Close(); <-done })
}

func fakeRotate(_ context.Context, _ admin.Caller, r admin.RotateRequest) (admin.RotateResult, error) {
	slot := admin.Slot{Name: r.Slot, State: "ready", Generation: 4, FQDN: "pcs.thirdparty.nhs.uk", NotAfter: admin.Time{Time: day(2027, 1, 2)}}
	switch {
	case r.Slot == "pcs" || r.Slot == "older" && len(r.Allow) == 1 && r.Allow[0] == "older":
		return admin.RotateResult{Slot: slot, Rotated: true}, nil
	case r.Slot == "same":
		return admin.RotateResult{Slot: slot}, nil
	case r.Slot == "older":
		slot.State = "refused"
		return admin.RotateResult{Slot: slot}, &admin.Error{Code: admin.CodeRefused, Message: "older than what is served", Hint: "--allow older"}
	}
	return admin.RotateResult{}, &admin.Error{Code: admin.CodeUnknown, Message: "no slot \"" + r.Slot + "\"", Hint: "spinecert status lists them"}
}

func day(year, month, day int) time.Time {
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
}

// exampleStatus has one of everything.
func exampleStatus() admin.Status {
	return admin.Status{
		Version: "v1.0.0", PID: 4711, Started: day(2026, 11, 20), Ready: false,
		Config: admin.ConfigStatus{File: "/etc/spinecert/spinecert.yaml", Loaded: day(2026, 11, 20), Error: "spinecert.yaml:3:1: a: wrong\nspinecert.yaml:4:1: b: wrong"},
		Environments: []admin.Environment{
			{Name: "live", Ready: true, Sequence: 7, Revocation: "require", Roots: 2, SubCAs: 1, Expired: 1, CRLs: []admin.CRL{
				{Origin: "/etc/crl/a.crl", Issuer: "CN=NHS Level 1C", Entries: 12, ThisUpdate: day(2026, 11, 1), NextUpdate: day(2026, 11, 21)}}},
			{Name: "int", Revocation: "off", LastError: "read trust file \"int.pem\": it holds no certificate"},
		},
		Slots: []admin.Slot{
			{Name: "pcs", Environment: "live", State: "ready", Generation: 3, FQDN: "pcs.thirdparty.nhs.uk", NotAfter: admin.Time{Time: day(2026, 12, 1)}},
			{Name: "old", Environment: "live", State: "refused", Generation: 1, Names: []string{"a.nhs.uk", "b.nhs.uk"}, NotAfter: admin.Time{Time: day(2026, 11, 20)}, LastError: "expired: \x1b[31mred"},
			{Name: "new", Environment: "int", State: "empty"},
		},
		Tunnels: []admin.Tunnel{
			{Name: "ssp-in", Direction: "inbound", Slot: "pcs", State: "open", Listen: []string{"0.0.0.0:4430"}, Forward: "127.0.0.1:8080", Connections: 2, Accepted: 100, Refused: 3},
			{Name: "sds-out", Direction: "outbound", Slot: "new", State: "closed", Listen: []string{"unix:/run/spinecert/sds.sock"}, Forward: "ldap.example:636", LastError: "slot not ready"},
		},
		Services: []struct{}{}, Requests: []struct{}{},
		Conditions: []admin.Condition{
			{Code: "expiring", Subject: "pcs", Severity: "warning", Since: day(2026, 11, 1), Message: "the certificate ends in 9 days", Hint: "ask for a new one"},
			{Code: "expired", Subject: "old", Severity: "critical", Since: day(2026, 11, 20), Message: "the certificate has ended"},
		},
	}
}
