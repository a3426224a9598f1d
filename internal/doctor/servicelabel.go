package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// selinuxSwitch is there where SELinux is in use.
const selinuxSwitch = "/sys/fs/selinux/enforce"

// fileLabel returns the SELinux label of what a path leads to, such as
// system_u:object_r:cert_t:s0; "" where labels are not in use.
func fileLabel(path string) (string, error) {
	if _, err := os.Stat(selinuxSwitch); err != nil {
		return "", nil //nolint:nilerr // there is no such thing
	}
	const longestLabel = 4096 // as the kernel has it: a page
	label := make([]byte, longestLabel)
	n, err := unix.Getxattr(path, "security.selinux", label)
	if errors.Is(err, unix.ENODATA) {
		return "system_u:object_r:unlabeled_t:s0", nil // as which the kernel takes it
	}
	if err != nil {
		return "", &os.PathError{Op: "read label", Path: path, Err: err}
	}
	return strings.TrimRight(string(label[:n]), "\x00"), nil
}

// labelType is the third part of a label, which decides.
func labelType(label string) string {
	parts := strings.SplitN(label, ":", 4)
	if len(parts) < 3 {
		return label
	}
	return parts[2]
}

// unchosen are types that nobody gives a directory for certificates: it just came to
// lie there. Another one is what the operator, or the policy of the service, chose.
func unchosen(kind string) bool {
	switch kind {
	case "etc_t", "etc_runtime_t", "unlabeled_t", "file_t", "default_t", "root_t", "tmp_t", "user_tmp_t", "var_t", "var_lib_t", "var_run_t", "usr_t",
		"home_root_t", "user_home_dir_t", "user_home_t", "admin_home_t", "mnt_t":
		return true
	}
	return false
}

// serviceLabels: SELinux lets the service read what is delivered. Where it is not in
// use there is nothing to say.
func serviceLabels(ctx context.Context, s served, r *report) {
	name, dir := s.service.Name, s.service.Directory
	read := s.label
	if read == nil {
		read = fileLabel
	}
	// A hint for a shell: the pattern of semanage is a regular expression, and a dot of
	// the path may stay one.
	relabel := "restorecon -R " + shell(dir)
	own, err := s.labelOf(ctx, read, dir)
	switch {
	case own == "" && err == nil || os.IsNotExist(err): // which the line of the directory says
		return
	case err != nil:
		r.warn(name, asHint(err), "service %s: the label of %q cannot be read: %v", name, dir, err)
		return
	case unchosen(labelType(own)):
		r.warn(name, fmt.Sprintf("semanage fcontext -a -t cert_t %s && %s", shell(dir+"(/.*)?"), relabel),
			"service %s: SELinux may keep it from reading %q, which has the type %s, and not cert_t", name, dir, labelType(own))
		return
	}
	for _, f := range s.service.Files {
		path := s.stable(f.Name)
		label, err := s.labelOf(ctx, read, path)
		switch {
		case os.IsNotExist(err): // it is not delivered yet
		case err != nil:
			r.warn(name, asHint(err), "service %s: the label of %q cannot be read: %v", name, path, err)
			return
		case labelType(label) != labelType(own):
			r.warn(name, relabel, "service %s: SELinux may keep it from reading %q, which has the type %s, and its directory %s", name, path, labelType(label), labelType(own))
			return // the command is for all of them
		}
	}
	r.ok(name, "service %s: %q and what is in it have the SELinux type %s", name, dir, labelType(own))
}

// labelOf reads a label as the daemon does.
func (s served) labelOf(ctx context.Context, read func(string) (string, error), path string) (string, error) {
	type look struct {
		label string
		err   error
	}
	found, err := as(ctx, s.daemon, func() look {
		label, err := read(path)
		return look{label, err}
	})
	if err != nil {
		return "", err
	}
	return found.label, found.err
}
