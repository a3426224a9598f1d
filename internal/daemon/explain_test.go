package daemon

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/trust"
)

var update = flag.Bool("update", false, "write the tables of the manual anew")

const (
	reasonPage  = "../../docs/refusals.md"
	reasonBegin = "<!-- reasons: made from the code by go test ./internal/daemon -run TestReasonTable -update -->\n"
	reasonEnd   = "<!-- end of reasons -->\n"
)

// everyReason returns the words with which a peer can be refused, sorted.
func everyReason(t *testing.T) []string {
	t.Helper()
	out := append(words(t, "../../trust/reason.go", func(_, typ string) bool { return typ == "Reason" }),
		words(t, "../tunnel/observer.go", func(name, typ string) bool {
			return typ == "" && (strings.HasPrefix(name, "Limit") || name == "NotReady")
		})...)
	slices.Sort(out)
	if len(out) < 28 {
		t.Fatalf("found only %d reasons: %q", len(out), out)
	}
	return out
}

// words returns the string constants of a file that wanted chooses by name and type.
func words(t *testing.T, file string, wanted func(name, typ string) bool) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		typ := ""
		if id, ok := v.Type.(*ast.Ident); ok {
			typ = id.Name
		}
		if lit, ok := v.Values[0].(*ast.BasicLit); ok && wanted(v.Names[0].Name, typ) {
			word, _ := strconv.Unquote(lit.Value)
			out = append(out, word)
		}
		return true
	})
	return out
}

// TestReasonTable holds the table of the manual to what is said with each refusal.
func TestReasonTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| reason | rule | next action, where no better one is known |\n|---|---|---|\n")
	for _, reason := range everyReason(t) {
		f := &fault{reason: reason}
		r := f.describe()
		if r.Rule == "" || r.Hint == "" {
			t.Errorf("%s: rule %q, hint %q", reason, r.Rule, r.Hint)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", reason, r.Rule, r.Hint)
	}
	page, err := os.ReadFile(reasonPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), reasonBegin)
	have, after, ended := strings.Cut(rest, reasonEnd)
	if !found || !ended {
		t.Fatalf("%s has no place for the reasons", reasonPage)
	}
	if *update {
		if err := os.WriteFile(reasonPage, []byte(before+reasonBegin+b.String()+reasonEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(have, b.String()); diff != "" {
		t.Errorf("%s (-) differs from the program (+); -update writes it anew:\n%s", reasonPage, diff)
	}
}

// What ended a handshake says what to do about it.
func TestProtocolHints(t *testing.T) {
	t.Parallel()
	remote := &net.OpError{Op: "remote error", Err: tls.AlertError(42)}
	for _, tc := range []struct {
		err      error
		outbound bool
		want     string
	}{
		{fmt.Errorf("the peer refused: %w", remote), false, "does not accept our certificate"},
		{fmt.Errorf("handshake timed out: %w", os.ErrDeadlineExceeded), false, "timeouts.handshake"},
		{errors.New("tls: client offered only unsupported versions: [301]"), false, "TLS 1.2"},
		{errors.New("tls: no cipher suite supported by both client and server"), false, "tls.cipher_suites"},
		{errors.New("tls: first record does not look like a TLS handshake"), false, "does not speak TLS"},
		{fmt.Errorf("the peer hung up: %w", io.EOF), false, "port scan"},
		{fmt.Errorf("the peer hung up: %w", io.EOF), true, "far side hung up"},
		{errors.New("something else"), false, trust.Protocol.Hint()},
		{nil, false, trust.Protocol.Hint()},
	} {
		f := &fault{reason: string(trust.Protocol), err: tc.err, outbound: tc.outbound}
		if hint := f.hint(); hint == "" || !strings.Contains(hint, tc.want) {
			t.Errorf("%v: %q, want %q", tc.err, hint, tc.want)
		}
	}
}

// What a peer can make us keep and write is bounded, whatever it presents.
func TestFaultIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 20_000)
	leaf := testpki.NewRoot(t, testpki.Name(long)).Issue(t, testpki.Name(long), testpki.DNS(strings.Repeat("a.", 5000)+"nhs.uk"))
	f := &fault{tunnel: "in", result: string(tunnel.Refused), reason: string(trust.Expired), leaf: leaf.Cert, remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1},
		err: &trust.VerifyError{Reason: trust.Expired, Detail: long, Advice: long}}
	r := f.describe()
	for name, s := range map[string]string{"name": r.Name, "issuer": r.Issuer, "serial": r.Serial, "message": r.Message, "hint": r.Hint, "key": f.key().issuer} {
		if s == "" || len(s) > 1003 {
			t.Errorf("%s has %d bytes", name, len(s))
		}
	}
	line, err := json.Marshal((&Daemon{}).auditOfRefusal(r, leaf.Cert, 1, time.Now()))
	if err != nil || len(line) > 4096 {
		t.Errorf("an audit line has %d bytes, %v", len(line), err)
	}
}
