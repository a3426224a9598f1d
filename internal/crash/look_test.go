package crash

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// look.go: a state directory as the contract describes it, read without the help of
// package state.

// seen is what a state directory holds.
type seen struct {
	slots map[string]*seenSlot
	trust map[string]bool // file names without .pem, of environment live
}

type seenSlot struct {
	current     uint64 // 0: there is no link
	generations map[uint64]*seenGeneration
	requests    map[string]string // by ID: the name of the certificate that waits, or ""
}

type seenGeneration struct {
	cert, key, content string
	held               bool
	notBefore          int64
}

// eyes look at state directories. They know again, by all bytes of it, what was
// found whole before: most stays as it was from one process to the next.
type eyes struct {
	generations map[[sha256.Size]byte]*seenGeneration
	answers     map[[sha256.Size]byte]string // of requests
}

// lookAt reads everything. The error names all that is torn or readable by others.
func (y *eyes) lookAt(state string) (seen, error) {
	s := seen{slots: map[string]*seenSlot{}, trust: map[string]bool{}}
	errs := []error{checkModes(state)}
	for _, slot := range names(filepath.Join(state, "slots")) {
		dir := filepath.Join(state, "slots", slot)
		got := &seenSlot{generations: map[uint64]*seenGeneration{}, requests: map[string]string{}}
		s.slots[slot] = got
		for _, name := range names(filepath.Join(dir, "generations")) {
			n, err := strconv.ParseUint(name, 10, 64)
			if err == nil {
				got.generations[n], err = y.generation(filepath.Join(dir, "generations", name), slot, n)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("torn: generation %s of slot %s: %w", name, slot, err))
			}
		}
		for _, id := range names(filepath.Join(dir, "requests")) {
			answer, err := y.request(filepath.Join(dir, "requests", id), slot, id)
			if err != nil {
				errs = append(errs, fmt.Errorf("torn: request %s of slot %s: %w", id, slot, err))
			}
			got.requests[id] = answer
		}
		target, err := os.Readlink(filepath.Join(dir, "current"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		name, ok := strings.CutPrefix(target, "generations/")
		got.current, _ = strconv.ParseUint(name, 10, 64)
		if err == nil && (!ok || got.generations[got.current] == nil) {
			err = errors.New("no whole generation")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("torn: current of slot %s is %q: %w", slot, target, err))
			got.current = 0
		}
	}
	for _, name := range names(filepath.Join(state, "trust.d", "live")) {
		sum, _ := strings.CutSuffix(name, ".pem")
		certs, err := readCertificates(filepath.Join(state, "trust.d", "live", name))
		if err == nil && (len(certs) != 1 || fmt.Sprintf("%x", sha256.Sum256(certs[0].Raw)) != sum) {
			err = errors.New("it holds something else")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("torn: trust file %s: %w", name, err))
		}
		s.trust[sum] = true
	}
	return s, errors.Join(errs...)
}

// names lists what is in a directory but temporaries. What is not there is empty.
func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		if e.Name()[0] != '.' {
			out = append(out, e.Name())
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		out = append(out, "unreadable: "+err.Error()) // fits nowhere
	}
	return out
}

// files are those of one directory, by name.
type files map[string][]byte

// readAll reads a directory that holds these files and no others.
func readAll(dir string, want ...string) (files, [sha256.Size]byte, error) {
	f, h := files{}, sha256.New()
	for _, name := range names(dir) {
		if !slices.Contains(want, name) {
			return f, [sha256.Size]byte{}, fmt.Errorf("there is %q in it", name)
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return f, [sha256.Size]byte{}, err
		}
		f[name] = data
		fmt.Fprintf(h, "%s %d\n%s", name, len(data), data)
	}
	fmt.Fprint(h, dir)
	return f, [sha256.Size]byte(h.Sum(nil)), nil
}

func (f files) certificates(name string) ([]*x509.Certificate, error) {
	data, ok := f[name]
	if !ok {
		return nil, fmt.Errorf("%s is missing", name)
	}
	return parseCertificates(data)
}

func (y *eyes) generation(dir, slot string, number uint64) (*seenGeneration, error) {
	f, sum, err := readAll(dir, "cert.pem", "chain.pem", "fullchain.pem", "key.pem", "generation.json")
	if err != nil || y.generations[sum] != nil {
		return y.generations[sum], err
	}
	g, err := f.generation(slot, number)
	if err == nil {
		y.generations[sum] = g
	}
	return g, err
}

