package rotate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// credential.go: files that systemd copies for a unit when it starts, see
// systemd.exec(5), Credentials. They are read like others, and called by their name.

// MissingCredential is what stands in a credential whose source is missing, where
// the unit says so: SetCredential=NAME:(missing). Without it the unit would not
// start.
const MissingCredential = "(missing)"

// systemCredentials is where systemd keeps the credentials of its units, a directory each.
const systemCredentials = "/run/credentials"

// CredentialName returns the name of a path that is a credential: a file in
// $CREDENTIALS_DIRECTORY, or in a directory of a unit below /run/credentials.
func CredentialName(path string) (name string, ok bool) {
	dir, name := filepath.Split(filepath.Clean(path))
	dir = filepath.Clean(dir)
	own := os.Getenv("CREDENTIALS_DIRECTORY")
	if own != "" && filepath.Clean(own) == dir || filepath.Dir(dir) == systemCredentials {
		return name, true
	}
	return "", false
}

// CredentialAdvice is the next action where a credential cannot be read.
func CredentialAdvice(name string, err error) string {
	switch {
	case os.Getenv("CREDENTIALS_DIRECTORY") == "": // of a unit that names none the whole directory is hidden
		return fmt.Sprintf("only the daemon in its unit, and root as long as that runs, can read it: LoadCredential=%s:/path in a drop-in of spinecertd.service, which spinecert config systemd prints, then systemctl restart spinecertd", name)
	case errors.Is(err, fs.ErrPermission):
		return "a credential can be read by the daemon and by root"
	}
	return fmt.Sprintf("put its source in place; LoadCredential=%s:/path in a drop-in of spinecertd.service names it, see spinecert config systemd; then systemctl restart spinecertd", name)
}

// label is a path as messages have it.
func label(path string) string {
	if name, ok := CredentialName(path); ok {
		return "credential:" + name
	}
	return path
}

// named gives an error of the way to a credential its own path: a directory that is
// missing above it says nothing to anybody.
func named(path string, err error) error {
	var pe *fs.PathError
	if _, ok := CredentialName(path); ok && errors.As(err, &pe) {
		return &fs.PathError{Op: pe.Op, Path: path, Err: pe.Err}
	}
	return err
}

// absent returns an error for a credential whose source is missing.
func absent(path string, data []byte) error {
	if _, ok := CredentialName(path); ok && bytes.Equal(bytes.TrimSpace(data), []byte(MissingCredential)) {
		return &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
	}
	return nil
}
