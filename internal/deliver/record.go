package deliver

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/set"
)

// recordSchema is that of record.
const recordSchema = 1

// record is what is known of a service beyond the life of the process. It is
// replaced whole, and never changed once it is kept.
type record struct {
	Schema int `json:"schema"`
	// Proved is what the service was seen to serve last, of what was delivered.
	Proved *made `json:"proved,omitempty"`
	// Attempt is in place of Proved, or about to be, and not proved.
	Attempt *made `json:"attempt,omitempty"`
	// Undo says that Proved is to be put in the place of Attempt again.
	Undo bool `json:"undo,omitempty"`
	// Held is what is not tried again by itself.
	Held *held `json:"held,omitempty"`
}

// made is one set and what it was made of.
type made struct {
	Digest     string            `json:"digest"` // see desired
	Rest       string            `json:"rest"`   // of what digest has beside CRLs and passwords
	Generation uint64            `json:"generation"`
	Leaf       string            `json:"leaf"`            // SHA-256
	Chain      [][]byte          `json:"chain,omitempty"` // what a probe must see: the leaf first, DER
	Ends       time.Time         `json:"ends"`            // when the first of its certificates and lists is over
	NotAfter   time.Time         `json:"not_after"`       // when the first of its certificates is
	Directory  string            `json:"directory"`
	Set        string            `json:"set"`
	Files      []set.Entry       `json:"files"`
	Formats    map[string]string `json:"formats"` // by name of file
	Delivered  time.Time         `json:"delivered"`
	Proved     time.Time         `json:"proved"`
}

// held is why a digest is not tried again.
type held struct {
	Digest     string    `json:"digest"`
	Generation uint64    `json:"generation"`
	Step       string    `json:"step"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	Hint       string    `json:"hint"`
	Since      time.Time `json:"since"`
}

// version is what Status says of a set.
func (m *made) version() Version {
	if m == nil {
		return Version{}
	}
	v := Version{Digest: m.Digest, Generation: m.Generation, Leaf: m.Leaf, Since: m.Delivered, Ends: m.NotAfter}
	if !m.Proved.IsZero() {
		v.Since = m.Proved
	}
	return v
}

// chain is what a probe must see. What cannot be parsed was not written by us.
func (m *made) chain() []*x509.Certificate {
	var out []*x509.Certificate
	for _, der := range m.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil
		}
		out = append(out, c)
	}
	return out
}

// readRecord returns the record of a service. One that is damaged is none: everything
// is then delivered anew, which harms nothing.
func readRecord(from Records, name string) (record, error) {
	data, err := from.ReadService(name)
	if err != nil || data == nil {
		return record{Schema: recordSchema}, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil || r.Schema < 1 {
		return record{Schema: recordSchema}, fmt.Errorf("read record of service %q: it is no JSON of a record; its files are delivered anew", name)
	}
	if r.Schema > recordSchema {
		return record{Schema: recordSchema}, fmt.Errorf("read record of service %q: it has schema %d, which is not supported by this version; its files are delivered anew", name, r.Schema)
	}
	return r, nil
}

func writeRecord(to Records, name string, r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return to.WriteService(name, append(data, '\n'))
}
