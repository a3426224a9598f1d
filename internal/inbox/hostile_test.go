package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A file that changes between the two reads stays, whatever its size and times say,
// until patience ends.
func TestChanging(t *testing.T) {
	for name, change := range map[string]func(path string, n int) error{
		"appended": func(path string, n int) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(f, n)
			return errors.Join(err, f.Close())
		},
		"same size, times put back": func(path string, n int) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{byte('a' + n%26)}, 0)
			return errors.Join(err, f.Close(), os.Chtimes(path, info.ModTime(), info.ModTime()))
		},
		"its mode alone": func(path string, n int) error { return os.Chmod(path, fs.FileMode(0o600|n%2*0o040)) },
		"emptied":        func(path string, _ int) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.drop(t, "a.pem", "good")
				n := 0
				b.between = func(point, name string) {
					if n++; point == "reread" {
						if err := change(filepath.Join(b.dir, name), n); err != nil {
							t.Error(err)
						}
					}
				}
				start := time.Now()
				for len(b.names(t, "")) > 0 {
					if time.Since(start) > 2*b.patience {
						t.Fatal("patience does not end")
					}
					b.Look(t.Context())
					time.Sleep(time.Minute)
				}
				if waited := time.Since(start); waited < b.patience {
					t.Errorf("refused after %v", waited)
				}
				b.took(t)
				b.told(t, "rejected a.pem")
				b.want(t, "rejected", "a.pem", "a.pem.reason")
			})
		})
	}
}

func TestChangeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.drop(t, "a.pem", "")
		b.Look(t.Context())
		b.took(t)
		time.Sleep(b.patience / 2)
		b.drop(t, "a.pem", "good")
		b.Look(t.Context())
		b.took(t, "a.pem")
		b.told(t, "accepted a.pem")
	})
}

// Patience begins anew when a file has come to rest in between.
func TestChangeBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.answer = func(string, []byte) Verdict { return Verdict{Later: true, Reason: "not yet"} }
		b.drop(t, "a.pem", "")
		b.Look(t.Context())
		b.drop(t, "a.pem", "good")
		b.Look(t.Context())
		time.Sleep(2 * b.patience)
		b.drop(t, "a.pem", "")
		b.Look(t.Context())
		b.took(t, "a.pem")
		b.want(t, "", "a.pem")
	})
}

// What others do at each point where they can. Nothing is moved that was not
// judged, and nothing is judged that could not be read safely.
func TestRaces(t *testing.T) {
	for _, tc := range []struct {
		name, point string
		do          func(b *box) error
		taken       []string // in the first pass
		left        []string // in the inbox after it
		done        []string // after it
	}{
		{"another file by its name, before it is moved", "judged", func(b *box) error {
			return errors.Join(os.WriteFile(filepath.Join(b.dir, ".new"), []byte("other"), 0o640), os.Rename(filepath.Join(b.dir, ".new"), filepath.Join(b.dir, "a.pem")))
		}, []string{"a.pem"}, []string{"a.pem"}, nil},
		{"a link by its name, before it is moved", "judged", func(b *box) error {
			return errors.Join(os.Remove(filepath.Join(b.dir, "a.pem")), os.Symlink("/etc/passwd", filepath.Join(b.dir, "a.pem")))
		}, []string{"a.pem"}, []string{"a.pem"}, nil},
		{"gone, before it is moved", "judged", func(b *box) error { return os.Remove(filepath.Join(b.dir, "a.pem")) }, []string{"a.pem"}, nil, nil},
		{"a link by its name, before it is opened", "met", func(b *box) error {
			return errors.Join(os.Remove(filepath.Join(b.dir, "a.pem")), os.Symlink("/etc/passwd", filepath.Join(b.dir, "a.pem")))
		}, nil, []string{"a.pem"}, nil},
		{"a FIFO by its name, before it is opened", "met", func(b *box) error {
			return errors.Join(os.Remove(filepath.Join(b.dir, "a.pem")), unix.Mkfifo(filepath.Join(b.dir, "a.pem"), 0o666))
		}, nil, []string{"a.pem"}, nil},
		{"a FIFO by its name, before it is read again", "reread", func(b *box) error {
			return errors.Join(os.Remove(filepath.Join(b.dir, "a.pem")), unix.Mkfifo(filepath.Join(b.dir, "a.pem"), 0o666))
		}, nil, []string{"a.pem"}, nil},
		{"a second link, before it is read again", "reread", func(b *box) error {
			return os.Link(filepath.Join(b.dir, "a.pem"), filepath.Join(filepath.Dir(b.dir), "second"))
		}, nil, []string{"a.pem"}, nil},
		{"larger, before it is read again", "reread", func(b *box) error { return os.Truncate(filepath.Join(b.dir, "a.pem"), maxFile+1) }, nil, []string{"a.pem"}, nil},
		{"a directory by its name, before it is moved", "judged", func(b *box) error {
			return errors.Join(os.Remove(filepath.Join(b.dir, "a.pem")), os.Mkdir(filepath.Join(b.dir, "a.pem"), 0o700))
		}, []string{"a.pem"}, []string{"a.pem"}, nil},
		{"done/ is another directory, before it is moved", "judged", func(b *box) error {
			return errors.Join(os.Rename(filepath.Join(b.dir, doneName), filepath.Join(b.dir, ".old")), os.Symlink("/tmp", filepath.Join(b.dir, doneName)))
		}, []string{"a.pem"}, []string{".old"}, nil},
	} {
		for _, accepted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, accepted %v", tc.name, accepted), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBox(t)
					b.Look(t.Context()) // makes the directories
					b.drop(t, "a.pem", "good")
					b.answer = func(string, []byte) Verdict { return Verdict{Accepted: accepted, Reason: "because"} }
					once := true
					b.between = func(point, _ string) {
						if point != tc.point || !once {
							return
						}
						once = false
						if err := tc.do(b); err != nil {
							t.Error(err)
						}
					}
					b.Look(t.Context())
					b.took(t, tc.taken...)
					b.want(t, "", append([]string{}, tc.left...)...)
					if slices.Contains(tc.left, ".old") {
						return
					}
					b.want(t, "done")
					b.want(t, "rejected")
					if n := len(b.events); n != len(tc.taken) {
						t.Errorf("%d events, want the outcome of what was judged: %v", n, b.events)
					}
					for _, e := range b.events {
						if e.Moved != "" {
							t.Errorf("told that it was moved: %+v", e)
						}
					}
				})
			})
		}
	}
}

