package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sh(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script, "sh"}, args...)
}

func run(t *testing.T, limit time.Duration, argv []string, env ...string) error {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	return Run(ctx, argv, env, failure.ReloadFailed)
}

// is fails the test unless err has a reason and holds each of the words.
func is(t *testing.T, err error, reason string, words ...string) {
	t.Helper()
	var f *failure.Error
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a *failure.Error", err)
	}
	text := f.Error() + " | " + f.Hint()
	if f.Reason != reason {
		t.Errorf("reason %s, want %s: %s", f.Reason, reason, text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in: %s", word, text)
		}
	}
	t.Logf("%s: %s", f.Reason, text)
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// alive reports whether a process runs, and is no zombie.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(data, []byte(") "))
	return !bytes.HasPrefix(rest, []byte("Z")) && !bytes.HasPrefix(rest, []byte("X"))
}

// pidIn waits for a number in a file.
func pidIn(t *testing.T, path string) int {
	t.Helper()
	pid := 0
	until(t, "a process number in "+path, func() bool {
		data, _ := os.ReadFile(path)
		number, rest, ended := strings.Cut(string(data), "\n")
		pid, _ = strconv.Atoi(number)
		return ended && rest == "" && pid > 1
	})
	return pid
}

func TestSurroundings(t *testing.T) {
	t.Setenv("SECRET_OF_THE_DAEMON", "x")
	leak, err := unix.Open("/dev/null", unix.O_RDONLY, 0) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(leak) }()
	out := filepath.Join(t.TempDir(), "out")
	script := `{ tr '\0' '\n' </proc/$$/environ | sort; readlink /proc/$$/fd/0; pwd; cut -d' ' -f5,6 /proc/$$/stat; echo $$; ls /proc/self/fd; } > ` + out + ` 2>&1`
	if err := run(t, patience, sh(script), "SPINECERT_STEP=reload"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(data))
	want := []string{"LANG=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SPINECERT_STEP=reload", "/dev/null", "/"}
	if len(lines) < 8 || !slices.Equal(lines[:5], want) {
		t.Fatalf("got %q, want first %q", lines, want)
	}
	if lines[5] != lines[7] || lines[6] != lines[7] {
		t.Errorf("group %s and session %s, want its own, %s", lines[5], lines[6], lines[7])
	}
	if !slices.Equal(lines[8:], []string{"0", "1", "2", "3"}) { // 3 is the listing's own
		t.Errorf("descriptors %q", lines[8:])
	}
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	base64 := strings.Repeat("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", 2)
	for _, c := range []struct {
		name   string
		argv   []string
		reason string
		words  []string
		not    string // must not be in the error
	}{
		{"exit status", sh("echo out; echo 'broken include' >&2; exit 3"), failure.ReloadFailed, []string{`run "/bin/sh": exit status 3: out; broken include`, "by hand as the daemon's user"}, ""},
		{"no output", sh("exit 1"), failure.ReloadFailed, []string{"exit status 1 |"}, ""},
		{"signal", sh("kill -9 $$"), failure.ReloadFailed, []string{"signal: killed"}, ""},
		{"two lines, no more", sh("echo first; echo second; echo third; exit 1"), failure.ReloadFailed, []string{"second; third"}, "first"},
		{"control characters", sh(`printf 'a\033[2J\rb\0c\302\233d\377\n'; exit 1`), failure.ReloadFailed, []string{"a[2Jbcd"}, "\x1b"},
		{"a long line", sh("head -c 5000 /dev/zero | tr '\\0' ' ' ; head -c 2000 /dev/zero | tr '\\0' '.'; echo end; exit 1"), failure.ReloadFailed, []string{"...", "end"}, strings.Repeat(".", quoted+1)},
		{"a private key", sh("echo '-----BEGIN PRIVATE KEY-----'; echo " + base64 + "; echo tail; exit 1"), failure.ReloadFailed, []string{"not shown"}, "tail"},
		{"the middle of a key", sh("echo " + base64 + "; echo AbCd==; exit 1"), failure.ReloadFailed, []string{"a line that may be of a key"}, "AbCd"},
		{"hex", sh("echo key=" + strings.Repeat("0123456789abcdef", 4) + "; exit 1"), failure.ReloadFailed, []string{"a line that may be of a key"}, "exit status 1: key="},
		{"a path is no key", sh("echo /etc/nginx/some/very/long/path/to/a/directory/of/files missing; exit 1"), failure.ReloadFailed, []string{"files missing"}, "may be"},
		{"missing", []string{dir + "/missing"}, failure.CommandUnusable, []string{"no such file", "check the path"}, ""},
		{"missing interpreter", []string{file("script", "#!/no/such/thing\n", 0o755)}, failure.CommandUnusable, []string{"no such file", "interpreter"}, ""},
		{"no interpreter line", []string{file("bare", "echo\n", 0o755)}, failure.CommandUnusable, []string{"exec format", "#!/bin/sh"}, ""},
		{"not executable", []string{file("plain", "x", 0o644)}, failure.NotPermitted, []string{"permission denied", "namei"}, ""},
		{"a directory", []string{dir}, failure.CommandUnusable, []string{"directory"}, ""},
		{"relative", []string{"sh", "-c", "true"}, failure.CommandUnusable, []string{"not absolute"}, ""},
		{"nothing", nil, failure.CommandUnusable, []string{"not absolute"}, ""},
		{"NUL in an argument", []string{"/bin/echo", "a\x00b"}, failure.CommandUnusable, []string{`run "/bin/echo"`}, "\x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := run(t, patience, c.argv)
			is(t, err, c.reason, c.words...)
			if c.not != "" && strings.Contains(err.Error(), c.not) {
				t.Errorf("the error holds %q: %v", c.not, err)
			}
		})
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/bin/true", link); err != nil {
		t.Fatal(err)
	}
	if err := run(t, patience, []string{link}); err != nil {
		t.Errorf("a symbolic link: %v", err)
	}
}

