package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// maxInput bounds one file; a CRL may be large.
const maxInput = 64 << 20

// standardInput is the name of stdin among files.
const standardInput = "-"

// input is a file as it was read.
type input struct {
	name string
	data []byte
	mode fs.FileMode // 0 for stdin and what is no regular file
}

// readInput reads a file, or stdin for "-". A pipe is fine: shells pass them as
// files. Its error is a failure with exit status 1.
func readInput(name string, stdin io.Reader) (input, error) {
	in := input{name: name}
	var from = stdin
	if name != standardInput {
		f, err := os.Open(name)
		if err != nil {
			return in, unreadable(name, err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return in, unreadable(name, err)
		}
		if info.Mode().IsRegular() {
			in.mode = info.Mode()
		}
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err != nil {
		return in, unreadable(name, err)
	}
	if len(data) > maxInput {
		return in, unreadable(name, fmt.Errorf("more than %d bytes", maxInput))
	}
	in.data = data
	return in, nil
}

func unreadable(name string, err error) *exitError {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	f := failed(codeUnreadable, fmt.Errorf("read %q: %w", name, err))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.hint = "is the name right? ls -l " + quoted(name)
	case errors.Is(err, fs.ErrPermission):
		f.hint = "run as a user who may read it, such as root"
	}
	return f
}

// quoted is a name as an argument for a shell.
func quoted(name string) string {
	return (&pki.Error{File: name, Advice: "FILE"}).Hint()
}

// needsPassword tells a PKCS#12 file that was opened without its password. What
// to do then depends on the command.
func needsPassword(err error) bool {
	var e *pki.Error
	return errors.As(err, &e) && e.Part == "pkcs12" && e.Message == "needs a password"
}

// readPassword reads a password from a file: its first line. No file is nil.
func readPassword(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	in, err := readInput(name, nil)
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(in.data, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// readTrust reads trust files. Files that cannot be used are failures with exit
// status 1: nothing was examined with them. More of them may have been read already.
func readTrust(names []string, stdin io.Reader, more ...trust.Source) (*trust.Bundle, error) {
	var sources []trust.Source
	var errs []error
	for _, name := range names {
		in, err := readInput(name, stdin)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sources = append(sources, trust.Source{Name: name, Data: in.data})
	}
	if len(errs) > 0 {
		return nil, failed(codeUnreadable, errors.Join(errs...))
	}
	bundle, err := trust.ParseBundle(append(sources, more...)...)
	if err != nil {
		return nil, failed(codeMalformed, err)
	}
	return bundle, nil
}
