package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

// TestNoKeyToTerminal: what holds a private key is refused on a terminal, which a
// new pseudo-terminal is, before any file is read.
func TestNoKeyToTerminal(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	defer tty.Close()
	need(t, isTerminal(tty), "a pseudo-terminal that says it is one")
	leaf := testpki.NewRoot(t).SubCA(t).Issue(t)
	dir := t.TempDir()
	in, password := filepath.Join(dir, "all.pem"), filepath.Join(dir, "password")
	testpki.WriteFile(t, in, append(leaf.FullChainPEM(), leaf.KeyPEM()...), 0o600)
	testpki.WriteFile(t, password, []byte("word\n"), 0o600)
	for _, f := range exportFormats() {
		if f.beside { // goes to no standard output at all
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			args := []string{"export", "--in", in, "--format", f.name, "--to", "-", "--password-file", password}
			var out, errs bytes.Buffer
			if !f.password && f.needs != needCRLs { // the scripts write those, which takes its time
				if exit := Main(context.Background(), "test", args, strings.NewReader(""), &out, &errs); exit != exitDone {
					t.Fatalf("to a pipe: exit %d, %s", exit, errs.String())
				}
			}
			if private := bytes.Contains(out.Bytes(), []byte("PRIVATE KEY")); private && !f.private {
				t.Error("a private key in a format that is said to have none")
			}
			if !f.private {
				return
			}
			errs.Reset()
			exit := Main(context.Background(), "test", args, strings.NewReader(""), tty, &errs)
			if exit != exitUsage || !strings.Contains(errs.String(), "does not go to a terminal") {
				t.Errorf("to a terminal: exit %d, %s", exit, errs.String())
			}
		})
	}
}
