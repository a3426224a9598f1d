package cli

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
)

// TestEnrolScripts play the loop of managed slots where no daemon runs. Requests
// are answered by authorities of the test.
func TestEnrolScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/enrol",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			live := testpki.NewRoot(t, testpki.Name("Live Root"))
			sub := live.SubCA(t, testpki.Name("Live Authentication"))
			other := testpki.NewRoot(t, testpki.Name("Int Root")).SubCA(t, testpki.Name("Int Authentication"))
			put := func(name string, data []byte) {
				testpki.WriteFile(t, filepath.Join(env.WorkDir, name), data, 0o644)
			}
			put("live.pem", sub.BundlePEM())
			put("int.pem", other.BundlePEM())
			put("stranger.pem", sub.Issue(t, testpki.DNS("x.thirdparty.nhs.uk")).CertPEM())
			deep := sub.SubCA(t, testpki.Name("Deep CA"))
			put("deep.pem", deep.CertPEM())
			short, err := os.MkdirTemp("", "sc") // the path of a socket must be short
			if err != nil {
				return err
			}
			t.Cleanup(func() { os.RemoveAll(short) })
			if err := os.Chmod(short, 0o755); err != nil {
				return err
			}
			env.Setenv("SHORT", filepath.Join(short, "s"))
			env.Values["test"] = &enrolTest{t: t, authorities: map[string]*testpki.Authority{"live": sub, "int": other, "deep": deep}}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return os.Getuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": scriptExits, "json": scriptJSON, "oneline": scriptOneLine, "modes": scriptModes,
			"id": scriptID, "issue": scriptIssue, "hold": scriptHold, "mute": scriptMute, "nobodys": scriptNobodys},
	})
}

type enrolTest struct {
	t           *testing.T
	authorities map[string]*testpki.Authority
}

// scriptID keeps the ID that a command printed: id NAME
func scriptID(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: id NAME, after a command that printed a request")
	}
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "id" {
			ts.Setenv(args[0], f[1])
			return
		}
	}
	ts.Fatalf("no id on stdout")
}

// scriptIssue answers the request in a file: issue CA FILE OUT [WHAT]...
func scriptIssue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: issue CA FILE OUT [expired|older|soon|full|name=NAME]...")
	}
	test, _ := ts.Value("test").(*enrolTest)
	_, rest, found := strings.Cut(ts.ReadFile(args[1]), "-----BEGIN CERTIFICATE REQUEST")
	block, _ := pem.Decode([]byte("-----BEGIN CERTIFICATE REQUEST" + rest))
	if !found || block == nil {
		ts.Fatalf("no request in %s", args[1])
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	ts.Check(err)
	now := time.Now()
	options := []testpki.Option{testpki.DNS(csr.Subject.CommonName), testpki.Key(publicOnly{csr.PublicKey})}
	full := false
	for _, what := range args[3:] {
		name, ok := strings.CutPrefix(what, "name=")
		switch {
		case ok:
			options = append(options, testpki.DNS(name))
		case what == "expired":
			options = append(options, testpki.Validity(now.Add(-time.Hour), now.Add(-time.Minute)))
		case what == "older":
			options = append(options, testpki.Validity(now.Add(-48*time.Hour), now.Add(300*24*time.Hour)))
		case what == "soon":
			options = append(options, testpki.Validity(now.Add(24*time.Hour), now.Add(300*24*time.Hour)))
		case what == "full":
			full = true
		}
	}
	leaf := test.authorities[args[0]].Issue(test.t, options...)
	out := leaf.CertPEM()
	if full {
		out = leaf.FullChainPEM()
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), out, 0o644))
}

// publicOnly stands for a key whose private half is elsewhere.
type publicOnly struct{ key crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.key }

func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the private key is elsewhere")
}

// scriptHold takes the lock of a state directory until the script ends.
func scriptHold(ts *testscript.TestScript, _ bool, args []string) {
	d, err := state.Lock(ts.MkAbs(args[0]), state.Options{})
	ts.Check(err)
	ts.Defer(func() { d.Close() })
}

// scriptMute listens on a socket and never answers.
func scriptMute(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("unix", args[0])
	ts.Check(err)
	ts.Defer(func() { l.Close() })
}

// scriptNobodys makes a directory that belongs to nobody, or, if it is there, wants
// everything in it to.
func scriptNobodys(ts *testscript.TestScript, _ bool, args []string) {
	const nobody = 65534
	if err := os.Mkdir(args[0], 0o700); err == nil {
		ts.Check(os.Chown(args[0], nobody, nobody))
		return
	}
	ts.Check(filepath.WalkDir(args[0], func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != nobody {
			return fmt.Errorf("%s belongs to another user", path)
		}
		return nil
	}))
}
