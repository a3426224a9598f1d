package cli

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	old := good // a daemon that knows no requests
	good.NewRequest, good.Request, good.Cancel, good.Import, good.Rollback = fakeNewRequest, fakeRequest, fakeCancel, fakeImport, fakeRollback
	good.Deliver, good.Alerts = fakeDeliver, fakeAlerts()
	good.Upgrade = func(_ context.Context, _ admin.Caller, r admin.UpgradeRequest) (admin.UpgradeResult, error) {
		if r.TimeoutMS != 0 && r.TimeoutMS != 5000 {
			return admin.UpgradeResult{}, errors.New("another time limit than was asked for")
		}
		return admin.UpgradeResult{From: "v1", To: "v2", Program: "/usr/bin/spinecertd", PID: 52, Summary: "1 of 1 slots ready", Connections: 3}, nil
	}
	good.Refusals = func(context.Context) []admin.Refusal { return exampleRefusals() }
	badConfig := good
	badConfig.Reload = func(context.Context, admin.Caller) (admin.ReloadResult, error) {
		return admin.ReloadResult{}, &admin.Error{Code: admin.CodeConfiguration, Message: "the configuration is wrong, nothing changed",
			Hint: "spinecert config check", Problems: []string{"/etc/s.yaml:3:5: slots.pcs: first", "/etc/s.yaml:9:1: second"}}
	}
	badConfig.Upgrade = func(context.Context, admin.Caller, admin.UpgradeRequest) (admin.UpgradeResult, error) {
		return admin.UpgradeResult{From: "v1", Program: "/usr/bin/spinecertd"}, &admin.Error{Code: admin.CodeConfiguration, Message: "the new version does not take the configuration; the running daemon goes on",
			Problems: []string{"/etc/s.yaml:3:5: slots.pcs: first"}}
	}
	refused := good
	refused.Upgrade = func(context.Context, admin.Caller, admin.UpgradeRequest) (admin.UpgradeResult, error) {
		return admin.UpgradeResult{From: "v1", Program: "/usr/bin/spinecertd"}, &admin.Error{Code: admin.CodeFailed, Message: "upgrade failed, the running daemon goes on: it ended without a word"}
	}
	refused.Refusals = func(context.Context) []admin.Refusal { return []admin.Refusal{} }
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
	for name, backend := range map[string]admin.Backend{"good": good, "badconfig": badConfig, "refused": refused, "reader": reader, "slow": slow, "old": old} {
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
	case r.Slot == "held" && !r.Release:
		slot.State, slot.Held, slot.Of = "held", true, 2
		return admin.RotateResult{Slot: slot}, nil
	case r.Slot == "held", r.Slot == "pcs" || r.Slot == "older" && len(r.Allow) == 1 && r.Allow[0] == "older":
		return admin.RotateResult{Slot: slot, Rotated: true}, nil
	case r.Slot == "same":
		return admin.RotateResult{Slot: slot}, nil
	case r.Slot == "older":
		slot.State = "refused"
		return admin.RotateResult{Slot: slot}, &admin.Error{Code: admin.CodeRefused, Message: "older than what is served", Hint: "--allow older"}
	}
	return admin.RotateResult{}, &admin.Error{Code: admin.CodeUnknown, Message: "no slot \"" + r.Slot + "\"", Hint: "spinecert status lists them"}
}

const fakeCSR = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"

func fakeRequestOf(slot string) admin.CSRResult {
	return admin.CSRResult{Request: exampleStatus().Requests[0], KeySHA256: strings.Repeat("0f", 32), CSR: fakeCSR,
		Letter: admin.Letter{To: "dir@nhs.net", Subject: "Request of " + slot, Body: "Reason: new endpoint\n\n" + fakeCSR}, Inbox: "/var/lib/spinecert/inbox"}
}

func fakeNewRequest(_ context.Context, _ admin.Caller, r admin.CSRRequest) (admin.CSRResult, error) {
	switch {
	case r.Slot == "pcs" && r.Key == "" && r.SANs == nil, r.Slot == "given" && r.Key == "rsa-4096" && len(r.SANs) == 1:
		return fakeRequestOf(r.Slot), nil
	case r.Slot == "wild":
		return admin.CSRResult{}, &admin.Error{Code: admin.CodeRefused, Reason: "name_refused", Message: "judge name: has a wildcard", Hint: "write it out"}
	}
	return admin.CSRResult{}, &admin.Error{Code: admin.CodeUnknown, Message: "there is no slot"}
}

func fakeRequest(_ context.Context, id string) (admin.CSRResult, error) {
	if id != exampleStatus().Requests[0].ID {
		return admin.CSRResult{}, &admin.Error{Code: admin.CodeUnknown, Message: "there is no request \"" + id + "\""}
	}
	return fakeRequestOf("pcs"), nil
}

func fakeCancel(ctx context.Context, _ admin.Caller, r admin.CancelRequest) (admin.CancelResult, error) {
	found, err := fakeRequest(ctx, r.ID)
	return admin.CancelResult{Request: found.Request}, err
}

