package state

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/pki"
)

// The files of a request; its key is in keyFile.
const (
	csrFile     = "request.csr"
	requestFile = "request.json"
	answerFile  = "answer.pem"
)

// Request is a CSR that waits for its certificate. Its private key is with it, on
// disk only.
type Request struct {
	ID          string // of the public key, see pki.RequestID
	Slot        string
	Environment string
	FQDN        string
	SANs        []string // as they were asked for
	Key         pki.KeyKind
	Created     time.Time
	By          string    // who asked: "uid 0", or "prepare"
	Reason      string    // "new" or "expiring"
	CSR         []byte    // PEM
	Answered    time.Time // when the answer came that waits with it; zero: there is none
}

// request is the content of request.json.
type request struct {
	Schema      int         `json:"schema"`
	ID          string      `json:"id"`
	Slot        string      `json:"slot"`
	Environment string      `json:"environment"`
	FQDN        string      `json:"fqdn"`
	SANs        []string    `json:"sans"`
	Key         pki.KeyKind `json:"key"`
	Created     time.Time   `json:"created"`
	By          string      `json:"by"`
	Reason      string      `json:"reason"`
}

// parseRequest reads request.json. What it says is not judged, but that it says
// what it is about.
func parseRequest(data []byte) (request, error) {
	var r request
	if err := json.Unmarshal(data, &r); err != nil {
		return r, errors.New("is no JSON of a request")
	}
	switch {
	case r.Schema > schema:
		return r, fmt.Errorf("has schema %d, which is not supported by this version", r.Schema)
	case r.Schema != schema || checkID(r.ID) != nil || checkName("slot", r.Slot) != nil:
		return r, errors.New("is not complete")
	}
	return r, nil
}

// requestPath is the directory of a request below the state directory.
func requestPath(slot, id string) string { return join(slotsName, slot, requestsName, id) }

// NewRequest keeps a request: whole, or not at all. The key is on disk before csr
// is called, which makes the CSR in PEM; it must not call methods of d. The ID and
// the CSR of the result are filled in. The error matches fs.ErrExist if the key has
// a request already, and is that of csr if that fails.
func (d *Directory) NewRequest(r Request, key crypto.Signer, csr func() ([]byte, error)) (Request, error) {
	r.ID, r.Answered = pki.RequestID(key.Public()), time.Time{}
	r.Created = r.Created.UTC().Round(0)
	if err := errors.Join(checkName("environment", r.Environment), checkID(r.ID)); err != nil {
		return r, err
	}
	end, err := d.beginSlot(r.Slot)
	if err != nil {
		return r, err
	}
	defer end()
	path := d.abs(requestPath(r.Slot, r.ID))
	encoded, err := pki.EncodeKey(key)
	if err != nil {
		return r, fail("write request", path, err)
	}
	about, err := encodeJSON(request{Schema: schema, ID: r.ID, Slot: r.Slot, Environment: r.Environment, FQDN: r.FQDN, SANs: append([]string{}, r.SANs...),
		Key: r.Key, Created: r.Created, By: r.By, Reason: r.Reason})
	if err != nil {
		return r, fail("write request", path, err)
	}
	if err := d.makeBelow(slotsName, r.Slot, requestsName); err != nil {
		return r, err
	}
	err = d.disk.NewDirectory(path,
		durable.File{Name: keyFile, Data: encoded, Mode: fileMode},
		durable.File{Name: requestFile, Data: about, Mode: fileMode},
		durable.File{Name: csrFile, Mode: fileMode, Make: func() (_ []byte, err error) {
			if r.CSR, err = csr(); err == nil {
				err = checkCSR(r.CSR, r.ID)
			}
			return r.CSR, err
		}})
	return r, fail("write request", path, err)
}

// checkCSR wants one CSR, signed by the key with this ID.
func checkCSR(data []byte, id string) error {
	block, _ := pem.Decode(data)
	if block == nil {
		return errors.New("there is no CSR in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err == nil && pki.RequestID(csr.PublicKey) != id {
		err = errors.New("the CSR is for another key")
	}
	return err
}

// Requests returns the requests of one slot, or of all if slot is "", oldest
// first. Those that are not whole are left out, and the error says why each.
func (d *Directory) Requests(slot string) ([]Request, error) {
	slots := []string{slot}
	var errs []error
	if slot == "" {
		names, err := d.names(slotsName)
		slots, errs = names, append(errs, err)
	} else if err := checkName("slot", slot); err != nil {
		return nil, err
	}
	var out []Request
	for _, slot := range slots {
		if checkName("slot", slot) != nil {
			continue
		}
		ids, err := d.names(join(slotsName, slot, requestsName))
		errs = append(errs, err)
		for _, id := range ids {
			if hidden(id) {
				continue
			}
			if checkID(id) != nil {
				errs = append(errs, failf("read request", d.abs(requestPath(slot, id)), "move it out of the state directory", "its name is no ID"))
				continue
			}
			r, err := d.request(slot, id)
			switch {
			case err == nil:
				out = append(out, r)
			case d.exists(join(slotsName, slot, requestsName, id)): // it did not end meanwhile
				errs = append(errs, err)
			}
		}
	}
	order.Stable(out, func(a, b Request) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.ID, b.ID))
	})
	return out, errors.Join(errs...)
}

