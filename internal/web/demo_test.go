package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
)

// demoNow is when the demonstrations take place.
var demoNow = time.Date(2026, time.November, 23, 9, 30, 0, 0, time.UTC)

// demo is a host with n slots, some of them in trouble, as a busy organisation has it.
func demo(n int) *View {
	now := demoNow
	at := func(days float64) admin.Time {
		return admin.Time{Time: now.Add(time.Duration(days * float64(day))).Truncate(time.Minute)}
	}
	v := &View{Now: now, Host: "spine-gw1.example.nhs.uk", Status: admin.Status{
		Version: "0.1.0", PID: 812, Started: at(-41.2).Time, Ready: true, Config: admin.ConfigStatus{File: "/etc/spinecert/spinecert.yaml", Loaded: at(-3.1).Time},
		Environments: []admin.Environment{{Name: "live", Ready: true, Sequence: 47, Revocation: "require", Roots: 1, SubCAs: 4, Expired: 1, Bundle: strings.Repeat("9f3c", 16), CRLs: []admin.CRL{
			{Issuer: "NHS Authentication Root CA G2", InForce: true, Origin: "http://crl.nhs.uk/int/g2/root.crl", Source: "bundle", Entries: 3, NextUpdate: at(61), Fetched: at(-0.03)},
			{Issuer: "NHS Authentication subCA G2 1", InForce: true, Origin: "http://crl.nhs.uk/int/g2/1.crl", Source: "own", Entries: 18421, NextUpdate: at(5.5), Fetched: at(-0.03)},
			{Issuer: "NHS Authentication subCA G2 2", InForce: true, Origin: "http://crl.nhs.uk/int/g2/2.crl", Source: "peer", Entries: 9210, NextUpdate: at(0.9), Fetched: at(-6.1), Failures: 31, Error: "fetch \"http://crl.nhs.uk/int/g2/2.crl\": no route to host"},
		}}},
	}}
	services := []string{"gp-connect", "pds", "eps", "scr", "mesh", "ers", "sds", "dos", "nrl", "bars"}
	for i := range n {
		name := services[i%len(services)]
		if i >= len(services) {
			name = fmt.Sprintf("%s-%02d", name, i/len(services))
		}
		left := 95 + float64((i*263+119)%985) // the rest is in trouble
		s := admin.Slot{Name: name, Environment: "live", State: "ready", Generation: uint64(2 + i%3), FQDN: name + ".t99999.thirdparty.nhs.uk", Names: []string{name + ".t99999.thirdparty.nhs.uk"},
			Serial: fmt.Sprintf("4c%014x", i*7919), SHA256: strings.Repeat(fmt.Sprintf("%02x", i%256), 32), Source: "managed", Managed: true, Origin: "import",
			Affects: admin.Affects{ODS: []string{"T99999"}, ASIDs: []string{fmt.Sprintf("%012d", 200000000000+i)}}}
		switch {
		case i == 1:
			left = 4.2
			v.add(condition.Condition{Code: condition.Expiring, Kind: condition.Slot, Subject: name, Slot: name, Severity: condition.Critical, Since: at(left - 90).Time, Message: "its certificate or chain ends on " + at(left).Format(time.DateOnly),
				Hint: "ask where the answer to request 3fa9c01b77d2e410 is: it waits since 2026-08-30", Command: "spinecert csr show --mail 3fa9c01b77d2e410", Ends: condition.Moment{Time: at(left).Time},
				Stops: "tunnel " + name + "-in, service haproxy", Affects: condition.Affects{ODS: []string{"T99999"}, ASIDs: []string{"200000000001"}, Note: "Personal Demographics Service"}})
		case i == 3:
			left = 23
			v.add(condition.Condition{Code: condition.Expiring, Kind: condition.Slot, Subject: name, Slot: name, Severity: condition.Warning, Since: at(left - 90).Time, Message: "its certificate or chain ends on " + at(left).Format(time.DateOnly),
				Hint: "ask for the next certificate now", Command: "spinecert csr new --slot " + name, Ends: condition.Moment{Time: at(left).Time}, Stops: "tunnel " + name + "-in", Affects: condition.Affects{ODS: []string{"T99999", "X26"}}})
		}
		served := left - 1095
		s.NotAfter, s.Since = at(left), at(served+2)
		for g := s.Generation; g > 1; g-- {
			from := served - 1000*float64(s.Generation-g+1)
			s.Timeline = append([]admin.Generation{{Number: g - 1, State: admin.GenerationPast, Origin: "import", NotBefore: at(from), NotAfter: at(from + 1095), From: at(from + 2), To: at(from + 1002), Serial: fmt.Sprintf("31%014x", i*31)}}, s.Timeline...)
		}
		s.Timeline = append(s.Timeline, admin.Generation{Number: s.Generation, State: admin.GenerationPresent, Origin: "import", NotBefore: at(served), NotAfter: s.NotAfter, From: s.Since, Serial: s.Serial, SHA256: s.SHA256})
		switch {
		case i == 1:
			s.Timeline = append(s.Timeline, admin.Generation{State: admin.GenerationComing, Request: "3fa9c01b77d2e410", Asked: at(-85)})
			v.Status.Requests = append(v.Status.Requests, admin.Request{ID: "3fa9c01b77d2e410", Slot: name, Environment: "live", FQDN: s.FQDN, Key: "rsa-2048", Created: at(-85).Time, By: "prepare", Reason: "expiring", State: "open"})
		case i%7 == 4:
			s.Timeline = append(s.Timeline, admin.Generation{Number: s.Generation + 1, State: admin.GenerationComing, Origin: "import", NotBefore: at(12), NotAfter: at(12 + 1095), Note: "waits for its first day"})
		default:
			s.Timeline = append(s.Timeline, admin.Generation{State: admin.GenerationComing, Asked: at(max(left-120, 1)), Note: "made by itself"})
		}
		v.Status.Slots = append(v.Status.Slots, s)
		if i < 40 {
			v.Status.Tunnels = append(v.Status.Tunnels, admin.Tunnel{Name: name + "-in", Direction: "inbound", Slot: name, State: "open", Listen: []string{fmt.Sprintf("0.0.0.0:%d", 4430+i)}, Forward: fmt.Sprintf("127.0.0.1:%d", 8080+i), Peers: []string{"proxy.national.ncrs.nhs.uk"},
				Connections: int64(i*37) % 61, Accepted: uint64(48211 + i*7919), Refused: uint64(i % 4), Policy: "enforce", Revocation: "require", LastRefused: at(-0.4 * float64(min(i%4, 1))), LastRefusedReason: []string{"", "not_listed", "expired", "revoked"}[i%4]})
		}
	}
	v.trouble(at)
	return v
}

