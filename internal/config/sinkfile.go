package config

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"unicode/utf8"
)

// maxTemplate is the largest template, in bytes.
const maxTemplate = 64 << 10

// lookAtSinks looks at the files of sinks, as far as this process may and they are there. Which words a template has is for who makes the sink.
func (r *reading) lookAtSinks() {
	for _, raw := range r.sinks {
		r.closed(&raw.PasswordFile, "the password")
		r.closed(&raw.URLFile, "the URL")
		r.template(&raw.Template)
	}
}

// closed warns of a secret that every local user may read.
func (r *reading) closed(f *path, what string) {
	if f.value == "" || f.credential != "" {
		return
	}
	if info, err := os.Stat(f.value); err == nil && info.Mode().Perm()&0o004 != 0 {
		r.warn(f.place, "every local user may read "+what+" in it", "give the file to the group of the daemon, with mode 0640")
	}
}

// template reports a template that cannot be one. A credential, and a file that this process may not read, the daemon finds out about.
func (r *reading) template(f *path) {
	if f.value == "" || f.credential != "" {
		return
	}
	err := readTemplate(f.value)
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err // the path may be text that stands here by mistake
	}
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrPermission):
		r.warn(f.place, "the template cannot be read by this user", "the daemon must be able to: it is refused with the configuration otherwise")
	default:
		r.fail(f.place, "read template: "+err.Error(), "write a file of JSON with {{name}} in it; docs/alerts.md has examples")
	}
}

func readTemplate(name string) error {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would wait for its writer
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxTemplate+1))
	switch {
	case err != nil:
		return err
	case len(data) > maxTemplate:
		return errors.New("larger than 64 KiB")
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("the file is empty")
	case !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0:
		return errors.New("not UTF-8 text")
	}
	return nil
}