// fakeImport answers by the bytes it was given, which came over the socket.
func fakeImport(_ context.Context, _ admin.Caller, r admin.ImportRequest) (admin.ImportResult, error) {
	good := admin.ImportResult{Slot: "pcs", Environment: "live", Request: "0123456789abcdef", State: "in_force", Generation: 4, Subject: "CN=pcs", Names: []string{"pcs"},
		NotAfter: day(2027, 1, 2), Root: "CN=Root", Chain: []admin.ImportCA{}, Notes: []string{"a note"}, Open: []string{}, DryRun: r.DryRun}
	var all []byte
	for _, f := range r.Files {
		all = append(all, f.Data...)
	}
	switch strings.ReplaceAll(string(all), "\n", "") {
	case "good", "onetwo":
		return good, nil
	case "secret":
		if string(r.Password) == "secret-word" && r.Request == "0123456789abcdef" && slices.Equal(r.Allow, []string{"older", "names"}) {
			return good, nil
		}
	case "later":
		good.State, good.Again = "waiting", "it comes into force by itself on 2027-01-01T00:00:00Z"
		return good, &admin.Error{Code: admin.CodeRefused, Reason: "not_yet_valid", Message: "not yet valid", Hint: "wait"}
	}
	return admin.ImportResult{}, &admin.Error{Code: admin.CodeRefused, Reason: "no_request", Message: "no request has the key", Hint: "spinecert csr list"}
}

func fakeRollback(ctx context.Context, c admin.Caller, r admin.RollbackRequest) (admin.RotateResult, error) {
	done, err := fakeRotate(ctx, c, admin.RotateRequest{Slot: r.Slot})
	done.Slot.Of, done.Slot.Held = max(r.To, 1), done.Rotated
	return done, err
}

func day(year, month, day int) time.Time {
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
}

// exampleRefusals has one of a peer, and one of somebody who tries things out.
func exampleRefusals() []admin.Refusal {
	at := func(day int) time.Time { return time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC) }
	return []admin.Refusal{
		{Time: at(19), Last: at(20), Count: 300, Tunnel: "ssp-in", Peer: "192.0.2.7:39366", Name: "proxy.national.ncrs.nhs.uk", Serial: "68", Issuer: "Example Authentication",
			Result: "refused", Reason: "revoked", Rule: "SPINE.md, 2: not revoked", Hint: "the issuer withdrew this certificate; the peer needs a new one",
			Message: `"proxy.national.ncrs.nhs.uk" (serial 68) was revoked by "Example Authentication" on 2026-11-01`},
		{Time: at(18), Last: at(18), Count: 1, Tunnel: "sds-out", Result: "failed", Reason: "protocol", Rule: "RFC 5246, Section 7.2.2", Message: "odd\x1b[31mred", Hint: "look"},
	}
}

// exampleStatus has one of everything.
func exampleStatus() admin.Status {
	return admin.Status{
		Version: "v1.0.0", PID: 4711, Started: day(2026, 11, 20), Ready: false,
		Config: admin.ConfigStatus{File: "/etc/spinecert/spinecert.yaml", Loaded: day(2026, 11, 20), Error: "spinecert.yaml:3:1: a: wrong\nspinecert.yaml:4:1: b: wrong"},
		Environments: []admin.Environment{
			{Name: "live", Ready: true, Sequence: 7, Revocation: "require", Roots: 2, SubCAs: 1, Expired: 1, CRLs: []admin.CRL{
				{Origin: "/etc/crl/a.crl", Issuer: "CN=NHS Level 1C", Entries: 12, InForce: true, ThisUpdate: admin.Time{Time: day(2026, 11, 1)}, NextUpdate: admin.Time{Time: day(2026, 11, 21)}}}},
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
		Services: exampleServices(), Requests: []admin.Request{
			{ID: "0123456789abcdef", Slot: "pcs", Environment: "live", FQDN: "pcs.thirdparty.nhs.uk", SANs: []string{}, Key: "rsa-2048", Created: day(2026, 11, 1),
				Age: 20 * 24 * 3600, By: "prepare", Reason: "expiring", State: admin.RequestOpen},
			{ID: "fedcba9876543210", Slot: "old", Environment: "live", FQDN: "old.thirdparty.nhs.uk", SANs: []string{}, Key: "rsa-4096", Created: day(2026, 11, 20),
				Age: 3600, By: "uid 0", Reason: "new", State: admin.RequestAnswered, LastError: "not yet valid", Hint: "wait"},
		},
		Conditions: []admin.Condition{
			{Code: "expiring", Subject: "pcs", Severity: "warning", Since: day(2026, 11, 1), Message: "the certificate ends in 9 days", Hint: "ask for a new one"},
			{Code: "expired", Subject: "old", Severity: "critical", Since: day(2026, 11, 20), Message: "the certificate has ended"},
		},
	}
}
