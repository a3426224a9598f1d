package sink

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/config"
)

const fileLimit = 1 << 20 // bytes

// readFile reads a regular file of the operator's. Errors name it, and nothing in it.
func readFile(what, path string) ([]byte, error) {
	fail := func(cause error) error {
		var e *os.PathError
		if errors.As(cause, &e) {
			cause = e.Err
		}
		return fmt.Errorf("read %s %q: %w", what, config.SourceLabel(path), cause)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would be waited for
	if err != nil {
		return nil, fail(err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil {
		return nil, fail(err)
	} else if !info.Mode().IsRegular() {
		return nil, fail(errors.New("it is not a regular file"))
	}
	data, err := io.ReadAll(io.LimitReader(f, fileLimit+1))
	if err != nil {
		return nil, fail(err)
	}
	if len(data) > fileLimit {
		return nil, fail(errors.New("it is larger than 1 MiB"))
	}
	return data, nil
}

// firstLine reads a secret: the first line of a file. Empty is an error.
func firstLine(what, path string) (string, error) {
	data, err := readFile(what, path)
	if err != nil {
		return "", &Error{text: clean(err.Error(), shortLimit), cause: err, advice: "the daemon's user must be able to read it"}
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	word := strings.TrimSuffix(string(line), "\r")
	if strings.TrimSpace(word) == "" {
		return "", &Error{text: fmt.Sprintf("read %s %q: its first line is empty", what, config.SourceLabel(path)), advice: "write the " + strings.TrimSuffix(what, "_file") + " into its first line"}
	}
	return word, nil
}

// tlsConfig returns how a far side is verified: by the system's roots, or those of a file.
func tlsConfig(serverName, roots string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
	if roots == "" {
		return c, nil
	}
	data, err := readFile("ca", roots)
	if err != nil {
		return nil, &Error{text: clean(err.Error(), shortLimit), cause: err, advice: "the daemon's user must be able to read it"}
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(data) {
		return nil, &Error{text: fmt.Sprintf("read ca %q: it holds no certificate in PEM", config.SourceLabel(roots)), advice: "it has to hold the root of the far side's certificate"}
	}
	return c, nil
}
