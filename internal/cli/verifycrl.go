package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

// defaultListHost is the only host that lists are fetched from without a configuration.
const defaultListHost = "crl.nhs.uk"

// maxFetched bounds the addresses that are asked for one chain.
const maxFetched = 16

// listServers says where lists may be fetched from.
type listServers struct {
	hosts   []string
	proxy   string
	maxSize int64         // 0: as package fetch has it
	timeout time.Duration // for one list; 0 is 5 s
}

// missingCRLs returns the addresses of the lists that a verdict wants. None where
// nobody may be asked: a verdict of another date is made with what is at hand.
func (o *verifyOptions) missingCRLs(b *judgementBase, v *verification, verdict trust.Verdict, err error) []string {
	if o.at != "" || cmp.Or(v.request.Revocation, b.revocation) == trust.Off {
		return nil
	}
	var refused *trust.VerifyError
	switch {
	case err == nil:
		return verdict.Missing
	case errors.As(err, &refused) && (refused.Reason == trust.CRLUnavailable || refused.Reason == trust.CRLStale):
		return refused.Addresses
	}
	return nil
}

// fetchCRLs asks for lists and returns the state with those that came, and why the
// others did not.
func (b *judgementBase) fetchCRLs(ctx context.Context, state *trust.State, addresses []string, r *verifyResult) (*trust.State, []error) {
	client, err := fetch.New(fetch.Config{Hosts: b.lists.hosts, Proxy: b.lists.proxy, MaxBytes: b.lists.maxSize})
	if err != nil {
		return state, []error{err}
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	var told []error
	if len(addresses) > maxFetched {
		told = append(told, fmt.Errorf("%d lists are needed, and %d of them were asked for", len(addresses), maxFetched))
		addresses = addresses[:maxFetched]
	}
	crls := slices.Clone(state.CRLs())
	for _, address := range addresses {
		crl, err := b.fetchCRL(ctx, client, address, state.Bundle())
		if err != nil {
			told = append(told, err)
			continue
		}
		crls = append(crls, crl)
		note := fmt.Sprintf("the CRL of %s was fetched from %s", crl.IssuerCertificate().Subject.CommonName, address)
		if b.lists.proxy != "" {
			note += " through " + b.lists.proxy
		}
		r.Notes = append(r.Notes, note)
	}
	return state.WithCRLs(crls, state.Sequence()), told
}

func (b *judgementBase) fetchCRL(ctx context.Context, client *fetch.Client, address string, bundle *trust.Bundle) (*trust.CRL, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(b.lists.timeout, 5*time.Second))
	defer cancel()
	var body bytes.Buffer
	if _, err := client.Get(ctx, address, fetch.Known{}, &body); err != nil {
		return nil, err
	}
	contents, err := pki.Parse(body.Bytes(), nil)
	if err == nil && len(contents.CRLs) != 1 {
		err = &pki.Error{Part: "crl", Message: fmt.Sprintf("%d CRLs, want one", len(contents.CRLs))}
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", address, err)
	}
	return trust.ReadCRL(contents.CRLs[0], address, bundle.Certificates())
}

// stillMissing says why lists that are needed could not be had: in the sentence of
// a refusal, else in notes.
func stillMissing(r *verifyResult, verdict trust.Verdict, err error, told []error) error {
	var refused *trust.VerifyError
	switch {
	case len(told) == 0:
		return err
	case errors.As(err, &refused) && (refused.Reason == trust.CRLUnavailable || refused.Reason == trust.CRLStale):
		more := *refused
		var causes []string
		for _, t := range told {
			causes = append(causes, t.Error())
		}
		more.Detail += "; " + strings.Join(causes, "; ")
		r.fetchHint = pki.Hint(told[0])
		return &more
	case err == nil && len(verdict.Missing) > 0:
		for _, t := range told {
			r.Notes = append(r.Notes, t.Error())
		}
	}
	return err
}

// readCRLs reads the files with CRLs. Those that cannot be used are failures with
// exit status 1: nothing was examined with them.
func (b *judgementBase) readCRLs(o *verifyOptions, bundle *trust.Bundle) ([]*trust.CRL, error) {
	names, err := crlFiles(b.crls)
	if err != nil {
		return nil, err
	}
	var out []*trust.CRL
	var errs []error
	code := codeUnreadable
	for _, name := range names {
		in, err := readInput(name, o.stdin)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		contents, err := pki.Parse(in.data, nil)
		if err == nil && len(contents.CRLs) == 0 {
			err = &pki.Error{Part: "crl", Message: "there is no CRL in it"}
		}
		if err != nil {
			code = string(trust.CRLInvalid)
			errs = append(errs, pki.WithFile(err, name))
			continue
		}
		for _, der := range contents.CRLs {
			crl, err := trust.ReadCRL(der, name, bundle.Certificates())
			if err != nil {
				code = string(trust.CRLInvalid)
				errs = append(errs, err)
				continue
			}
			out = append(out, crl)
		}
	}
	if len(errs) > 0 {
		return nil, failed(code, errors.Join(errs...))
	}
	return out, nil
}

// crlFiles replaces directories by the files with CRLs in them, as the daemon does.
// One without any is an error, never an empty set.
func crlFiles(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		if info, err := os.Stat(name); name == standardInput || err != nil || !info.IsDir() {
			out = append(out, name)
			continue
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, unreadable(name, err)
		}
		found := 0
		for _, e := range entries {
			suffix := strings.ToLower(filepath.Ext(e.Name()))
			plain := e.Type().IsRegular() || e.Type()&fs.ModeSymlink != 0
			if plain && !strings.HasPrefix(e.Name(), ".") && slices.Contains([]string{".crl", ".pem", ".der"}, suffix) {
				out = append(out, filepath.Join(name, e.Name()))
				found++
			}
		}
		if found == 0 {
			f := unreadable(name, errors.New("there is no file *.crl, *.pem or *.der in the directory"))
			f.hint = "put the lists there, or leave the directory out"
			return nil, f
		}
	}
	return out, nil
}
