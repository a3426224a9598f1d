package state

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// schema is that of generation.json and request.json. Keys are only added to it.
const schema = 1

// The files of a generation.
const (
	certFile       = "cert.pem"
	chainFile      = "chain.pem"
	fullchainFile  = "fullchain.pem"
	keyFile        = "key.pem"
	generationFile = "generation.json"
)

// sum is a SHA-256 as it is written in JSON: in hex, and "" for none.
type sum [sha256.Size]byte

// MarshalText writes hex.
func (s sum) MarshalText() ([]byte, error) {
	if s == (sum{}) {
		return nil, nil
	}
	return hex.AppendEncode(nil, s[:]), nil
}

// UnmarshalText reads what MarshalText writes.
func (s *sum) UnmarshalText(text []byte) error {
	*s = sum{}
	if len(text) == 0 {
		return nil
	}
	if len(text) != hex.EncodedLen(len(s)) {
		return fmt.Errorf("want %d hex digits, got %d", hex.EncodedLen(len(s)), len(text))
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// generation is the content of generation.json.
type generation struct {
	Schema      int           `json:"schema"`
	Number      uint64        `json:"number"`
	Slot        string        `json:"slot"`
	Environment string        `json:"environment"`
	Origin      rotate.Origin `json:"origin"`
	Of          uint64        `json:"of"`
	Held        bool          `json:"held"`
	Digest      sum           `json:"digest"`
	Source      sum           `json:"source"`
	Left        sum           `json:"left"`
	LeftLeaf    sum           `json:"left_leaf"` // "" in those of earlier versions
	Since       time.Time     `json:"since"`
	NotBefore   time.Time     `json:"not_before"` // of the leaf
	NotAfter    time.Time     `json:"not_after"`  // the earliest of leaf and chain
	Names       []string      `json:"names"`
	Serial      string        `json:"serial"`     // of the leaf, in hex
	SHA256      string        `json:"sha256"`     // of the leaf
	KeySHA256   string        `json:"key_sha256"` // of its public key
}

// describe makes the content of generation.json.
func describe(slot string, r rotate.Record, certs []*x509.Certificate) generation {
	leaf := certs[0]
	names, _ := pki.Names(leaf)
	g := generation{
		Schema: schema, Number: r.Number, Slot: slot, Environment: r.Environment, Origin: r.Origin, Of: r.Of, Held: r.Held,
		Digest: r.Digest, Source: r.Source, Left: r.Left, LeftLeaf: r.LeftLeaf, Since: r.Since.UTC().Round(0),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(),
		Names: append([]string{}, names...), Serial: leaf.SerialNumber.Text(16), SHA256: pki.Fingerprint(leaf), KeySHA256: pki.KeyFingerprint(leaf.PublicKey),
	}
	for _, c := range certs {
		if c.NotAfter.Before(g.NotAfter) {
			g.NotAfter = c.NotAfter.UTC()
		}
	}
	return g
}

// record is what rotate knows of a generation.
func (g generation) record() rotate.Record {
	return rotate.Record{Number: g.Number, Environment: g.Environment, Origin: g.Origin, Of: g.Of, Held: g.Held,
		Digest: g.Digest, Source: g.Source, Left: g.Left, LeftLeaf: g.LeftLeaf, Since: g.Since, NotAfter: g.NotAfter}
}

// encodeJSON returns a file that people may read, too.
func encodeJSON(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

// parseGeneration reads generation.json. What it says is not judged, but that it
// says everything.
func parseGeneration(data []byte) (generation, error) {
	var g generation
	if err := json.Unmarshal(data, &g); err != nil {
		return g, errors.New("is no JSON of a generation")
	}
	switch {
	case g.Schema > schema:
		return g, fmt.Errorf("has schema %d, which is not supported by this version", g.Schema)
	case g.Schema != schema || g.Number == 0 || g.Digest == (sum{}) || checkName("slot", g.Slot) != nil:
		return g, errors.New("is not complete")
	}
	switch g.Origin {
	case rotate.FromFiles, rotate.FromImport, rotate.FromRollback:
		return g, nil
	}
	return g, fmt.Errorf("has an unknown origin %q", g.Origin)
}

// generationFiles are the files of one generation.
func generationFiles(slot string, r rotate.Record, id *pki.Identity) ([]durable.File, error) {
	leaf, chain := id.Leaf(), id.Chain()
	certs := append([]*x509.Certificate{leaf}, chain...)
	if sum(r.Digest) != digestOf(raws(certs)) {
		return nil, errors.New("the record has the digest of another identity")
	}
	key, err := pki.EncodeKey(id.Signer())
	if err != nil {
		return nil, err
	}
	about, err := encodeJSON(describe(slot, r, certs))
	if err != nil {
		return nil, err
	}
	files := []durable.File{
		{Name: keyFile, Data: key},
		{Name: certFile, Data: pki.EncodeCertificates(leaf)},
		{Name: chainFile, Data: pki.EncodeCertificates(chain...)},
		{Name: fullchainFile, Data: pki.EncodeCertificates(certs...)},
		{Name: generationFile, Data: about},
	}
	for i := range files {
		files[i].Mode = fileMode
	}
	return files, nil
}

func raws(certs []*x509.Certificate) [][]byte {
	out := make([][]byte, len(certs))
	for i, c := range certs {
		out[i] = c.Raw
	}
	return out
}

// digestOf identifies leaf and chain, as rotate does: each with its length before it.
func digestOf(certs [][]byte) (s sum) {
	h := sha256.New()
	var length [8]byte
	for _, raw := range certs {
		binary.BigEndian.PutUint64(length[:], uint64(len(raw)))
		h.Write(length[:])
		h.Write(raw)
	}
	h.Sum(s[:0])
	return s
}

// blocks returns the certificates of a file that this package wrote, unparsed:
// reading thousands of generations is to be cheap.
func blocks(data []byte) ([][]byte, error) {
	var out [][]byte
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("holds something that is no certificate in PEM")
		}
		out = append(out, block.Bytes)
		data = rest
	}
	return out, nil
}

// MaxNumber is the greatest number of a generation. Who reads JSON need not keep
// greater ones exactly (RFC 8259, Section 6), and above a uint64 they begin anew.
// What has a greater one is no generation.
const MaxNumber = 1 << 53

// parseNumber reads the name of a generation's directory.
func parseNumber(name string) (uint64, bool) {
	n, err := strconv.ParseUint(name, 10, 64)
	return n, err == nil && n > 0 && n <= MaxNumber && formatNumber(n) == name
}

func formatNumber(n uint64) string { return strconv.FormatUint(n, 10) }
