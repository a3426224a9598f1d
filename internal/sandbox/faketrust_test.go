package sandbox

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
)

// fakeTrust is the trust of the fake daemon: a file, and what was added. A CA that
// is gone from the file waits for a word.
type fakeTrust struct {
	file  string
	mode  string
	slots map[string]*fakeSlot // complete before anybody asks

	mu       sync.Mutex
	added    []*x509.Certificate
	inForce  []*x509.Certificate
	proposed []*x509.Certificate // nil: none
	seen     map[string]*x509.Certificate
}

func parseFake(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate")
	}
	return out, nil
}

// missing returns the certificates of one set that another lacks.
func missing(from, in []*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(from), func(c *x509.Certificate) bool { return slices.ContainsFunc(in, c.Equal) })
}

func (f *fakeTrust) look() error {
	data, err := os.ReadFile(f.file)
	if err != nil {
		return err
	}
	next, err := parseFake(data)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next = append(next, missing(f.added, next)...)
	if f.proposed = nil; len(missing(f.inForce, next)) == 0 || f.mode == fakeHasty {
		f.inForce = next
	} else {
		f.proposed = next
	}
	return nil
}

func verifyFake(leaf *x509.Certificate, cas []*x509.Certificate) error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range cas {
		if c.CheckSignatureFrom(c) == nil {
			o.Roots.AddCert(c)
		} else {
			o.Intermediates.AddCert(c)
		}
	}
	_, err := leaf.Verify(o)
	return err
}

func (f *fakeTrust) judge(leaf *x509.Certificate) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return verifyFake(leaf, f.inForce)
}

// peer judges the peer of a tunnel and remembers who issued its certificate.
func (f *fakeTrust) peer(tunnel string) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		leaf := cs.PeerCertificates[0]
		if err := f.judge(leaf); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, c := range f.inForce {
			if leaf.CheckSignatureFrom(c) == nil {
				f.seen[leaf.Subject.CommonName+" of tunnel "+tunnel] = c
			}
		}
		return nil
	}
}

func (f *fakeTrust) server(base *tls.Config, tunnel string) *tls.Config {
	config := base.Clone()
	config.ClientCAs, config.VerifyConnection = x509.NewCertPool(), f.peer(tunnel)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.inForce {
		if c.CheckSignatureFrom(c) != nil {
			config.ClientCAs.AddCert(c)
		}
	}
	return config
}

func (f *fakeTrust) condition(s *status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.proposed != nil {
		s.Conditions = append(s.Conditions, struct {
			Code    string `json:"code"`
			Subject string `json:"subject"`
		}{"trust_changed", environment})
	}
}

func fakeCAs(certs []*x509.Certificate) []trustCA {
	out := []trustCA{}
	for _, c := range certs {
		out = append(out, trustCA{fingerprint(c)})
	}
	return out
}

func (f *fakeTrust) diff(next []*x509.Certificate) trustDiff {
	gone := missing(f.inForce, next)
	d := trustDiff{Digest: fmt.Sprint(fakeCAs(next)), Added: fakeCAs(missing(next, f.inForce)), Removed: fakeCAs(gone), Shrinks: len(gone) > 0}
	if f.mode == fakeBlind {
		return d
	}
	for name, s := range f.slots {
		if verifyFake(s.serving.Load().certificate.Leaf, next) != nil {
			d.Breaks = append(d.Breaks, "slot "+name+": breaks")
		}
	}
	for who, ca := range f.seen {
		if slices.ContainsFunc(gone, ca.Equal) {
			d.Breaks = append(d.Breaks, "peer "+who+", breaks")
		}
	}
	return d
}

func (f *fakeTrust) serve(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Files  []trustFile
		SHA256 []string `json:"sha256"`
		Digest string   `json:"bundle_sha256"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = f.look()
	f.mu.Lock()
	defer f.mu.Unlock()
	var certs []*x509.Certificate
	if len(in.Files) > 0 {
		certs, _ = parseFake(in.Files[0].Data)
	}
	var result any
	var err error
	switch strings.TrimPrefix(r.URL.Path, "/v1/") {
	case "reload":
		if f.proposed != nil {
			err = &apiError{"refused", "the trust files wait"}
		}
	case "trust/diff":
		next := f.inForce
		if certs != nil {
			next = append(certs, missing(f.added, certs)...)
		} else if f.proposed != nil {
			next = f.proposed
		}
		result = f.diff(next)
	case "trust/add":
		result, err = f.add(certs, in.SHA256)
	case "trust/accept":
		switch {
		case f.proposed == nil || in.Digest != fmt.Sprint(fakeCAs(f.proposed)):
			err = &apiError{"refused", "changed"}
		case f.mode == fakeStubborn:
			f.added, f.proposed = f.inForce, nil // and says that it did
		default:
			f.inForce, f.proposed = f.proposed, nil
		}
	}
	json.NewEncoder(w).Encode(map[string]any{"result": result, "error": err})
}

func (f *fakeTrust) add(certs []*x509.Certificate, sums []string) (trustAdded, error) {
	added := trustAdded{Added: fakeCAs(certs)}
	if len(sums) == 0 && f.mode != fakeNaive {
		return added, nil
	}
	if !sameSums(sums, sumsOf(added.Added)) && f.mode != fakeNaive {
		return added, &apiError{"refused", "not confirmed"}
	}
	f.added = append(f.added, certs...)
	f.inForce = append(f.inForce, missing(certs, f.inForce)...)
	added.Done = true
	return added, nil
}