// generation wants every file, and each to be of the same identity.
func (f files) generation(slot string, number uint64) (*seenGeneration, error) {
	if _, err := tls.X509KeyPair(f["fullchain.pem"], f["key.pem"]); err != nil {
		return nil, err
	}
	certs, err := f.certificates("fullchain.pem")
	leaf, leafErr := f.certificates("cert.pem")
	chain, chainErr := f.certificates("chain.pem")
	if err := errors.Join(err, leafErr, chainErr); err != nil {
		return nil, err
	}
	if raws(append(leaf, chain...)) != raws(certs) || len(leaf) != 1 {
		return nil, errors.New("its files hold different certificates")
	}
	for i := range chain {
		if err := certs[i].CheckSignatureFrom(certs[i+1]); err != nil {
			return nil, err
		}
	}
	var about struct {
		Number                    uint64
		Slot, Environment, Digest string
		Held                      bool
		Origin                    string
	}
	err = json.Unmarshal(f["generation.json"], &about)
	if err == nil && (about.Number != number || about.Slot != slot || about.Digest != digest(certs) || about.Environment == "" || about.Held && about.Origin != "rollback") {
		err = fmt.Errorf("generation.json says %+v", about)
	}
	if err != nil {
		return nil, err
	}
	return &seenGeneration{cert: nameOf(certs[0]), key: idOf(certs[0].PublicKey), held: about.Held, content: short([]byte(raws(certs))), notBefore: certs[0].NotBefore.Unix()}, nil
}

func raws(certs []*x509.Certificate) string {
	var out strings.Builder
	for _, c := range certs {
		out.Write(c.Raw)
	}
	return out.String()
}

// digest is that of generation.json: of each certificate with its length before it.
func digest(certs []*x509.Certificate) string {
	h := sha256.New()
	for _, c := range certs {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(c.Raw))))
		h.Write(c.Raw)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// request returns the name of the certificate that waits, or "".
func (y *eyes) request(dir, slot, id string) (string, error) {
	f, sum, err := readAll(dir, "key.pem", "request.csr", "request.json", "answer.pem")
	if answer, known := y.answers[sum]; err != nil || known {
		return answer, err
	}
	answer, err := f.request(slot, id)
	if err == nil {
		y.answers[sum] = answer
	}
	return answer, err
}

// request wants a key, a CSR for it, and no answer but for it.
func (f files) request(slot, id string) (answer string, err error) {
	key, err := parseKey(f["key.pem"])
	if err != nil {
		return "", fmt.Errorf("lost: its key: %w", err)
	}
	if got := idOf(key.Public()); got != id {
		return "", fmt.Errorf("lost: its key: it has that of %s", got)
	}
	block, _ := pem.Decode(f["request.csr"])
	if block == nil {
		return "", errors.New("its CSR is missing, or no PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err == nil && (idOf(csr.PublicKey) != id || csr.Subject.CommonName != fqdnOf(slot)) {
		err = errors.New("its CSR is another one")
	}
	var about struct{ ID, Slot, FQDN string }
	if err == nil {
		err = json.Unmarshal(f["request.json"], &about)
	}
	if err == nil && (about.ID != id || about.Slot != slot || about.FQDN != fqdnOf(slot)) {
		err = fmt.Errorf("request.json says %+v", about)
	}
	if err != nil || f["answer.pem"] == nil {
		return "", err
	}
	certs, err := f.certificates("answer.pem")
	if err == nil && (len(certs) == 0 || idOf(certs[0].PublicKey) != id) {
		err = errors.New("its answer is that to another one")
	}
	if err != nil {
		return "", err
	}
	return nameOf(certs[0]), nil
}

// checkModes wants nothing readable by others, be it a temporary, but the inbox.
func checkModes(state string) error {
	var errs []error
	err := filepath.WalkDir(state, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type() == fs.ModeSymlink {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(state, path)
		for _, inbox := range []string{"inbox", ".inbox.", ".done.", ".rejected."} {
			if strings.HasPrefix(name, inbox) {
				return nil
			}
		}
		if info.Mode()&0o077 != 0 {
			errs = append(errs, fmt.Errorf("readable by others: %s has mode %v", name, info.Mode()))
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // killed before it was made
	}
	return errors.Join(append(errs, err)...)
}