// TestArgumentsAreNotTold: they may hold a secret, and what is told is for every reader of status.
func TestArgumentsAreNotTold(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "--password=hunter2"
	for _, argv := range [][]string{
		sh("exit 1", secret), sh("kill -9 $$", secret), sh("sleep 1000", secret), {"/no/such/program", secret}, {plain, secret}, {"relative", secret}, {t.TempDir(), secret}, {"/bin/echo", secret + "\x00"},
	} {
		err := run(t, time.Second, argv, "SPINECERT_SERVICE="+secret)
		f, ok := errors.AsType[*failure.Error](err)
		if !ok || strings.Contains(f.Error()+f.Hint(), "hunter2") {
			t.Errorf("%s: %v | %+v", argv[0], err, f)
		}
	}
}

// TestRunFile: the file is run, and told the name.
func TestRunFile(t *testing.T) {
	err := RunFile(t.Context(), "/bin/sh", []string{"/no/such/name", "-c", `echo "I am $0"; tr '\0' ' ' </proc/$$/cmdline; exit 1`}, nil, failure.ReloadFailed)
	is(t, err, failure.ReloadFailed, `run "/no/such/name": exit status 1`, "I am /no/such/name; /no/such/name -c")
	is(t, RunFile(t.Context(), "bin/sh", []string{"/bin/sh"}, nil, failure.ReloadFailed), failure.CommandUnusable)
}

// TestEndlessOutput: a gigabyte is read and dropped, and the last words are kept.
func TestEndlessOutput(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := run(t, 4*patience, sh("yes 0123456789 | head -c 1073741824; echo; echo 'the end'; exit 1"))
	runtime.ReadMemStats(&after)
	is(t, err, failure.ReloadFailed, "the end")
	used := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d KiB allocated in all for a gigabyte", used>>10)
	if used > 4<<20 {
		t.Errorf("%d KiB allocated", used>>10)
	}
	if err := run(t, 4*patience, sh("yes | head -c 100000000")); err != nil {
		t.Error(err)
	}
}

