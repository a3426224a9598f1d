package tunnel

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/pki"
)

// TestNotGiven: who is no member of the group is told how to become one; another cause is left to others.
func TestNotGiven(t *testing.T) {
	for cause, want := range map[error]string{syscall.EPERM: "SupplementaryGroups=pcs in its unit", syscall.ENOENT: ""} {
		err := fmt.Errorf("set group: %w", notGiven{&os.PathError{Op: "lchown", Path: "/run/x.sock", Err: cause}, "pcs"})
		if hint := pki.Hint(err); !strings.Contains(hint, want) || (hint == "") != (want == "") {
			t.Errorf("%v: hint %q, want one with %q", cause, hint, want)
		}
	}
}
