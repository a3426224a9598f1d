package enrol

import (
	"strings"
	"testing"
)

func TestLetter(t *testing.T) {
	const request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
	asked := Asked{Name: "pcs.thirdparty.nhs.uk", Names: []string{"a.nhs.uk", "b.nhs.uk"}, Key: "RSA 2048"}
	empty := NewLetter(Applicant{}, []byte(request), asked)
	for _, want := range []string{
		"Organisation: <", "ODS code: <", "Contact: <", "Environment: <live, INT, DEP", "Reason: <new endpoint",
		"Common name: pcs.thirdparty.nhs.uk\n", "Alternative names: a.nhs.uk, b.nhs.uk\n", "Key: RSA 2048\n", "\n\n" + request,
	} {
		if !strings.Contains(empty.Body, want) {
			t.Errorf("the body has no %q:\n%s", want, empty.Body)
		}
	}
	if want := "<dir@nhs.net for live, or itoc.supportdesk@nhs.net for path to live, or ssd.nationalservicedesk@nhs.net for MESH>"; empty.To != want {
		t.Errorf("to %q, want %q", empty.To, want)
	}
	if want := "Endpoint certificate request: pcs.thirdparty.nhs.uk"; empty.Subject != want {
		t.Errorf("subject %q", empty.Subject)
	}
	known := NewLetter(Applicant{Organisation: "Example Practice", ODS: "T99999", Contact: "A. Person"}, nil, asked)
	if want := "Organisation: Example Practice\nODS code: T99999\nContact: A. Person\n"; !strings.Contains(known.Body, want) {
		t.Errorf("the body has no %q:\n%s", want, known.Body)
	}
}

func TestLetterOfASlot(t *testing.T) {
	asked := Asked{Name: "pcs.thirdparty.nhs.uk", Environment: "live", Reason: "new endpoint"}
	l := NewLetter(Applicant{}, nil, asked)
	if l.To != "dir@nhs.net" || !strings.Contains(l.Body, "\nEnvironment: live\nReason: new endpoint\n") {
		t.Errorf("to %q:\n%s", l.To, l.Body)
	}
	for _, tc := range []struct{ environment, fqdn, to string }{
		{"live", "a.thirdparty.nhs.uk", "dir@nhs.net"},
		{"INT", "a.thirdparty.nhs.uk", "itoc.supportdesk@nhs.net"},
		{"live", "box.t99999.api.mesh-client.nhs.uk", "ssd.nationalservicedesk@nhs.net"},
		{"", "box.t99999.api.mesh-client.nhs.uk", "ssd.nationalservicedesk@nhs.net"},
	} {
		if d := DesksFor(tc.environment, tc.fqdn); len(d) != 1 || d[0].Address != tc.to {
			t.Errorf("%q %q: %v, want %s", tc.environment, tc.fqdn, d, tc.to)
		}
	}
	for _, environment := range []string{"", "main", "live-2"} {
		if d := DesksFor(environment, "int.thirdparty.nhs.uk"); len(d) != len(Desks()) {
			t.Errorf("%q: %v, and nothing told which", environment, d)
		}
	}
}