// TestNeverEnds: a program that ignores SIGTERM, and its children, are gone soon after the time limit.
func TestNeverEnds(t *testing.T) {
	for name, script := range map[string]string{
		"ends on SIGTERM":         `echo $$ > $1; sleep 1000`,
		"ignores SIGTERM":         `trap '' TERM; echo $$ > $1; while :; do sleep 1000; done`,
		"a child ignores SIGTERM": `(trap '' TERM; sh -c 'echo $PPID > '$1; while :; do sleep 1000; done) & wait`,
		"prints without end":      `echo $$ > $1; yes`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			began := time.Now()
			ctx, stop := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() { done <- Run(ctx, sh(script, file), nil, failure.ValidateFailed) }()
			pid := pidIn(t, file)
			stop(nil)
			is(t, <-done, failure.Interrupted, "interrupted, stopped")
			until(t, "the process is gone", func() bool { return !alive(pid) })
			if took := time.Since(began); took > patience {
				t.Errorf("took %v", took)
			}
		})
	}
	is(t, run(t, 50*time.Millisecond, sh("echo waiting for godot; sleep 1000")), failure.Timeout, "no end within its time")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	is(t, Run(ctx, sh("exit 0"), nil, failure.ReloadFailed), failure.Interrupted, "not started")
}

// TestChildren: children that outlive the program, and keep its output open, are neither waited for nor killed.
func TestChildren(t *testing.T) {
	for name, script := range map[string]string{
		"in the session":    `sleep 1000 & echo $! > $1`,
		"in one of its own": `setsid sh -c 'echo $$ > '$1'; exec sleep 1000' & while ! [ -s $1 ]; do sleep 0.01; done`,
		"that prints":       `sh -c 'trap "" PIPE; while :; do echo x; sleep 0.01; done' & echo $! > $1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			if err := run(t, patience, sh(script, file)); err != nil {
				t.Fatal(err)
			}
			pid := pidIn(t, file)
			if !alive(pid) {
				t.Error("the child is gone")
			}
			_ = unix.Kill(pid, unix.SIGKILL)
		})
	}
	t.Run("that left the session before the time ran out", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "pid")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, sh(`setsid sh -c 'echo $$ > '$1'; exec sleep 1000' & wait`, file), nil, failure.ReloadFailed)
		}()
		pid := pidIn(t, file)
		stop()
		is(t, <-done, failure.Interrupted)
		_ = unix.Kill(pid, unix.SIGKILL)
	})
	t.Run("many", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "pids")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, sh(`i=0; while [ $i -lt 40 ]; do (trap '' TERM; sleep 1000) & echo $! >> $1; i=$((i+1)); done; wait`, file), nil, failure.ReloadFailed)
		}()
		var pids []string
		until(t, "40 children", func() bool {
			data, _ := os.ReadFile(file)
			pids = strings.Fields(string(data))
			return len(pids) == 40
		})
		stop()
		is(t, <-done, failure.Interrupted)
		for _, number := range pids {
			pid, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(err)
			}
			until(t, "a child is gone", func() bool { return !alive(pid) })
		}
	})
}

func TestKeeper(t *testing.T) {
	for _, sizes := range [][]int{{1}, {kept}, {kept + 1}, {kept - 1, 2}, {3 * kept, 5, 2 * kept}, slices.Repeat([]int{7}, 3000)} {
		var k keeper
		var all []byte
		for i, size := range sizes {
			block := bytes.Repeat([]byte{byte('a' + i%26)}, size)
			all = append(all, block...)
			k.add(block)
		}
		if want := all[max(0, len(all)-kept):]; !bytes.Equal(k.tail, want) {
			t.Errorf("%v: %d bytes are kept, or others than the last", sizes[:1], len(k.tail))
		}
	}
}

// FuzzQuote: what is quoted is one short printable line.
func FuzzQuote(f *testing.F) {
	f.Add([]byte("a\nb\x1b[2J\r\n\xff\xfe"))
	f.Add(bytes.Repeat([]byte("ä"), 400))
	f.Fuzz(func(t *testing.T, output []byte) {
		var k keeper
		k.add(output)
		text := k.quote()
		if len(text) > quoted+8 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.ToValidUTF8(text, "") != text {
			t.Errorf("got %q", text)
		}
	})
}
