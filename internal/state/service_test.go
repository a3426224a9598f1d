package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/pki"
)

func recordOfService(n int) []byte {
	return fmt.Appendf(nil, `{"schema": 1, "proved": {"generation": %d}}`, n)
}

// wantService wants the record of a service to be this; nil: there is none.
func wantService(t *testing.T, d *Directory, name string, want []byte) {
	t.Helper()
	got, err := d.ReadService(name)
	if err != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
		t.Errorf("record of %s is %q, %v, want %q", name, got, err, want)
	}
}

func TestServicesAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := mustLock(t, dir)
	wantService(t, d, "nginx", nil)
	if d.exists(servicesName) {
		t.Error("reading made a directory")
	}
	for n := range 3 {
		if err := errors.Join(d.WriteService("nginx", recordOfService(n)), d.WriteService("postgres", recordOfService(10+n))); err != nil {
			t.Fatal(err)
		}
		wantService(t, d, "nginx", recordOfService(n))
	}
	wantClean(t, d)
	if err := checkModes(dir); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	wantService(t, reader, "nginx", recordOfService(2))
	wantService(t, reader, "postgres", recordOfService(12))
	if err := reader.WriteService("nginx", recordOfService(3)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("write without the lock: %v", err)
	}
}

func TestServicesAreNames(t *testing.T) {
	t.Parallel()
	d := mustLock(t, t.TempDir())
	for _, name := range []string{"", ".", "..", "a/b", "../slots", "Nginx", ".hidden", "a.json", strings.Repeat("a", 64), "a\x00"} {
		if err := d.WriteService(name, []byte("{}")); err == nil {
			t.Errorf("wrote %q", name)
		}
		if _, err := d.ReadService(name); err == nil {
			t.Errorf("read %q", name)
		}
	}
	if err := d.WriteService("nginx", make([]byte, maxFile+1)); err == nil {
		t.Error("wrote what is too large to be read")
	}
	if d.exists(servicesName) {
		t.Error("something was made")
	}
	if err := d.WriteService("nginx", bytes.Repeat([]byte(" "), maxFile)); err != nil {
		t.Error(err)
	}
	wantService(t, d, "nginx", bytes.Repeat([]byte(" "), maxFile))
}

// TestServiceIsPlanted: nothing but a regular file is read or replaced.
func TestServiceIsPlanted(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(path string) error{
		"link":      func(p string) error { return os.Symlink(filepath.Join(filepath.Dir(p), "../.lock"), p) },
		"pipe":      func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"large":     func(p string) error { return os.WriteFile(p, make([]byte, maxFile+1), 0o600) },
	} {
		d := mustLock(t, t.TempDir())
		path := d.abs(servicesName, "nginx.json")
		if err := errors.Join(os.Mkdir(d.abs(servicesName), 0o700), plant(path)); err != nil {
			t.Fatal(err)
		}
		if data, err := d.ReadService("nginx"); err == nil || pki.Hint(err) == "" {
			t.Errorf("%s: read %d bytes, %v", name, len(data), err)
		}
		wantCodes(t, d, "unreadable services/nginx.json")
		if err := d.WriteService("nginx", []byte("{}")); (err == nil) != (name == "large") {
			t.Errorf("%s: write: %v", name, err)
		}
		if text, _ := os.ReadFile(d.abs(lockName)); string(text) != fmt.Sprintln(os.Getpid()) {
			t.Errorf("%s: the lock holds %q", name, text)
		}
	}
}

// TestServiceFaults lets every system call fail, alone and with all that come after it:
// the record is the old one or the new one, and what is left of another goes with the lock.
func TestServiceFaults(t *testing.T) {
	t.Parallel()
	calls := 0
	write := func(dir string, fault func(op, name string) error) error {
		d, err := Lock(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.WriteService("nginx", recordOfService(1)); err != nil {
			t.Fatal(err)
		}
		d.disk = durable.Disk{Fault: fault}
		return d.WriteService("nginx", recordOfService(2))
	}
	if err := write(quickDir(t), func(string, string) error { calls++; return nil }); err != nil || calls < 6 {
		t.Fatal(calls, err)
	}
	for at := range 2 * calls {
		n, dir := 0, quickDir(t)
		err := write(dir, func(string, string) error {
			if n++; n-1 == at/2 || at%2 == 1 && n-1 > at/2 {
				return syscall.ENOSPC
			}
			return nil
		})
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(pki.Hint(err), "df -h") {
			t.Errorf("%d: %v, hint %q", at, err, pki.Hint(err))
		}
		d := mustLock(t, dir)
		got, err := d.ReadService("nginx")
		if err != nil || !slices.Contains([]string{string(recordOfService(1)), string(recordOfService(2))}, string(got)) {
			t.Errorf("%d: holds %q, %v", at, got, err)
		}
		wantClean(t, d)
		if err := checkModes(dir); err != nil {
			t.Errorf("%d: %v", at, err)
		}
	}
}

func TestVerifyServices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plant func(dir string) error
		want  string
	}{
		"no json":   {func(d string) error { return os.WriteFile(d+"/nginx.json", []byte("{"), 0o600) }, "unreadable services/nginx.json"},
		"empty":     {func(d string) error { return os.Truncate(d+"/nginx.json", 0) }, "unreadable services/nginx.json"},
		"readable":  {func(d string) error { return os.Chmod(d+"/nginx.json", 0o644) }, "mode services/nginx.json"},
		"open":      {func(d string) error { return os.Chmod(d, 0o755) }, "mode services"},
		"stray":     {func(d string) error { return os.WriteFile(d+"/notes.txt", nil, 0o600) }, "stray services/notes.txt"},
		"no name":   {func(d string) error { return os.WriteFile(d+"/NGINX.json", nil, 0o600) }, "stray services/NGINX.json"},
		"temporary": {func(d string) error { return os.WriteFile(d+"/.nginx.json.AAAAAAAAAAAAAAAAAAAAAAAAAA", nil, 0o600) }, "temporary services/.nginx.json.AAAAAAAAAAAAAAAAAAAAAAAAAA"},
		"a file":    {func(d string) error { return errors.Join(os.RemoveAll(d), os.WriteFile(d, nil, 0o600)) }, "unreadable services"},
		"a link":    {func(d string) error { return errors.Join(os.Rename(d, d+"/../slots/x"), os.Symlink("slots/x", d)) }, "unreadable services"},
		"owner":     {func(d string) error { return os.Chown(d+"/nginx.json", 4711, -1) }, "owner services/nginx.json"},
	} {
		if name == "owner" && os.Geteuid() != 0 {
			continue
		}
		d := mustLock(t, t.TempDir())
		if err := errors.Join(d.WriteService("nginx", recordOfService(1)), d.WriteService("haproxy", recordOfService(1))); err != nil {
			t.Fatal(err)
		}
		if err := c.plant(d.abs(servicesName)); err != nil {
			t.Fatal(err)
		}
		if name == "a link" {
			if err := os.RemoveAll(d.abs(slotsName, "x")); err != nil {
				t.Fatal(err)
			}
		}
		wantCodes(t, d, c.want)
	}
}

// TestServicesAtOnce: records of different services do not wait for each other, and of
// one service the last that was written counts.
func TestServicesAtOnce(t *testing.T) {
	t.Parallel()
	d := mustLock(t, t.TempDir())
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 10 {
				if err := d.WriteService(fmt.Sprintf("s%d", n%4), recordOfService(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for n := range 4 {
		wantService(t, d, fmt.Sprintf("s%d", n), recordOfService(9))
	}
	wantClean(t, d)
}
