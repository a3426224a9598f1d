package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/durable"
)

// listStory keeps a list, replaces it, learns that it is current, and drops it.
// Each step is told before and after: what is on disk is of the last step that was
// done or of the one that failed.
func listStory(d *Directory, did func(step int)) error {
	later := keptList(2)
	later.Fetched = later.Fetched.AddDate(0, 0, 1)
	for i, step := range []func() error{
		func() error { return keepList(d, "live", keptList(1), contentsOf(1)) },
		func() error { return keepList(d, "live", keptList(2), contentsOf(2)) },
		func() error { return d.KeepCRL("live", later, nil) },
		func() error { return d.DropCRL("live", crlAddress) },
	} {
		if err := step(); err != nil {
			return err
		}
		did(i + 1)
	}
	return nil
}

// tellLists tells the story on a new directory with a fault, and returns how far it came.
func tellLists(dir string, fault func(op, name string) error) (done int, err error) {
	d, err := Lock(dir, Options{})
	if err != nil {
		return 0, err
	}
	defer d.Close()
	d.disk = durable.Disk{Fault: fault} // the layout is the subject of other tests
	return done, listStory(d, func(step int) { done = step })
}

// TestCRLFaults lets every system call fail, alone and with all that come after it,
// as when the process is killed: a list is the old or the new one, and what is said
// of it never belongs to the other.
func TestCRLFaults(t *testing.T) {
	t.Parallel()
	calls := 0
	if done, err := tellLists(filepath.Join(quickDir(t), "state"), func(string, string) error { calls++; return nil }); err != nil || done != 4 {
		t.Fatal(done, err)
	}
	if calls < 30 {
		t.Fatalf("the story has %d system calls", calls)
	}
	for _, lasts := range []bool{false, true} {
		base := quickDir(t)
		for n := 1; n <= calls; n++ {
			dir, at := filepath.Join(base, strconv.Itoa(n)), 0
			done, err := tellLists(dir, func(string, string) error {
				if at++; at == n || lasts && at > n {
					return syscall.ENOSPC
				}
				return nil
			})
			if !errors.Is(err, syscall.ENOSPC) && (err != nil || done != 4) {
				t.Errorf("call %d: %v after step %d", n, err, done)
			}
			if err := wholeLists(dir, done); err != nil {
				t.Errorf("call %d, for good %v, after step %d: %v", n, lasts, done, err)
			}
		}
	}
	t.Logf("%d system calls", calls)
}

// wholeLists looks at what is left after step done was done, and the next begun.
func wholeLists(dir string, done int) error {
	d, err := Lock(dir, Options{})
	if err != nil {
		return err
	}
	defer d.Close()
	kept, err := d.ListCRLs("live")
	if err := errors.Join(err, d.Trouble(), checkModes(dir)); err != nil {
		return err
	}
	if len(kept) == 0 {
		if done == 0 || done >= 3 {
			return nil
		}
		return errors.New("the list is gone")
	}
	data, err := readList(d, "live", crlAddress)
	if err != nil {
		return err
	}
	which := 0
	for n := 1; n <= 2; n++ {
		if bytes.Equal(data, contentsOf(n)) {
			which = n
		}
	}
	switch {
	case which == 0:
		return fmt.Errorf("%d bytes that are neither list", len(data))
	case which < min(done, 2) || which > done+1:
		return fmt.Errorf("list %d", which)
	case kept[0].ETag != "" && kept[0].ETag != keptList(which).ETag:
		return fmt.Errorf("list %d with the ETag %s", which, kept[0].ETag)
	case kept[0].ETag == "" && !(done == 1 && which == 2): // the one place where list and description differ
		return fmt.Errorf("list %d has lost its ETag", which)
	}
	// It goes on.
	if err := listStory(d, func(int) {}); err != nil {
		return fmt.Errorf("going on: %w", err)
	}
	if _, err := d.OpenCRL("live", crlAddress); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}
