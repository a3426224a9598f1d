package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/admin"
)

// exampleServices has one in each state.
func exampleServices() []admin.Service {
	at := func(generation uint64, dayOfMonth int) admin.ServiceVersion {
		return admin.ServiceVersion{Digest: strings.Repeat("ab", 32), Generation: generation, Leaf: strings.Repeat("cd", 32),
			Since: admin.Time{Time: day(2026, 11, dayOfMonth)}, NotAfter: admin.Time{Time: day(2027, 1, 2)}}
	}
	other := admin.ServiceVersion{Leaf: strings.Repeat("ef", 32), Since: admin.Time{Time: day(2026, 11, 19)}}
	service := func(name, state string, served admin.ServiceVersion) admin.Service {
		return admin.Service{Name: name, Slot: "pcs", State: state, Since: admin.Time{Time: day(2026, 11, 20)}, Generation: 3, Desired: at(3, 18), Delivered: at(3, 18),
			Proved: at(2, 1), Served: served, Looked: admin.Time{Time: day(2026, 11, 21)}, After: []string{}, Directory: "/etc/" + name + "/spine",
			Probe: []string{"127.0.0.1:443"}, Reload: "unit"}
	}
	nginx, held, failed, waits := service("nginx", "in_sync", at(3, 18)), service("haproxy", "held", at(2, 1)), service("postgres", "failed", other), service("batch", "delivering", admin.ServiceVersion{})
	nginx.Proved = at(3, 18)
	held.Delivered = at(2, 1)
	held.Step, held.Reason, held.LastError, held.Hint = "validate", "validate_failed", "validate \"/usr/sbin/haproxy\": exit status 1: odd\x1b[31mred", "mend it; once it is mended: spinecert deliver haproxy --now"
	failed.Step, failed.Reason, failed.LastError, failed.Retry = "prove", "wrong_certificate", "127.0.0.1:5432 serves another certificate", admin.Time{Time: day(2026, 11, 22)}
	waits.Waits, waits.After, waits.Probe = "waits for haproxy, which is held", []string{"haproxy"}, []string{}
	return []admin.Service{nginx, held, failed, waits}
}

// fakeDeliver answers by the state of the service.
func fakeDeliver(_ context.Context, _ admin.Caller, r admin.DeliverRequest) (admin.DeliverResult, error) {
	for _, s := range exampleServices() {
		if s.Name != r.Service {
			continue
		}
		out := admin.DeliverResult{Service: s}
		switch {
		case r.TimeoutMS <= 0:
			return out, &admin.Error{Code: admin.CodeUsage, Message: "no time was given"}
		case r.DryRun:
			out.Plan = &admin.DeliverPlan{Steps: []string{"write 1 files", "reload nginx.service"}, Files: []admin.PlannedFile{
				{Path: "/etc/nginx/spine/current/key.pem", Format: "key", Mode: "0640", Group: "nginx", Bytes: 1704, Change: "changed"}}}
			return out, nil
		case s.State == "held" && r.Now:
			out.Service.State, out.Service.Served, out.Service.LastError, out.Delivered = "in_sync", s.Desired, "", true
			return out, nil
		case s.State == "held":
			return out, &admin.Error{Code: admin.CodeRefused, Reason: s.Reason, Message: "service haproxy is held", Hint: s.Hint}
		case s.State == "failed":
			return out, &admin.Error{Code: admin.CodeFailed, Reason: "disk_full", Message: "write set: no space left", Hint: "make room"}
		case s.State == "delivering":
			return out, &admin.Error{Code: admin.CodeRefused, Reason: "waiting", Message: "service batch waits for haproxy, which is held", Hint: "--now"}
		}
		return out, nil
	}
	return admin.DeliverResult{}, &admin.Error{Code: admin.CodeUnknown, Message: "there is no service \"" + r.Service + "\"", Hint: "spinecert services lists those there are"}
}

func TestServicesTable(t *testing.T) {
	golden(t, "services.txt", text(&servicesResult{Services: exampleServices()}))
}

func TestServicePage(t *testing.T) {
	var all strings.Builder
	for _, s := range exampleServices() {
		all.WriteString(text(&servicesResult{Services: []admin.Service{s}, one: true}))
	}
	golden(t, "service.txt", all.String())
}

func TestNoServices(t *testing.T) {
	if got := text(&servicesResult{}); got != "no services are configured\n" {
		t.Errorf("%q", got)
	}
	if got := text(&statusResult{}); strings.Contains(got, "SERVICE") {
		t.Errorf("a status without services has a table of them:\n%s", got)
	}
}
