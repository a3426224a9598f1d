package deliver

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
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
	Digest     string            `json:"digest"`             // see desired
	Identity   string            `json:"identity,omitempty"` // digest of the generation; "" where no file needs it
	Beside     string            `json:"beside"`             // of all but identity and passwords
	CRLs       string            `json:"crls,omitempty"`     // of the lists alone
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
	Up         bool              `json:"up"` // the service answered before
}

// held is why a digest is not tried again.
type held struct {
	Digest     string    `json:"digest"`
	Identity   string    `json:"identity,omitempty"` // where that is what failed, with what recipe
	Recipe     string    `json:"recipe,omitempty"`
	Generation uint64    `json:"generation"`
	Set        string    `json:"set,omitempty"` // what was refused, kept to be looked at
	Step       string    `json:"step"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	Hint       string    `json:"hint"`
	Since      time.Time `json:"since"`
}

// has reports whether a set has a file of this name with this content.
func (m *made) has(e set.Entry) bool {
	return m != nil && slices.ContainsFunc(m.Files, func(o set.Entry) bool { return o.Name == e.Name && o.SHA256 == e.SHA256 })
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

// chain is what a probe must see.
func (m *made) chain() ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, der := range m.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// whole reports whether everything is there that is relied on.
func (m *made) whole() bool {
	if m == nil {
		return true
	}
	_, err := m.chain()
	return err == nil && m.Digest != "" && m.Set != "" && m.Directory != "" && len(m.Files) > 0
}

// errDamaged marks a record that says nothing.
var errDamaged = errors.New("it is no record of a service; its files are delivered anew")

// readRecord returns the record of a service. One that is damaged is errDamaged, and
// none: everything is then delivered anew. Any other error is to be tried again, as
// without the record a hold and the way back would be lost.
func readRecord(from Records, name string) (record, error) {
	none := record{Schema: recordSchema}
	data, err := from.ReadService(name)
	if err != nil || data == nil {
		return none, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil || r.Schema < 1 || !r.Proved.whole() || !r.Attempt.whole() || r.Undo && r.Proved == nil {
		return none, fmt.Errorf("read record of service %q: %w", name, errDamaged)
	}
	if r.Schema > recordSchema {
		return none, failure.New(failure.StateUnwritable, "start the version that wrote it, or remove the file: the files of the service are then delivered anew",
			"read record of service %q: it has schema %d, which is not supported by this version", name, r.Schema)
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
