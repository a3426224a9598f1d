// Package hostbox is for tests that look at Spinecert from outside, in a systemd of their own (package box): programs, the
// command line and what it says, and waiting for something to be so.
package hostbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/testpki"
)

// Patience is how long anything may take; each takes a fraction.
const Patience = time.Minute

// Host is a box with the command line of Spinecert in it.
type Host struct {
	*box.Box
	Program string // the path of spinecert in the box

	t testing.TB
}

// New returns the host of a test. program is the path of spinecert in the box.
func New(t testing.TB, b *box.Box, program string) Host { return Host{Box: b, Program: program, t: t} }

// For returns the host for a part of the test: what fails there ends that part.
func (h Host) For(t testing.TB) Host { return Host{Box: h.Box.For(t), Program: h.Program, t: t} }

// Answer is what a command said with --output json.
type Answer struct {
	Exit   int             `json:"exit"`
	Result json.RawMessage `json:"result"`
	Error  struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	} `json:"error"`
}

// Ask runs spinecert in the box, as root. Exit is the status that it really ended with.
func (h Host) Ask(args ...string) Answer {
	h.t.Helper()
	out, err := h.Command(h.t.Context(), append([]string{h.Program, "--output", "json"}, args...)...).Output()
	exit := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		exit = ended.ExitCode()
	} else if err != nil {
		h.t.Fatalf("spinecert %q: %v", args, err)
	}
	var said Answer
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &said); err != nil {
		h.t.Fatalf("spinecert %q: last line of the output: %v: %s", args, err, out)
	}
	if said.Exit != exit {
		h.t.Errorf("spinecert %q says exit status %d, and ends with %d", args, said.Exit, exit)
	}
	return said
}

// Until waits for something to be so.
func (h Host) Until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(Patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("not within %s: %s", Patience, what)
		}
	}
}

// Fingerprint is the SHA-256 of a certificate, lower-case hex.
func Fingerprint(leaf *testpki.Leaf) string {
	sum := sha256.Sum256(leaf.Cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Build builds both programs as they are shipped, at once, as they have most of their packages in common.
func Build(ctx context.Context, directory string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-o", directory, "github.com/spinecert/spinecert/cmd/spinecertd", "github.com/spinecert/spinecert/cmd/spinecert")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}
