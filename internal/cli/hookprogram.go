package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxInterpreters is how many scripts may be the interpreters of one another; the kernel allows as many.
const maxInterpreters = 5

// rootsProgram returns the file that a command runs, by a path without links, or an error as rootsPath does, when others than root may
// change what runs. That is looked for in
//
//   - the program;
//   - the interpreter in the first line of a script (#!), and its own, with the argument there;
//   - for sh, bash, dash, python, perl and env: the first argument that is a path, unless the code itself is an argument (sh -c, python -m, perl -e), and
//     for env also what it runs.
//
// Not looked at is what other programs are told to run (timeout, runuser, make), what a script or a piece of code calls or reads, what is found by
// PATH (its directories are the system's), and libraries. A command that is run as root must take everything
// below SPINECERT_DIRECTORY as written by the daemon.
func rootsProgram(argv []string) (string, error) {
	return rootsRun(argv, 0)
}

func rootsRun(argv []string, depth int) (string, error) {
	if depth > maxInterpreters {
		return "", syscall.ELOOP
	}
	file, err := rootsPath(fromRoot(argv[0]))
	if err != nil {
		return "", err
	}
	if line, err := interpreter(file); err != nil {
		return "", err
	} else if len(line) > 0 {
		if _, err := rootsRun(line, depth+1); err != nil {
			return "", err
		}
	}
	kind := interpreterKind(argv[0])
	if kind == "" {
		kind = interpreterKind(file)
	}
	return file, rootsArguments(kind, argv[1:], depth)
}

// rootsArguments looks at what an interpreter is told to run.
func rootsArguments(kind string, args []string, depth int) error {
	for i, arg := range args {
		switch {
		case kind == "" || inlineCode(kind, arg):
			return nil
		case strings.HasPrefix(arg, "-"), kind == "env" && strings.Contains(arg, "="):
		case strings.Contains(arg, "/") && kind == "env":
			_, err := rootsRun(args[i:], depth+1)
			return err
		case strings.Contains(arg, "/"):
			_, err := rootsPath(fromRoot(arg))
			return err
		case kind == "env" && interpreterKind(arg) != "":
			return rootsArguments(interpreterKind(arg), args[i+1:], depth)
		}
	}
	return nil
}

// interpreterKind returns which of the interpreters that we know a program is: python for python3.11; "" for none.
func interpreterKind(program string) string {
	switch name := strings.TrimRight(filepath.Base(program), "0123456789."); name {
	case "sh", "bash", "dash", "python", "perl", "env":
		return name
	}
	return ""
}

// inlineCode reports whether with this option the code is an argument, or a module, and no file.
func inlineCode(kind, arg string) bool {
	code, valued := "c", "" // of shells
	switch kind {
	case "python":
		code, valued = "cm", "WX"
	case "perl":
		code, valued = "eE", "MmI"
	case "env":
		return false
	}
	return len(arg) > 1 && arg[0] == '-' && !strings.ContainsAny(arg[1:2], "-"+valued) && strings.ContainsAny(arg[1:], code)
}

// interpreter returns the first line of a script, in words; nothing for another program.
func interpreter(file string) ([]string, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err // who starts it says what is wrong
	}
	head := make([]byte, 256) // as much as the kernel reads
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	line, script := strings.CutPrefix(line, "#!")
	if !script {
		return nil, nil
	}
	return strings.Fields(line), nil
}

// fromRoot returns a path as the command has it, whose working directory is the root.
func fromRoot(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return "/" + path
}
