package sink

import (
	"encoding/json"

	"github.com/spinecert/spinecert/internal/alert"
)

// documentVersion counts changes of the JSON that readers have to know of. Fields may be added within a version.
const documentVersion = 1

// document is what webhooks of format json and programs get; see docs/alerts.md.
type document struct {
	Version   int         `json:"version"`
	Spinecert string      `json:"spinecert"` // version of the program
	Event     alert.Event `json:"event"`
	Severity  string      `json:"severity"` // "" when all is resolved
	Subject   string      `json:"subject"`
	Text      string      `json:"text"`
	*alert.Message
}

// documentOf returns the JSON of a tidied message.
func documentOf(m *alert.Message, version string) ([]byte, error) {
	d := document{Version: documentVersion, Spinecert: version, Event: event(m), Severity: string(m.Severity()), Subject: subject(m), Text: text(m, version), Message: m}
	if d.Notices == nil {
		m := *m
		m.Notices = []alert.Notice{}
		d.Message = &m
	}
	return json.Marshal(d)
}