// request reads one request. The key is not read, but must be there.
func (d *Directory) request(slot, id string) (Request, error) {
	if err := errors.Join(checkName("slot", slot), checkID(id)); err != nil {
		return Request{}, err
	}
	dir := requestPath(slot, id)
	if !d.exists(dir) {
		return Request{}, failf("read request", d.abs(dir), "spinecert csr list", "there is none: %w", fs.ErrNotExist)
	}
	name := join(dir, requestFile)
	data, err := d.readFile(name)
	var r request
	if err == nil {
		r, err = parseRequest(data)
	}
	if err == nil && (r.ID != id || r.Slot != slot) {
		err = fmt.Errorf("is of request %s of slot %q", r.ID, r.Slot)
	}
	if err != nil {
		return Request{}, fail("read request", d.abs(name), err)
	}
	name = join(dir, csrFile)
	if data, err = d.readFile(name); err == nil {
		err = checkCSR(data, id)
	}
	if err == nil {
		name = join(dir, keyFile)
		err = d.regular(name)
	}
	if err != nil {
		return Request{}, fail("read request", d.abs(name), err)
	}
	out := Request{ID: id, Slot: slot, Environment: r.Environment, FQDN: r.FQDN, SANs: r.SANs, Key: r.Key, Created: r.Created, By: r.By, Reason: r.Reason, CSR: data}
	if len(out.SANs) == 0 {
		out.SANs = nil
	}
	if st, err := d.lstat(join(dir, answerFile)); err == nil {
		out.Answered = time.Unix(st.Mtim.Unix()).UTC()
	}
	return out, nil
}

// RequestKey returns the private key of a request.
func (d *Directory) RequestKey(slot, id string) (crypto.Signer, error) {
	if err := errors.Join(checkName("slot", slot), checkID(id)); err != nil {
		return nil, err
	}
	name := join(requestPath(slot, id), keyFile)
	data, err := d.readFile(name)
	var key crypto.Signer
	if err == nil {
		key, err = pki.ParseKey(data)
	}
	if err == nil && pki.RequestID(key.Public()) != id {
		err = fmt.Errorf("is the key of request %s", pki.RequestID(key.Public()))
	}
	if err != nil {
		return nil, fail("read key", d.abs(name), err)
	}
	return key, nil
}

// KeepAnswer keeps the certificates of an answer, in PEM, with the request they
// answer, in the place of those that were there. One must be for its key.
func (d *Directory) KeepAnswer(slot, id string, chainPEM []byte) error {
	end, err := d.beginRequest(slot, id)
	if err != nil {
		return err
	}
	defer end()
	name := join(requestPath(slot, id), answerFile)
	if len(chainPEM) > maxFile {
		return failf("write answer", d.abs(name), "", "more than %d bytes", maxFile)
	}
	if _, err := parseAnswer(chainPEM, id); err != nil {
		return fail("write answer", d.abs(name), err)
	}
	dir := d.abs(slotsName, slot, requestsName)
	return fail("write answer", d.abs(name), d.disk.ReplaceBelow(dir, join(id, answerFile), chainPEM, fileMode))
}

// beginRequest starts a change to a request that is there.
func (d *Directory) beginRequest(slot, id string) (end func(), err error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if end, err = d.beginSlot(slot); err != nil {
		return nil, err
	}
	if !d.exists(requestPath(slot, id)) {
		end()
		return nil, failf("change request", d.abs(requestPath(slot, id)), "spinecert csr list", "there is none: %w", fs.ErrNotExist)
	}
	return end, nil
}

func parseAnswer(data []byte, id string) ([]*x509.Certificate, error) {
	certs, err := pki.ParseCertificates(data)
	if err == nil && !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return pki.RequestID(c.PublicKey) == id }) {
		err = errors.New("no certificate is for the key of the request")
	}
	return certs, err
}

// DropAnswer removes the answer that was kept, if there is one.
func (d *Directory) DropAnswer(slot, id string) error {
	end, err := d.beginRequest(slot, id)
	if err != nil {
		return err
	}
	defer end()
	path := d.abs(requestPath(slot, id), answerFile)
	err = d.disk.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fail("remove answer", path, err)
}

// Answer returns the certificates that were kept. The error matches fs.ErrNotExist
// if there are none.
func (d *Directory) Answer(slot, id string) ([]*x509.Certificate, error) {
	if err := errors.Join(checkName("slot", slot), checkID(id)); err != nil {
		return nil, err
	}
	name := join(requestPath(slot, id), answerFile)
	data, err := d.readFile(name)
	var certs []*x509.Certificate
	if err == nil {
		certs, err = parseAnswer(data, id)
	}
	if err != nil {
		return nil, fail("read answer", d.abs(name), err)
	}
	return certs, nil
}

// EndRequest removes a request, with its key. The error matches fs.ErrNotExist if
// there is none. If what was removed from its place could not be destroyed, that is
// no error: it has no name any more, and is tried again with the next change.
func (d *Directory) EndRequest(slot, id string) error {
	end, err := d.beginRequest(slot, id)
	if err != nil {
		return err
	}
	defer end()
	path := d.abs(requestPath(slot, id))
	err = d.disk.RemoveDir(path)
	if err != nil && !d.exists(requestPath(slot, id)) {
		return nil
	}
	return fail("remove request", path, err)
}