func (v *View) add(c condition.Condition) {
	c.Complete("")
	v.Status.Conditions = append(v.Status.Conditions, c)
}

// trouble is what else is wrong on the host.
func (v *View) trouble(at func(float64) admin.Time) {
	first := v.Status.Slots[0]
	v.Status.Services = []admin.Service{{Name: "nginx", Slot: first.Name, State: "in_sync", Generation: first.Generation, Served: admin.ServiceVersion{Generation: first.Generation, NotAfter: first.NotAfter}, Looked: at(-0.01)}}
	v.Alerts.Sinks = []admin.SinkStatus{{Name: "ops", Type: "email", Min: "warning", State: "ok", LastSent: at(-1.3)}}
	v.Refusals = []admin.Refusal{{Time: at(-0.5).Time, Last: at(-0.02).Time, Count: 12, Tunnel: first.Name + "-in", Peer: "10.20.4.17:51234", Name: "test-harness.x26.nhs.uk", Serial: "5d01", Issuer: "NHS Authentication subCA G2 1", Result: "refused", Reason: "not_listed",
		Message: "the certificate is good, and its names are not among the peers: test-harness.x26.nhs.uk", Hint: "if this endpoint may connect, add its name to the tunnel's peers"}}
	if len(v.Status.Slots) < 2 {
		return
	}
	pds := v.Status.Slots[1]
	v.Status.Services = append(v.Status.Services, admin.Service{Name: "haproxy", Slot: pds.Name, State: "failed", Generation: pds.Generation, Served: admin.ServiceVersion{Generation: pds.Generation - 1, NotAfter: pds.NotAfter}, Step: "prove", LastError: "127.0.0.1:8443 still serves the certificate of generation 1", Retry: at(0.01), Looked: at(-0.002)})
	v.add(condition.Condition{Code: condition.ServiceFailed, Kind: condition.Service, Subject: "haproxy", Slot: pds.Name, Severity: condition.Critical, Since: at(-0.2).Time, Message: "prove: 127.0.0.1:8443 still serves the certificate of generation 1",
		Hint: "look at the log of haproxy, and deliver again", Ends: condition.Moment{Time: at(4.2).Time}, Stops: "service haproxy", Affects: pds.Affects})
	v.add(condition.Condition{Code: condition.CRLStale, Kind: condition.Environment, Subject: "live", Severity: condition.Warning, Since: at(-6).Time, Message: "the list of NHS Authentication subCA G2 2 ends soon and cannot be had again: no route to host", Hint: "mend the way to the list, or carry it here", Ends: condition.Moment{Time: at(0.9).Time}})
	v.Alerts.Sinks = append(v.Alerts.Sinks, admin.SinkStatus{Name: "teams", Type: "webhook", Min: "critical", State: "failing", Pending: 3, LastSent: at(-9), Failures: 14, LastError: "post to outlook.example.com: 502 Bad Gateway", NextTry: at(0.02)})
	v.add(condition.Condition{Code: condition.SinkFailing, Kind: condition.Sink, Subject: "teams", Severity: condition.Warning, Since: at(-0.3).Time, Message: "post to outlook.example.com: 502 Bad Gateway", Hint: "read the error, correct the sink, and try it"})
	v.Alerts.Alerts = []admin.Alert{
		{Condition: v.Status.Conditions[0], State: admin.AlertActive, Opened: at(-85), Told: at(-0.7), Sinks: []string{"ops", "teams"}},
		{Condition: v.Status.Conditions[1], State: admin.AlertAcknowledged, Opened: at(-60), Told: at(-6), Sinks: []string{"ops"}, Ack: &admin.Ack{By: "alice", UID: 1001, At: at(-5).Time, Until: at(2).Time}},
	}
	v.Refusals = append(v.Refusals, admin.Refusal{Time: at(-2).Time, Last: at(-1.9).Time, Count: 1, Tunnel: pds.Name + "-in", Peer: "10.9.1.2:40112", Result: "failed", Reason: "protocol", Message: "the peer hung up during the handshake: EOF", Hint: "a port scan or health check does this"})
}
