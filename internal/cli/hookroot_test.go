package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRootsPath: which paths only root has a hand in.
func TestRootsPath(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir() // below /tmp, which is sticky
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, mode os.FileMode, uid int) {
		t.Helper()
		must(os.MkdirAll(filepath.Dir(path(name)), 0o755))
		must(os.WriteFile(path(name), nil, 0o600))
		must(os.Chmod(path(name), mode))
		must(os.Chown(path(name), uid, 0))
	}
	write("good/file", 0o640, 0)
	write("group/file", 0o660, 0)
	write("others/file", 0o602, 0)
	write("foreign/file", 0o600, 1)
	write("open/file", 0o600, 0)
	must(os.Chmod(path("open"), 0o775))
	write("sticky/file", 0o600, 0)
	write("sticky/sub/file", 0o600, 0)
	must(os.Chmod(path("sticky"), 0o777|os.ModeSticky))
	write("given/sub/file", 0o600, 0)
	must(os.Chown(path("given"), 1, 0))
	must(os.Symlink("../good/file", path("good/link")))
	must(os.Symlink(path("open/file"), path("good/toopen")))
	must(os.Symlink(path("good"), path("sticky/link")))
	must(os.Symlink(path("good/loop"), path("good/loop")))
	must(os.Symlink("../sticky/sub/..", path("good/up")))
	for name, good := range map[string]bool{
		"good/file": true, "good/link": true, "good/../good/file": true, "sticky/sub/file": true,
		"group/file": false, "others/file": false, "foreign/file": false, "open/file": false, "good/toopen": false,
		"sticky/file": false, "sticky/none": false, "sticky/link/file": false, "given/sub/file": false, "good/loop": false, "good/none": false, "good/file/": false, "good/file/../file": false,
		"good/up/file": false, "good/up/sub/file": true,
	} {
		if _, err := rootsPath(dir + "/" + name); (err == nil) != good {
			t.Errorf("%s: %v, want good: %t", name, err, good)
		}
	}
}

// ownTree has files of root's below a directory of root's, and files of user 1.
type ownTree struct {
	t   *testing.T
	dir string
}

func newOwnTree(t *testing.T) *ownTree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	o := &ownTree{t: t, dir: t.TempDir()}
	o.must(os.Chmod(o.dir, 0o755))
	return o
}

func (o *ownTree) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *ownTree) path(name string) string { return filepath.Join(o.dir, name) }

// file writes a program; what is above it is made, and given to the same user.
func (o *ownTree) file(uid int, name, text string) string {
	o.t.Helper()
	for at := o.dir; ; {
		rest, err := filepath.Rel(at, o.path(name))
		o.must(err)
		first, _, more := strings.Cut(rest, "/")
		if !more {
			break
		}
		at = filepath.Join(at, first)
		if err := os.Mkdir(at, 0o755); err == nil {
			o.must(os.Chown(at, uid, uid))
		}
	}
	o.must(os.WriteFile(o.path(name), []byte(text), 0o755))
	o.must(os.Chown(o.path(name), uid, uid))
	return o.path(name)
}

// hook runs spinecert hook with a command, and returns its exit status and what it says.
func (o *ownTree) hook(argv ...string) (int, string) {
	o.t.Helper()
	conf := o.file(0, "spinecert.yaml", strings.ReplaceAll(hookConfig, "/opt/open/program", `"`+strings.Join(argv, `", "`)+`"`))
	var out, errs strings.Builder
	return Main(o.t.Context(), "v", []string{"hook", "--config", conf, "odd:validate"}, strings.NewReader(""), &out, &errs), errs.String()
}

// TestHookDotDotBehindLink: the kernel follows a link before "..", and so what is looked at must be what is run.
func TestHookDotDotBehindLink(t *testing.T) {
	o := newOwnTree(t)
	theirs := o.file(1, "home/app/bin/check", "#!/bin/sh\ntouch "+o.path("ran")+"\n")
	o.must(os.Mkdir(o.path("home/app/release"), 0o755))
	o.file(0, "srv/bin/check", "#!/bin/sh\nexit 0\n")
	o.must(os.Symlink(o.path("home/app/release"), o.path("srv/current")))
	for _, program := range []string{theirs, o.path("srv/current") + "/../bin/check"} {
		if exit, says := o.hook(program); exit != exitUsage || !strings.Contains(says, "belongs to user 1") {
			t.Errorf("%s: exit status %d, %s", program, exit, says)
		}
	}
	if exit, says := o.hook(o.path("srv") + "/../srv/bin/check"); exit != 0 {
		t.Errorf("a program of root's: exit status %d, %s", exit, says)
	}
	if _, err := os.Stat(o.path("ran")); err == nil {
		t.Error("root ran a program of user 1")
	}
}

