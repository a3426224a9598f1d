package manage

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// target is where an answer belongs.
type target struct {
	slot    config.Slot
	request state.Request // the zero value: the key is one that the slot has already
	key     crypto.PublicKey
	own     crypto.Signer // without a request
}

// target finds what an answer is for, by public key: a request that waits, else a
// key that a slot has.
func (m *Manager) target(answer *enrol.Answer, id string) (target, error) {
	if id != "" {
		r, ok := m.find(id)
		if !ok {
			return target{}, m.noSuch(id)
		}
		return m.targetOf(r)
	}
	var found []state.Request
	for _, p := range answer.Certificates {
		r, ok := m.find(pki.RequestID(p.Certificate.PublicKey))
		if ok && !slices.ContainsFunc(found, func(f state.Request) bool { return f.ID == r.ID }) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return m.targetOwn(answer)
	case 1:
		return m.targetOf(found[0])
	}
	var names []string
	for _, r := range found {
		names = append(names, requestName(r))
	}
	return target{}, refused(ReasonSeveral, "take them one at a time: --request ID", "the answer has certificates for several requests: %s", strings.Join(names, ", "))
}

func (m *Manager) targetOf(r state.Request) (target, error) {
	slot, ok := m.c.Configuration().Slot(r.Slot)
	if !ok || slot.Managed == nil {
		return target{}, usage("put the slot back into the configuration, or cancel the request: spinecert csr cancel "+r.ID,
			"request %s is of slot %q, which is no longer managed", r.ID, r.Slot)
	}
	key, err := publicKey(r)
	return target{slot: slot, request: r, key: key}, err
}

// publicKey is that of a request.
func publicKey(r state.Request) (crypto.PublicKey, error) {
	contents, err := pki.Parse(r.CSR, nil)
	if err != nil {
		return nil, fmt.Errorf("read request %s: %w", r.ID, err)
	}
	if len(contents.Requests) != 1 {
		return nil, fmt.Errorf("read request %s: there are %d in its file", r.ID, len(contents.Requests))
	}
	return contents.Requests[0].PublicKey, nil
}

// targetOwn finds the slot that has the key of an answer already: in force, or, if
// it was rolled back, in a generation that it keeps.
func (m *Manager) targetOwn(answer *enrol.Answer) (target, error) {
	for _, slot := range m.managedSlots() {
		g := m.serving(slot.Name)
		if g == nil {
			continue
		}
		for _, id := range append([]*pki.Identity{g.Identity}, m.rolledBack(slot.Name, g)...) {
			key := id.Leaf().PublicKey
			if _, err := answer.Leaf(key); err == nil {
				return target{slot: slot, key: key, own: id.Signer()}, nil
			}
		}
	}
	return target{}, m.noRequest(answer)
}

// rolledBack returns what a held slot keeps besides.
func (m *Manager) rolledBack(slot string, g *rotate.Generation) []*pki.Identity {
	if !g.Held {
		return nil
	}
	var out []*pki.Identity
	history, _ := m.c.Directory.History(slot)
	for _, r := range history {
		if id, err := m.c.Directory.Load(slot, r.Number); err == nil {
			out = append(out, id)
		}
	}
	return out
}

func (m *Manager) managedSlots() []config.Slot {
	var out []config.Slot
	for _, s := range m.c.Configuration().Slots {
		if s.Managed != nil {
			out = append(out, s)
		}
	}
	return out
}

func requestName(r state.Request) string { return fmt.Sprintf("%s (slot %s)", r.ID, r.Slot) }

// most is how many of a kind a message names.
const most = 5

// noRequest says that nothing is for any key, what was found, and where was looked.
func (m *Manager) noRequest(answer *enrol.Answer) error {
	if len(answer.Certificates) == 0 {
		return m.noCertificate(answer)
	}
	requests, _ := m.Requests()
	slots := m.managedSlots()
	var found, looked []string
	for _, p := range answer.Certificates {
		c := p.Certificate
		found = append(found, fmt.Sprintf("%s (public key sha256 %s) in %s", named(c.Subject), pki.KeyFingerprint(c.PublicKey), clip(p.Where, maxName)))
	}
	for _, r := range requests {
		looked = append(looked, requestName(r))
	}
	in := "no request waits"
	if len(looked) > 0 {
		in = "looked at the requests " + some(looked)
	}
	in += fmt.Sprintf(", and at the keys in force of %d managed slots", len(slots))
	return refused(ReasonNoRequest, m.noRequestAdvice(answer, len(requests), slots),
		"no request has the key of a certificate that was found: %s; %s", some(found), in)
}

func (m *Manager) noRequestAdvice(answer *enrol.Answer, requests int, slots []config.Slot) string {
	var leaves []*x509.Certificate
	for _, p := range answer.Certificates {
		if !p.Certificate.IsCA {
			leaves = append(leaves, p.Certificate)
		}
	}
	if len(leaves) == 0 {
		return "only CA certificates are there: the certificate itself comes apart from them, import it"
	}
	for _, leaf := range leaves {
		names, _ := pki.Names(leaf)
		for _, s := range slots {
			if slices.Contains(names, s.FQDN) {
				return fmt.Sprintf("it is for the name of slot %s, on another key: was its request answered already, cancelled, or made elsewhere? With its key file: spinecert import FILE --key KEY --out DIR", s.Name)
			}
		}
	}
	if requests == 0 {
		return "make a request first: spinecert csr new --slot SLOT; for a request that was made elsewhere: spinecert import FILE --key KEY --out DIR"
	}
	return "spinecert csr list shows the requests; for one that was made elsewhere: spinecert import FILE --key KEY --out DIR"
}

func (m *Manager) noCertificate(answer *enrol.Answer) error {
	advice := "import what the authority sent back"
	for _, r := range answer.Requests {
		if _, ok := m.find(pki.RequestID(r.PublicKey)); ok {
			advice = "this is the request itself: send it, and import what comes back"
		}
	}
	return refused(string(trust.NoCertificate), advice, "there is no certificate in %s", clip(some(answer.Looked), maxMessage/2))
}

// some joins the first few.
func some(all []string) string {
	if more := len(all) - most; more > 0 {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(", and %d more", more)
	}
	return strings.Join(all, ", ")
}