// Each thing that a file must be is asked of the open file, and not only of what
// had its name before.
func TestReadRefuses(t *testing.T) {
	b := newBox(t)
	d, _, err := b.open()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	b.drop(t, "file", "good")
	b.drop(t, "large", "")
	b.drop(t, "twice", "good")
	path := func(name string) string { return filepath.Join(b.dir, name) }
	if err := errors.Join(os.Symlink("file", path("link")), os.Truncate(path("large"), maxFile+1), os.Link(path("twice"), path("again")),
		os.Mkdir(path("directory"), 0o700), unix.Mkfifo(path("fifo"), 0o600), unix.Mknod(path("socket"), unix.S_IFSOCK|0o600, 0)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link", "large", "twice", "again", "directory", "fifo", "socket"} {
		var st unix.Stat_t
		if err := unix.Stat(path(name), &st); err != nil {
			t.Fatal(err)
		}
		s, data, f, err := d.read(name, id{st.Dev, st.Ino})
		if err == nil {
			f.Close()
		}
		if name == "file" {
			if err != nil || s.torn || string(data) != "good" {
				t.Errorf("%s: %+v, %q, %v", name, s, data, err)
			}
		} else if !errors.Is(err, errOther) {
			t.Errorf("%s: %v, want %v", name, err, errOther)
		}
	}
	if _, _, _, err := d.read("file", id{1, 1}); !errors.Is(err, errOther) {
		t.Errorf("another file: %v", err)
	}
}

// A file that was judged and comes back under another name is not judged again.
func TestRenamedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.drop(t, "a.pem", "good")
		names := []string{"a.pem", "b.pem", "c.pem"}
		b.between = func(point, _ string) {
			if point == "judged" && len(names) > 1 {
				if err := os.Rename(filepath.Join(b.dir, names[0]), filepath.Join(b.dir, names[1])); err != nil {
					t.Error(err)
				}
				names = names[1:]
			}
		}
		for range 3 {
			b.Look(t.Context())
		}
		b.took(t, "a.pem")
		b.told(t, "accepted a.pem")
		b.want(t, "done", "c.pem")
	})
}

// Directories that somebody planted are not used, and nothing is judged that could
// not be moved.
func TestPlantedDirectories(t *testing.T) {
	for _, name := range []string{doneName, rejectedName} {
		for what, plant := range map[string]func(t *testing.T, path string) error{
			"a link": func(t *testing.T, path string) error { return os.Symlink(t.TempDir(), path) },
			"a file": func(_ *testing.T, path string) error { return os.WriteFile(path, nil, 0o666) },
			"a FIFO": func(_ *testing.T, path string) error { return unix.Mkfifo(path, 0o666) },
			"of another user": func(t *testing.T, path string) error {
				if os.Geteuid() != 0 {
					t.Skip("only root can give a directory away")
				}
				return errors.Join(os.Mkdir(path, 0o777), os.Chown(path, 65534, 65534))
			},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBox(t)
					path := filepath.Join(b.dir, name)
					if err := plant(t, path); err != nil {
						t.Fatal(err)
					}
					b.drop(t, "a.pem", "good")
					b.Look(t.Context())
					b.Look(t.Context())
					b.took(t)
					b.want(t, "", "a.pem")
					if e := b.told(t, "unusable"); len(e) == 1 && (!strings.Contains(e[0].Reason, name+"/") || e[0].Hint == "") {
						t.Errorf("told %+v", e)
					}
					if err := os.RemoveAll(path); err != nil {
						t.Fatal(err)
					}
					b.Look(t.Context())
					b.want(t, "done", "a.pem")
					b.told(t, "accepted a.pem")
				})
			})
		}
	}
}

func TestDirectoryComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		for range 2 {
			if err := os.RemoveAll(b.dir); err != nil {
				t.Fatal(err)
			}
			b.Look(t.Context())
			b.Look(t.Context())
			if e := b.told(t, "unusable"); len(e) == 1 && (e[0].Hint == "" || !errors.Is(e[0].Err, os.ErrNotExist)) {
				t.Errorf("told %+v", e)
			}
			if err := os.Mkdir(b.dir, 0o770); err != nil {
				t.Fatal(err)
			}
			b.drop(t, "a.pem", "good")
			b.Look(t.Context())
			b.told(t, "accepted a.pem")
		}
		// A link in its place is not followed.
		if err := errors.Join(os.Rename(b.dir, b.dir+".real"), os.Symlink(b.dir+".real", b.dir)); err != nil {
			t.Fatal(err)
		}
		b.drop(t, "b.pem", "good")
		b.Look(t.Context())
		b.told(t, "unusable")
		b.want(t, "", "b.pem")
	})
}