// TestHookConfigurationBehindLink: a configuration that is a link is read where it was looked at, and is as for the daemon.
func TestHookConfigurationBehindLink(t *testing.T) {
	o := newOwnTree(t)
	told := o.path("told")
	text := strings.ReplaceAll(strings.ReplaceAll(hookConfig, "directory: /srv/odd", "directory: odd"), "/opt/open/program", `/bin/sh, -c, "echo $SPINECERT_DIRECTORY >`+told+`"`)
	o.file(0, "real/there.yaml", text)
	o.file(0, "etc/x", "")
	o.must(os.Symlink("../real/there.yaml", o.path("etc/spinecert.yaml")))
	var out, errs strings.Builder
	if exit := Main(t.Context(), "v", []string{"hook", "--config", o.path("etc/spinecert.yaml"), "odd:validate"}, strings.NewReader(""), &out, &errs); exit != 0 {
		t.Fatalf("exit status %d: %s", exit, errs.String())
	}
	if got, _ := os.ReadFile(told); strings.TrimSpace(string(got)) != o.path("etc/odd") {
		t.Errorf("the directory is %q", got)
	}
}

// TestHookRunsTheirScript: the program is root's, and what it is told to run is not.
func TestHookRunsTheirScript(t *testing.T) {
	o := newOwnTree(t)
	theirs := o.file(1, "home/theirs", "#!/bin/sh\ntouch "+o.path("ran")+"\n")
	ours := o.file(0, "bin/ours", "#!/bin/sh -e\nexit 0\n")
	o.must(os.Symlink("/bin/sh", o.path("bin/runner")))
	for name, argv := range map[string][]string{
		"script":              {"/bin/sh", theirs},
		"behind options":      {"/bin/bash", "-e", "--norc", theirs},
		"behind another name": {o.path("bin/runner"), theirs},
		"relative to /":       {"/bin/sh", theirs[1:]},
		"interpreter":         {o.file(0, "bin/interpreter", "#!"+theirs+"\n")},
		"interpreter of that": {o.file(0, "bin/second", "#! "+o.path("bin/interpreter")+" -x\n")},
		"by env":              {"/usr/bin/env", "A=/b", theirs},
		"by env and sh":       {"/usr/bin/env", "-i", "sh", theirs},
		"by env, a script":    {"/usr/bin/env", o.path("bin/interpreter")},
		"env in a script":     {o.file(0, "bin/env", "#!/usr/bin/env "+theirs+"\n")},
		"env with words":      {o.file(0, "bin/words", "#!/usr/bin/env -S "+theirs+" -u\n")},
		"themselves in turn":  {o.file(0, "bin/turn", "#!"+o.path("bin/turn")+"\n")},
	} {
		exit, says := o.hook(argv...)
		if exit != exitUsage || !strings.Contains(says, "user 1") && !strings.Contains(says, "too many levels") {
			t.Errorf("%s: exit status %d, %s", name, exit, says)
		}
	}
	for name, argv := range map[string][]string{
		"script":         {"/bin/sh", ours},
		"itself":         {ours, theirs}, // what it does with that is its own matter
		"code":           {"/bin/sh", "-c", "test -e " + theirs},
		"code, in a row": {"/bin/sh", "-ec", "/bin/true " + theirs},
		"env":            {"/usr/bin/env", "A=" + theirs, "true"},
		"env in first":   {o.file(0, "bin/plain", "#!/usr/bin/env sh\nexit 0\n")},
		"a program":      {"/bin/true", theirs},
	} {
		if exit, says := o.hook(argv...); exit != 0 {
			t.Errorf("%s: exit status %d, %s", name, exit, says)
		}
	}
	if exit, says := o.hook("/bin/sh", o.path("bin/none")); exit != exitFailed || !strings.Contains(says, "no such file") {
		t.Errorf("a script that is missing: exit status %d, %s", exit, says)
	}
	if _, err := os.Stat(o.path("ran")); err == nil {
		t.Error("root ran a file of user 1")
	}
}
