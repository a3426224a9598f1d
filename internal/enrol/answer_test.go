package enrol

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"software.sslmate.com/src/go-pkcs12"
)

func utf16Bytes(s string, order binary.AppendByteOrder, mark bool) []byte {
	var out []byte
	if mark {
		out = order.AppendUint16(out, 0xFEFF)
	}
	for _, u := range utf16.Encode([]rune(s)) {
		out = order.AppendUint16(out, u)
	}
	return out
}

func printable(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func quote(s, mark string) string { return mark + strings.ReplaceAll(s, "\n", "\n"+mark) }

func zipped(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, data := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rewrapped puts the base64 of a PEM text onto lines of another length.
func rewrapped(pemText string, length int) string {
	var b strings.Builder
	body := ""
	flush := func() {
		for ; len(body) > length; body = body[length:] {
			b.WriteString(body[:length] + "\n")
		}
		if body != "" {
			b.WriteString(body + "\n")
		}
		body = ""
	}
	for line := range strings.Lines(pemText) {
		if strings.HasPrefix(line, "-") {
			flush()
			b.WriteString(line)
			continue
		}
		body += strings.TrimSpace(line)
	}
	flush()
	return b.String()
}

const saved = "From: dir@example.net\nSubject: RE: certificate\nMIME-Version: 1.0\n"

// answers are one leaf and its subCA in every form in which they come back.
func answers(t testing.TB, leaf *testpki.Leaf) map[string][]byte {
	t.Helper()
	text := string(leaf.FullChainPEM())
	letter := "Dear all,\n\nplease find below the certificate = as asked for -- kind regards\n\n" + text + "\nOn Monday A. Person wrote:\n> see -----BEGIN attachment\n"
	store, err := pkcs12.Modern2023.WithIterations(1).Encode(leaf.Key, leaf.Cert, leaf.Chain, "word")
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.ReplaceAll(text, "\n", " ")
	wrap := func(s string) string { return rewrapped("-\n"+base64.StdEncoding.EncodeToString([]byte(s)), 76)[2:] }
	multi := saved + "Content-Type: multipart/mixed; boundary=XX\n\n--XX\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n" +
		printable(t, "in the attachment") + "\n--XX\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n" +
		"Content-Disposition: attachment; filename=\"../../pcs.zip\"\n\n" +
		wrap(string(zipped(t, map[string][]byte{"leaf.cer": leaf.Cert.Raw, "chain.pem": leaf.ChainPEM()}))) + "\n--XX--\n"
	all := map[string]string{
		"plain":                      text,
		"letter":                     letter,
		"crlf":                       strings.ReplaceAll(letter, "\n", "\r\n"),
		"cr":                         strings.ReplaceAll(letter, "\n", "\r"),
		"bom":                        "\xef\xbb\xbf" + text,
		"utf-16 le":                  string(utf16Bytes(letter, binary.LittleEndian, true)),
		"utf-16 be":                  string(utf16Bytes(letter, binary.BigEndian, true)),
		"utf-16 le without a mark":   string(utf16Bytes(text, binary.LittleEndian, false)),
		"utf-16 be without a mark":   string(utf16Bytes(text, binary.BigEndian, false)),
		"quoted":                     quote(letter, "> "),
		"quoted twice":               quote(quote(letter, "> "), ">"),
		"quoted as html":             quote(letter, "&gt; "),
		"quoted-printable":           printable(t, letter),
		"quoted-printable of quoted": printable(t, quote(letter, "> ")),
		"quoted of quoted-printable": quote(strings.ReplaceAll(printable(t, letter), "\r\n", "\n"), "> "),
		"long lines":                 rewrapped(text, 1000),
		"quoted-printable of long":   printable(t, rewrapped(text, 1000)),
		"short lines":                rewrapped(text, 7),
		"one line":                   joined,
		"one line quoted-printable":  printable(t, joined),
		"indented, blank lines":      strings.ReplaceAll(text, "\n", "  \n\n\t"),
		"hard spaces":                strings.ReplaceAll(text, "\n", "\u00a0\n\u200b"),
		"html":                       "<p>" + strings.ReplaceAll(text, "\n", "<br>\n") + "</p>",
		"long dashes":                strings.ReplaceAll(text, "-----", "\u2014\u2014-"),
		"der":                        string(leaf.Cert.Raw) + string(leaf.Chain[0].Raw),
		"pkcs12":                     string(store),
		"zip of pem":                 string(zipped(t, map[string][]byte{"a/": nil, "a/leaf.crt": leaf.CertPEM(), "__MACOSX/x": nil, "../ca.cer": leaf.Chain[0].Raw})),
		"zip of pkcs12":              string(zipped(t, map[string][]byte{"pcs.p12": store, "read me.txt": []byte("hello")})),
		"saved mail":                 saved + "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n" + printable(t, letter),
		"saved mail, base64":         saved + "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + wrap(letter),
		"saved mail, attached zip":   multi,
		"mailbox":                    "From dir Mon Nov 23 00:00:00 2026\n" + multi,
		"bare base64":                base64.StdEncoding.EncodeToString(append(leaf.Cert.Raw, leaf.Chain[0].Raw...)),
	}
	out := map[string][]byte{}
	for name, s := range all {
		out[name] = []byte(s)
	}
	return out
}

func newLeaf(t testing.TB, kind string) (*testpki.Authority, *testpki.Leaf) {
	t.Helper()
	sub := testpki.NewRoot(t).SubCA(t, testpki.KeyType(kind))
	return sub, sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"), testpki.KeyType(kind))
}

// TestEveryForm reads the same two certificates out of every form. Keys of two
// kinds, so that the base64 ends with and without padding.
func TestEveryForm(t *testing.T) {
	for _, kind := range []string{"rsa-2048", "ecdsa-p256", "ed25519"} {
		_, leaf := newLeaf(t, kind)
		for name, data := range answers(t, leaf) {
			t.Run(kind+"/"+name, func(t *testing.T) {
				var a Answer
				if err := a.Read("answer", data, []byte("word")); err != nil {
					t.Fatal(err)
				}
				found := map[string]bool{}
				for _, p := range a.Certificates {
					found[pki.Fingerprint(p.Certificate)] = true
				}
				if len(found) != 2 || !found[pki.Fingerprint(leaf.Cert)] || !found[pki.Fingerprint(leaf.Chain[0])] {
					t.Errorf("found %d certificates, wanted leaf and subCA; problems %v", len(found), a.Problems)
				}
			})
		}
	}
}

// TestSharedForms reads the vectors that every package reads.
func TestSharedForms(t *testing.T) {
	dir := filepath.Join("..", "..", "testdata", "forms")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		want := 3
		if e.Name() == "leaf.cer" {
			want = 1
		}
		var a Answer
		if err := a.Read(e.Name(), data, nil); err != nil || len(a.Certificates) != want || len(a.Problems) > 0 {
			t.Errorf("%s: %d certificates, want %d; %v %v", e.Name(), len(a.Certificates), want, err, a.Problems)
		}
	}
}

func TestBadAnswers(t *testing.T) {
	_, leaf := newLeaf(t, "ecdsa-p256")
	text := string(leaf.CertPEM())
	bomb := make([]byte, maxArchiveFile+1)
	many := map[string][]byte{}
	for i := range maxArchiveFiles + 1 {
		many[strings.Repeat("x", i+1)] = nil
	}
	store, err := pkcs12.Modern2023.WithIterations(1).Encode(leaf.Key, leaf.Cert, nil, "word")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, data, want string
	}{
		{"nothing", "", "nothing in it is understood"},
		{"a letter", "Dear all,\nthe certificate follows.\n", "nothing in it is understood"},
		{"cut off", text[:len(text)-40], "is cut off: it has no END line"},
		{"a hole", text[:100] + "***" + text[103:], "base64 is broken"},
		{"half", text[:100] + text[len(text)-27:], "truncated"},
		{"der cut off", string(leaf.Cert.Raw[:100]), "truncated"},
		{"zip cut off", string(zipped(t, map[string][]byte{"a": leaf.Cert.Raw})[:60]), "broken or cut off zip"},
		{"zip bomb", string(zipped(t, map[string][]byte{"a": bomb})), "is more than 1048576 bytes when it is unpacked"},
		{"zip of many", string(zipped(t, many)), "is a zip of 101 files"},
		{"zip in a zip", string(zipped(t, map[string][]byte{"a.zip": zipped(t, map[string][]byte{"b": leaf.Cert.Raw})})), "zip in a zip"},
		{"large zip", "PK\x03\x04" + strings.Repeat("\x00", maxArchive), "zip of more than"},
		{"too large", strings.Repeat("a", maxAnswer+1), "more than 16777216 bytes"},
		{"pkcs12, wrong password", string(store), "password is wrong"},
		{"stores", string(zipped(t, map[string][]byte{"1": store, "2": store, "3": store, "4": store, "5": store})), "more than 4 PKCS#12"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var a Answer
			err := a.Read("answer", []byte(tc.data), []byte("other"))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), ` "answer": `) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if len(a.Certificates) > 0 {
				t.Errorf("%d certificates", len(a.Certificates))
			}
		})
	}
}

