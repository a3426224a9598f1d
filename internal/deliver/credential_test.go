package deliver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// TestPasswordCredential: a password may be a credential, and what stands in for a missing one is none.
func TestPasswordCredential(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	file := filepath.Join(dir, "java.password")
	wants := func(password, message string) {
		t.Helper()
		got, err := readPassword(file)
		if string(got) != password || (err == nil) != (message == "") {
			t.Fatalf("readPassword = %q, %v; want %q, %q", got, err, password, message)
		}
		if err == nil {
			return
		}
		if failure.ReasonOf(err, "") != failure.NoMaterial || !strings.Contains(err.Error(), message) || !strings.Contains(pki.Hint(err), "LoadCredential=java.password:/path") {
			t.Errorf("readPassword: %v, hint %q; want %q", err, pki.Hint(err), message)
		}
	}
	wants("", `read password, credential "java.password": no such file or directory`)
	for content, password := range map[string]string{"secret\n": "secret", rotate.MissingCredential: ""} {
		if err := os.WriteFile(file, []byte(content), 0o400); err != nil {
			t.Fatal(err)
		}
		message := ""
		if password == "" {
			message = `read password, credential "java.password": file does not exist`
		}
		wants(password, message)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	plain := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(plain, []byte(rotate.MissingCredential), 0o400); err != nil {
		t.Fatal(err)
	}
	if got, err := readPassword(plain); err != nil || string(got) != rotate.MissingCredential {
		t.Errorf("a password of a file: %q, %v", got, err)
	}
}
