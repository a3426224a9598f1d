package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

// maxFile is the largest configuration that is read, in bytes.
const maxFile = 4 << 20

const emptyHint = "at least one environment is needed, with the files of its roots and subCAs: " +
	"environments: {live: {trust: [live.pem]}}; the shipped spinecert.yaml explains every key"

// Load reads and checks the configuration file at path. The error is [Problems]; errors.Is finds fs.ErrNotExist and
// fs.ErrPermission in it when the file could not be read.
func Load(path string) (*Config, error) {
	data, absolute, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	c, err := parse(data, path, absolute, (*reading).look)
	if c != nil {
		c.text = data
	}
	return c, err
}

// Places returns where a configuration has the admin socket and the state
// directory, also where it is wrong elsewhere: what looks into them helps to mend
// it. What is not to be found out is "".
func Places(path string) (socket, directory string) {
	data, absolute, err := readConfig(path)
	if err != nil {
		return "", ""
	}
	c, problems := complete(data, path, absolute, nil)
	if c == nil {
		return "", ""
	}
	socket, directory = c.Admin.Socket, c.State.Directory
	for _, p := range problems {
		switch p.Key {
		case "admin", "admin.socket", "admin.socket.path":
			socket = ""
		case "state", "state.directory":
			directory = ""
		}
	}
	return socket, directory
}

// readConfig reads a configuration file.
func readConfig(path string) (data []byte, absolute string, err error) {
	if absolute, err = filepath.Abs(path); err != nil {
		return nil, "", unreadable(path, err)
	}
	// Without O_NONBLOCK a FIFO would hold up a start or a reload until somebody writes to it.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", unreadable(path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, "", unreadable(path, err)
	} else if !info.Mode().IsRegular() {
		return nil, "", unreadable(path, errors.New("not a regular file"))
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, "", unreadable(path, err)
	}
	return data, absolute, nil
}

// Parse checks the configuration in data. path stands in errors, and relative paths in data are relative to its
// directory; it should be absolute, as nothing is asked of the operating system. The error is [Problems].
func Parse(data []byte, path string) (*Config, error) {
	return parse(data, path, filepath.Clean(path), nil)
}

func unreadable(path string, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err // the path stands in the problem already
	}
	p := Problem{File: path, Message: fmt.Sprintf("read configuration: %v", err), cause: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Hint = "name another file with --config, or copy the shipped spinecert.yaml there"
	case errors.Is(err, fs.ErrPermission):
		p.Hint = "the user of the daemon must be able to read the file and its directory"
	}
	return Problems{p}
}

func parse(data []byte, shown, absolute string, ask func(*reading)) (*Config, error) {
	c, problems := complete(data, shown, absolute, ask)
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	return c, nil
}

// complete is parse, and returns what there is of a configuration that is wrong;
// nil where it is none at all. ask, if there is one, asks the operating system what
// else deserves a warning.
func complete(data []byte, shown, absolute string, ask func(*reading)) (*Config, Problems) {
	r := &reading{file: shown, directory: filepath.Dir(absolute), wrong: map[string]bool{}, broken: map[string]bool{}, credentials: unitCredentials}
	if ask != nil {
		r.credentials = ownCredentials()
	}
	body, problem := tree(data)
	if problem != nil {
		problem.File = shown
		return nil, Problems{*problem}
	}
	var raw rawConfig
	r.structure(reflect.ValueOf(&raw).Elem(), place{line: 1, column: 1}, body)
	c := r.config(&raw)
	c.File = absolute
	if ask != nil && len(r.problems) == 0 {
		ask(r)
	}
	c.warnings = r.warnings.sorted()
	return c, r.problems
}

// look asks the operating system about what the configuration names.
func (r *reading) look() {
	r.lookUpUsers()
	r.lookAtSinks()
}

// tree returns the one mapping that a configuration is, or the one problem that prevents it. The recover is for the
// library: what a strange file does to it must not take the daemon down in the middle of a reload.
func tree(data []byte) (body ast.Node, problem *Problem) {
	defer func() {
		if recover() != nil {
			body, problem = nil, &Problem{Message: "this is not YAML that can be read", Hint: "look for unbalanced quotes and brackets"}
		}
	}()
	if problem := readable(data); problem != nil {
		return nil, problem
	}
	tokens := lexer.Tokenize(string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	content, problem := inspect(tokens)
	if problem != nil {
		return nil, problem
	}
	empty := &Problem{Line: 1, Column: 1, Message: "the configuration is empty", Hint: emptyHint}
	if !content {
		return nil, empty
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxProblem(err)
	}
	for _, document := range file.Docs {
		switch body := document.Body.(type) {
		case nil, *ast.NullNode:
		case *ast.MappingNode:
			return body, nil
		default:
			at := body.GetToken().Position
			return nil, &Problem{Line: at.Line, Column: at.Column, Message: "a configuration is a mapping of keys to values", Hint: emptyHint}
		}
	}
	return nil, empty
}

// readable refuses what the library should not even see.
func readable(data []byte) *Problem {
	if len(data) > maxFile {
		return &Problem{Message: "the configuration is larger than 4 MiB", Hint: "is this the right file?"}
	}
	line, column := 1, 1
	for rest := data; len(rest) > 0; {
		c, n := utf8.DecodeRune(rest)
		if c == 0 || c == utf8.RuneError && n == 1 {
			return &Problem{Line: line, Column: column, Message: "the configuration is not UTF-8 text", Hint: "is this the right file?"}
		}
		if column++; c == '\n' {
			line, column = line+1, 1
		}
		rest = rest[n:]
	}
	return nil
}