// TestGoodBesideBad: a broken block does not hide a good one, and is told.
func TestGoodBesideBad(t *testing.T) {
	_, leaf := newLeaf(t, "ecdsa-p256")
	text := string(leaf.CertPEM())
	var a Answer
	if err := a.Read("answer", []byte(text[:200]+"\n"+text), nil); err != nil {
		t.Fatal(err)
	}
	if len(a.Certificates) != 1 || len(a.Problems) != 1 || !strings.Contains(a.Problems[0].Err.Error(), "line 1 is cut off") {
		t.Errorf("%d certificates, problems %v", len(a.Certificates), a.Problems)
	}
}

func FuzzRead(f *testing.F) {
	_, leaf := newLeaf(f, "ed25519")
	for _, data := range answers(f, leaf) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a Answer
		err := a.Read("answer", data, []byte("word"))
		if n := len(a.Certificates) + len(a.Keys) + len(a.Requests); (n > 0) == (err != nil) {
			t.Errorf("%d things found, error %v", n, err)
		}
		if len(a.Certificates) > maxCertificates || len(a.Problems) > maxParts {
			t.Errorf("%d certificates, %d problems", len(a.Certificates), len(a.Problems))
		}
	})
}

func FuzzUnquotePrintable(f *testing.F) {
	f.Add("a=3D=\n b=0D=0A=zz=")
	f.Fuzz(func(t *testing.T, s string) {
		if out := unquotePrintable(s); len(out) > len(s) || !strings.Contains(s, "=") && out != s {
			t.Errorf("%q became %q", s, out)
		}
	})
}
