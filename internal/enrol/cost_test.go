package enrol

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// soon fails where something takes minutes that takes about a second.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal(what + " takes too long")
	}
}

// reference finds blocks as two patterns do, one after the other, from where the
// last block ended; the dashes there may begin the next.
func reference(text string) (found []string) {
	const dashes, label = `[-\x{2010}-\x{2015}\x{2212}]+`, `([A-Z0-9][A-Z0-9 #.\t\n]{0,60}?)`
	begin := regexp.MustCompile(dashes + `\s*BEGIN\s+` + label + `\s*` + dashes)
	end := regexp.MustCompile(dashes + `\s*END\s+` + label + `\s*(` + dashes + `)`)
	for {
		b := begin.FindStringSubmatchIndex(text)
		if b == nil {
			return found
		}
		name := strings.Join(strings.Fields(text[b[2]:b[3]]), " ")
		rest := text[b[1]:]
		e, next := end.FindStringSubmatchIndex(rest), begin.FindStringIndex(rest)
		if e == nil || next != nil && next[0] < e[0] {
			found, text = append(found, name+" is cut off"), rest
			continue
		}
		found, text = append(found, name+": "+rest[:e[0]]), rest[e[4]:]
	}
}

// TestMarkers: one pass finds what searching with patterns finds.
func TestMarkers(t *testing.T) {
	pieces := []string{"-----", "-", "\u2014", "BEGIN", "END", "BEGIN ", "END ", " ", "\n", "\t", "A", "B C", "CERTIFICATE", "#1.", "x", "abc\n", "AB=",
		strings.Repeat("L", 60), strings.Repeat("M ", 31), "-----BEGIN A-----\n", "\n-----END A-----\n", "-----BEGIN", "-----END"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3_000 {
		var b strings.Builder
		for range 1 + random.IntN(14) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		text := b.String()
		var got []string
		var open *marker
		for m := range markers(text) {
			switch {
			case !m.end && open != nil:
				got = append(got, open.label+" is cut off")
				fallthrough
			case !m.end:
				open = &m
			case open != nil:
				got = append(got, open.label+": "+text[open.to:m.from])
				open = nil
			}
		}
		if open != nil {
			got = append(got, open.label+" is cut off")
		}
		if want := reference(text); !slices.Equal(got, want) {
			t.Fatalf("in %q found\n%q, want\n%q", text, got, want)
		}
	}
}

func FuzzMarkers(f *testing.F) {
	f.Add("-----BEGIN A-----\nAA==\n-----END A----------BEGIN B-----")
	f.Fuzz(func(t *testing.T, text string) {
		last := 0
		for m := range markers(text) {
			if m.from < 0 || m.to > len(text) || m.from >= m.to || m.to <= last || m.label == "" || len(m.label) > maxLabel {
				t.Fatalf("%+v in %q", m, text)
			}
			last = m.to
		}
	})
}

// Texts in which searching again and again takes minutes. What is read of each is
// bounded by its size.
func TestHostileTexts(t *testing.T) {
	fill := func(unit string) string { return strings.Repeat(unit, (1<<20)/len(unit)) }
	nested := strings.Repeat("-BEGIN A-x", 99) + fill("-BEGIN A A A A A A A A A A A A A A A ")
	for i := range 5 {
		nested = fmt.Sprintf("Content-Type: text/plain\nX: %d\n\n%s", i, nested)
	}
	for name, text := range map[string]string{
		"dashes":         fill("-"),
		"dashes between": fill("-BEGIN A" + strings.Repeat("-", 1000)),
		"beginnings":     fill("-BEGIN A A A A A A A A A A A A A A A A A A A A A A A A A A A A A A\n"),
		"one beginning":  "-----BEGIN" + fill(" "),
		"ends":           fill("-----END A-----\n"),
		"blocks":         fill("-BEGIN A-\n-END A-\n"),
		"tags":           "-----BEGIN A-----\n" + fill("<") + "-----END A-----\n",
		"quotes":         fill("> | > | "),
		"quoted":         fill("=2D=20"),
		"equal signs":    fill("=   "),
		"nested mails":   nested,
	} {
		t.Run(name, func(t *testing.T) {
			soon(t, "reading it", func() {
				var a Answer
				if err := a.Read("answer", []byte(text), nil); err == nil || len(err.Error()) > 4000 {
					t.Errorf("%.300v", err)
				}
			})
		})
	}
}

// wrapped is text in mails within mails.
func wrapped(text string, levels int) []byte {
	for i := range levels {
		text = fmt.Sprintf("Subject: %d\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n%s", i, base64.StdEncoding.EncodeToString([]byte(text)))
	}
	return []byte(text)
}

// All that is read of one file, at any depth, comes out of one budget. One that needs
// more is refused with the cause, and a real one does not.
func TestBudget(t *testing.T) {
	_, leaf := newLeaf(t, "rsa-2048")
	var a Answer
	data := bytes.Repeat([]byte("Content-Type: multipart/mixed; boundary=x\n\n--x\n"), 2000)
	r := &reader{answer: &a, left: len(data) * maxReadings}
	r.any("mail", data, 0)
	if r.left < -1 || r.left > len(data)*maxReadings {
		t.Errorf("%d left", r.left)
	}
	r = &reader{answer: &a, left: 2 * len(data)} // it is read as a mail, and as text in two ways
	r.any("mail", data, maxDepth-1)
	if r.left != -1 {
		t.Errorf("%d bytes are left of too few", r.left)
	}
	// No certificate in any of the mails: each is read again as text.
	mails := string(wrapped("nothing", 3))
	for range 4 {
		mails = "Content-Type: text/plain\n\n" + mails
	}
	err := new(Answer).Read("answer", []byte(mails), nil)
	if err == nil || !strings.Contains(err.Error(), "too much to read") {
		t.Errorf("mails within mails: %v", err)
	}
	for levels := range maxDepth {
		var a Answer
		if err := a.Read("answer", wrapped("see below\n\n"+string(leaf.FullChainPEM()), levels), nil); err != nil || len(a.Certificates) != 2 || len(a.Problems) > 0 {
			t.Errorf("%d mails around it: %v, problems %v", levels, err, a.Problems)
		}
	}
}

// What comes out of all zips of a mail is bounded, not only what comes out of each.
func TestZipsInAMail(t *testing.T) {
	bomb := base64.StdEncoding.EncodeToString(zipped(t, map[string][]byte{"a": make([]byte, maxArchiveFile), "b": make([]byte, maxArchiveFile)}))
	mail := saved + "Content-Type: multipart/mixed; boundary=XX\n\n"
	for range 50 {
		mail += "--XX\nContent-Type: application/zip\nContent-Transfer-Encoding: base64\n\n" + bomb + "\n"
	}
	var a Answer
	r := &reader{answer: &a, left: 1 << 40, unpack: maxArchiveBytes}
	r.any("mail", []byte(mail+"--XX--\n"), 0)
	if r.unpack > 0 || r.unpack < -maxArchiveFile || len(a.Looked) > 60 {
		t.Errorf("%d bytes left, %d files looked at", r.unpack, len(a.Looked))
	}
}

// CAs that may all be the issuer of each other, by their names: a bounded number of
// signatures is verified, once each, and the answer is refused.
func TestTangle(t *testing.T) {
	left, right := testpki.NewRoot(t, testpki.Name("Left")), testpki.NewRoot(t, testpki.Name("Right"))
	leaf := left.Issue(t)
	good := func(n int) (certs []*x509.Certificate) { // each signed by each of the other name
		for range n {
			certs = append(certs, right.SubCA(t, testpki.Name("Left"), testpki.Key(left.Key)).Cert, left.SubCA(t, testpki.Name("Right"), testpki.Key(right.Key)).Cert)
		}
		return certs
	}
	bad := func(n int) (certs []*x509.Certificate) { // named so, and signed by nobody
		for range n {
			certs = append(certs, right.SubCA(t, testpki.Name("Left"), testpki.BadSignature()).Cert, left.SubCA(t, testpki.Name("Right"), testpki.BadSignature()).Cert)
		}
		return certs
	}
	bundle := bundleOf(t, testpki.NewRoot(t, testpki.Name("Live Root")).CertPEM())
	for name, tc := range map[string]struct {
		cas  []*x509.Certificate
		want string
	}{
		"too high":      {good(24), "more than 8 CAs above it"},
		"too many":      {slices.Concat(bad(21), good(3)), "too many certificates that could be its issuer"},
		"chain of nine": {nil, "more than 8 CAs above it"},
	} {
		t.Run(name, func(t *testing.T) {
			leaf, cas := leaf, tc.cas
			if name == "chain of nine" {
				top := testpki.NewRoot(t)
				for range 9 {
					top = top.SubCA(t)
				}
				leaf = top.Issue(t)
				cas = leaf.Chain
			}
			a := answerOf(t, leaf.CertPEM(), testpki.EncodeCerts(cas...))
			for range 3 { // as for several environments
				for _, b := range []*trust.Bundle{nil, bundle} {
					_, err := Fit(a, leaf.Key, b, time.Now())
					if trust.ReasonOf(err) != trust.TooLarge || !strings.Contains(err.Error(), tc.want) || pki.Hint(err) == "" {
						t.Fatalf("%v", err)
					}
				}
			}
			if _, err := a.Chain(leaf.Cert, time.Now()); trust.ReasonOf(err) != trust.TooLarge {
				t.Errorf("Chain: %v", err)
			}
			if a.checks.Exceeded() != (name == "too many") {
				t.Errorf("exceeded: %v", a.checks.Exceeded())
			}
		})
	}
}

// Nothing that an answer brings makes a message long.
func TestMessagesAreShort(t *testing.T) {
	long := strings.Repeat("\x01", 60_000)
	root := testpki.NewRoot(t, testpki.Name("Root"))
	sub := root.SubCA(t, testpki.Subject(pkix.Name{CommonName: long}))
	leaf, other := sub.Issue(t, testpki.Subject(pkix.Name{CommonName: long, Organization: []string{"of us"}})), sub.Issue(t)
	now := time.Now()
	old := sub.Issue(t, testpki.Subject(pkix.Name{CommonName: long}), testpki.Validity(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	read := answerOf(t, leaf.CertPEM())
	for name, f := range map[string]func() error{
		"no leaf":    func() error { _, err := Fit(read, other.Key, nil, now); return err },
		"no issuer":  func() error { _, err := Fit(read, leaf.Key, nil, now); return err },
		"with trust": func() error { _, err := Fit(read, leaf.Key, bundleOf(t, root.CertPEM()), now); return err },
		"expired":    func() error { _, err := Fit(answerOf(t, old.CertPEM()), old.Key, nil, now); return err },
		"two leaves": func() error { _, err := answerOf(t, leaf.CertPEM(), old.CertPEM()).Leaf(nil); return err },
		"many faults": func() error {
			return new(Answer).Read("answer", bytes.Repeat([]byte("-----BEGIN "+strings.Repeat("A", 60)+"-----\n"), 1000), nil)
		},
	} {
		if err := f(); err == nil || len(err.Error()) > 3000 {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	f, err := Fit(answerOf(t, leaf.FullChainPEM(), other.CertPEM(), old.CertPEM()), leaf.Key, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, note := range f.Notes {
		if len(note) > 600 {
			t.Errorf("a note of %d bytes", len(note))
		}
	}
}
