package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
)

// exampleAlerts has one in each state.
func exampleAlerts() admin.AlertList {
	alert := func(code condition.Code, kind condition.Kind, subject string, severity condition.Severity, state string) admin.Alert {
		c := condition.Condition{Code: code, Kind: kind, Subject: subject, Severity: severity, Since: day(2026, 11, 1), Message: "what is wrong with it", Hint: "do something"}
		c.Complete("")
		return admin.Alert{Condition: c, State: state, Opened: admin.Time{Time: day(2026, 11, 1)}, Told: admin.Time{Time: day(2026, 11, 20)}, Sinks: []string{"ops", "page"}}
	}
	expiring := alert("expiring", "slot", "pcs", "critical", admin.AlertActive)
	expiring.Ends, expiring.Stops, expiring.Next = condition.Moment{Time: day(2026, 11, 28)}, "tunnel ssp-in, service nginx", admin.Time{Time: day(2026, 11, 23)}
	expiring.Affects = condition.Affects{ODS: []string{"A99999", "B99999"}, ASIDs: []string{"200000000001"}, Note: "booking \x1b[31mred"}
	expiring.Command = "spinecert csr new --slot pcs"
	seen := alert("rotation_refused", "slot", "pcs", "warning", admin.AlertAcknowledged)
	seen.Ack = &admin.Ack{By: "anna", UID: 1000, At: day(2026, 11, 20), Until: day(2026, 12, 4)}
	waits := alert("request_pending", "slot", "other", "warning", admin.AlertWaiting)
	waits.Opened, waits.Told, waits.Sinks, waits.Next = admin.Time{}, admin.Time{}, []string{}, admin.Time{Time: day(2026, 12, 1)}
	gone := alert("tunnel_down", "tunnel", "ssp-in", "warning", admin.AlertResolving)
	return admin.AlertList{Alerts: []admin.Alert{expiring, seen, waits, gone}, Sinks: []admin.SinkStatus{
		{Name: "ops", Type: "email", Min: "warning", State: admin.SinkFailing, Pending: 2, Failures: 3, LastError: "send mail by localhost:2: connection refused", Hint: "see whether the address is right", NextTry: admin.Time{Time: day(2026, 11, 22)}},
		{Name: "page", Type: "exec", Min: "critical", State: admin.SinkWorks, LastSent: admin.Time{Time: day(2026, 11, 20)}},
	}}
}

// fakeAlerts answers as a daemon with these alerts.
func fakeAlerts() *admin.AlertBackend {
	return &admin.AlertBackend{
		List: func(context.Context) (admin.AlertList, error) { return exampleAlerts(), nil },
		Ack: func(_ context.Context, c admin.Caller, r admin.AckRequest) (admin.Alert, error) {
			for _, a := range exampleAlerts().Alerts {
				if a.ID == r.ID {
					if a.Ack = nil; r.For > 0 {
						a.Ack = &admin.Ack{By: "anna", UID: c.UID, At: day(2026, 11, 22), Until: day(2026, 11, 22).Add(r.For)}
					}
					return a, nil
				}
			}
			return admin.Alert{}, &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no alert %q", r.ID), Hint: "spinecert alerts list names them"}
		},
		Test: func(_ context.Context, _ admin.Caller, r admin.TestRequest) (admin.TestResult, error) {
			switch r.Sink {
			case "page":
				return admin.TestResult{Sink: "page", Type: "exec", TookMS: 12}, nil
			case "ops":
				return admin.TestResult{}, &admin.Error{Code: admin.CodeFailed, Message: "send mail by localhost:2: connection refused", Hint: "see whether the address is right"}
			}
			return admin.TestResult{}, &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no sink %q", r.Sink), Hint: "spinecert alerts list names them"}
		},
	}
}

func TestAlertsPage(t *testing.T) {
	golden(t, "alerts.txt", text(&alertsResult{AlertList: exampleAlerts(), now: day(2026, 11, 22)}))
	if got := text(&alertsResult{AlertList: admin.AlertList{Alerts: []admin.Alert{}}}); !strings.HasPrefix(got, "nothing is wrong\n") {
		t.Errorf("%q", got)
	}
}

// TestManyAlerts: the table has them all, in lines that fit; a few are described.
func TestManyAlerts(t *testing.T) {
	l, one := admin.AlertList{}, exampleAlerts().Alerts[0]
	for i := range 10_000 {
		one.ID = fmt.Sprintf("expiring/slot/practice-%d", i)
		l.Alerts = append(l.Alerts, one)
	}
	began := time.Now()
	table, rest, _ := strings.Cut(text(&alertsResult{AlertList: l, now: day(2026, 11, 22)}), "\n\n")
	for line := range strings.Lines(table) {
		if len(line) > 80 {
			t.Fatalf("%d columns: %s", len(line), line)
		}
	}
	if n := strings.Count(table, "\n"); n != 10_000 {
		t.Errorf("%d rows", n)
	}
	if n := strings.Count(rest, "\n  when: "); n != maxDetailed || !strings.Contains(rest, "9980 more stand in the table only") {
		t.Errorf("%d are described: %s", n, rest[len(rest)-200:])
	}
	t.Logf("after %s", time.Since(began))
}
