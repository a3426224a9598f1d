package inbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box is an inbox on disk, with what was taken from it and what was told.
type box struct {
	*Inbox
	dir string

	mu     sync.Mutex
	taken  []string
	events []Event
	answer func(name string, data []byte) Verdict
}

// newBox makes an inbox that accepts everything.
func newBox(t *testing.T) *box {
	t.Helper()
	b := boxAt(filepath.Join(t.TempDir(), "inbox"))
	if err := errors.Join(os.Mkdir(b.dir, 0o770), os.Chmod(b.dir, 0o770)); err != nil {
		t.Fatal(err)
	}
	return b
}

func boxAt(dir string) *box {
	b := &box{dir: dir}
	b.answer = func(string, []byte) Verdict { return Verdict{Accepted: true, Reason: "it fits"} }
	b.Inbox = New(Config{
		Directory: dir,
		Take: func(_ context.Context, name string, data []byte) Verdict {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.taken = append(b.taken, name)
			return b.answer(name, data)
		},
		Tell: func(e Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
		},
	})
	return b
}

func (b *box) drop(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

// names returns what is in a directory of the inbox.
func (b *box) names(t *testing.T, sub string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.dir, sub))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		if sub != "" || e.Name() != doneName && e.Name() != rejectedName {
			names = append(names, e.Name())
		}
	}
	return names
}

func (b *box) want(t *testing.T, sub string, names ...string) {
	t.Helper()
	if got := b.names(t, sub); !slices.Equal(got, names) {
		t.Errorf("%q holds %q, want %q", sub, got, names)
	}
}

// took fails unless these were handed over since the last call.
func (b *box) took(t *testing.T, names ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.taken, names) {
		t.Errorf("taken %q, want %q", b.taken, names)
	}
	b.taken = nil
}

// told returns what was told since the last call, as "kind name".
func (b *box) told(t *testing.T, want ...string) []Event {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var got []string
	for _, e := range b.events {
		got = append(got, strings.TrimSpace(string(e.Kind)+" "+e.Name))
		if e.Reason == "" {
			t.Errorf("no reason is told: %+v", e)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	events := b.events
	b.events = nil
	return events
}

func (b *box) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func wantMode(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
	} else if info.Mode() != mode {
		t.Errorf("%s has mode %v, want %v", path, info.Mode(), mode)
	}
}

func TestVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.answer = func(name string, data []byte) Verdict {
			switch string(data) {
			case "good":
				return Verdict{Accepted: true, Reason: "it fits"}
			case "early":
				return Verdict{Later: true, Reason: "it is not valid yet", Hint: "wait"}
			}
			return Verdict{Reason: "no request\nhas this key\x1b[2J", Hint: "look at spinecert csr list"}
		}
		b.drop(t, "a.pem", "good")
		b.drop(t, "b.pem", "bad")
		b.drop(t, "c.pem", "early")
		for range 3 {
			if b.Look(t.Context()) {
				t.Error("there are more files")
			}
		}
		b.want(t, "", "c.pem")
		b.want(t, "done", "a.pem")
		b.want(t, "rejected", "b.pem", "b.pem.reason")
		b.took(t, "a.pem", "b.pem", "c.pem", "c.pem", "c.pem")
		if got, want := b.read(t, "rejected/b.pem.reason"), "no request has this key [2J\nhint: look at spinecert csr list\n"; got != want {
			t.Errorf("reason %q, want %q", got, want)
		}
		wantMode(t, filepath.Join(b.dir, "rejected/b.pem.reason"), 0o640)
		wantMode(t, filepath.Join(b.dir, "done"), fs.ModeDir|0o770)
		want := []Event{
			{Kind: Accepted, Name: "a.pem", Moved: "done/a.pem", Reason: "it fits"},
			{Kind: Rejected, Name: "b.pem", Moved: "rejected/b.pem", Reason: "no request has this key [2J", Hint: "look at spinecert csr list"},
			{Kind: Waiting, Name: "c.pem", Reason: "it is not valid yet", Hint: "wait"},
		}
		if diff := cmp.Diff(want, b.told(t, "accepted a.pem", "rejected b.pem", "waiting c.pem")); diff != "" {
			t.Error(diff)
		}
		b.answer = func(string, []byte) Verdict { return Verdict{Accepted: true, Reason: "now it is"} }
		b.Look(t.Context())
		b.want(t, "done", "a.pem", "c.pem")
		b.told(t, "accepted c.pem")
		if len(b.memory) != 0 {
			t.Errorf("%d files are remembered that are gone", len(b.memory))
		}
	})
}

func TestNothingIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.Look(t.Context())
		for _, name := range []string{"done/a.pem", "done/a.pem.1", "rejected/b.pem.reason", "rejected/c.pem"} {
			b.drop(t, name, "old")
		}
		b.answer = func(_ string, data []byte) Verdict {
			return Verdict{Accepted: string(data) == "good", Reason: "because"}
		}
		b.drop(t, "a.pem", "good")
		b.drop(t, "b.pem", "bad")
		b.drop(t, "c.pem", "bad")
		b.Look(t.Context())
		b.want(t, "")
		b.want(t, "done", "a.pem", "a.pem.1", "a.pem.2")
		b.want(t, "rejected", "b.pem.1", "b.pem.1.reason", "b.pem.reason", "c.pem", "c.pem.1", "c.pem.1.reason")
		for _, name := range []string{"done/a.pem", "done/a.pem.1", "rejected/b.pem.reason", "rejected/c.pem"} {
			if b.read(t, name) != "old" {
				t.Errorf("%s was replaced", name)
			}
		}
		// When every number is taken the name ends in something else.
		for i := range maxTargets {
			b.drop(t, fmt.Sprintf("done/d.pem.%d", i), "old")
		}
		b.drop(t, "done/d.pem", "old")
		b.drop(t, "d.pem", "good")
		b.Look(t.Context())
		b.want(t, "")
	})
}

// Names that begin with a dot, and what programs write before they rename it.
func TestLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		names := []string{".a.pem.swp", "...", "a.PART", "a.filepart", "a.part", "a.pem.reason", "a.pem~", "a.tmp"}
		for _, name := range names {
			b.drop(t, name, "-----BEGIN PRIVATE KEY-----")
		}
		b.Look(t.Context())
		slices.Sort(names)
		b.want(t, "", names...)
		b.told(t)
	})
}

// Names are used as they are, below the open directory, and told with everything
// odd escaped.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		names := []string{
			"a\nb", "a\x1b[2J\x07", "-rf", "\xff\xfe", "a\u202eb", `a\..\..\b`, "x..%2f..%2fetc", "~root", "a b;$(x)",
			strings.Repeat("x", 255), strings.Repeat("y", 249), strings.Repeat("\u00e4", 127),
		}
		for i, name := range names {
			b.drop(t, name, []string{"good", "bad"}[i%2])
			b.drop(t, "z"+name[:min(len(name), 200)], []string{"bad", "good"}[i%2])
		}
		b.answer = func(_ string, data []byte) Verdict {
			return Verdict{Accepted: string(data) == "good", Reason: "because"}
		}
		b.Look(t.Context())
		b.want(t, "")
		if got := len(b.names(t, "done")); got != len(names) {
			t.Errorf("%d of %d are done", got, len(names))
		}
		if got := len(b.names(t, "rejected")); got != 2*len(names) {
			t.Errorf("%d of %d are rejected", got, 2*len(names))
		}
		for _, e := range b.events {
			if text := e.Name + e.Moved + e.Reason; strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e || r == 0xfffd }) || e.Moved == "" {
				t.Errorf("told %q", e)
			}
		}
		outside, err := os.ReadDir(filepath.Dir(b.dir))
		if err != nil || len(outside) != 1 {
			t.Errorf("beside the inbox: %v, %v", outside, err)
		}
	})
}

// What is no file of its own is moved away without being opened.
func TestNotAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		outside := filepath.Join(filepath.Dir(b.dir), "outside")
		if err := errors.Join(os.WriteFile(outside, []byte("mine"), 0o600),
			os.Symlink(outside, filepath.Join(b.dir, "link")), os.Symlink("nothing", filepath.Join(b.dir, "dangling")),
			os.Link(outside, filepath.Join(b.dir, "hard")), unix.Mkfifo(filepath.Join(b.dir, "fifo"), 0o666),
			unix.Mknod(filepath.Join(b.dir, "socket"), unix.S_IFSOCK|0o666, 0), os.Mkdir(filepath.Join(b.dir, "directory"), 0o755)); err != nil {
			t.Fatal(err)
		}
		want := []string{"dangling", "fifo", "hard", "link", "socket"}
		if unix.Mknod(filepath.Join(b.dir, "device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) == nil { // /dev/zero
			want = append(want, "device")
		}
		b.drop(t, "directory/a.pem", "good")
		for range 3 {
			b.Look(t.Context())
		}
		b.took(t)
		b.want(t, "", "directory")
		var rejected []string
		for _, name := range want {
			rejected = append(rejected, name, name+".reason")
			if reason := b.read(t, "rejected/"+name+".reason"); strings.Contains(reason, "mine") || !strings.Contains(reason, map[string]string{
				"dangling": "symbolic link", "link": "symbolic link", "hard": "several links", "fifo": "FIFO", "socket": "socket", "device": "device"}[name]) {
				t.Errorf("%s: reason %q", name, reason)
			}
		}
		slices.Sort(rejected)
		b.want(t, "rejected", rejected...)
		if data, err := os.ReadFile(outside); string(data) != "mine" || err != nil {
			t.Errorf("the target holds %q, %v", data, err)
		}
		wantMode(t, outside, 0o600)
		ignored := 0
		for _, e := range b.events {
			if e.Kind == Ignored {
				ignored++
			}
		}
		if ignored != 1 {
			t.Errorf("the directory was told %d times", ignored)
		}
	})
}

// Everything is served in turn, and what waits does not keep others waiting.
func TestTenThousandFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		const all = 10_000
		for i := range all {
			b.drop(t, fmt.Sprintf("%05d.pem", i), []string{"good", "bad", "bad", "early", "good"}[i%5])
		}
		b.answer = func(_ string, data []byte) Verdict {
			return Verdict{Accepted: string(data) == "good", Later: string(data) == "early", Reason: "because"}
		}
		for pass := 1; ; pass++ {
			before := len(b.taken)
			more := b.Look(t.Context())
			if n := len(b.taken) - before; n != 1000 {
				t.Errorf("pass %d took %d files", pass, n)
			}
			if more != (pass < all/1000) {
				t.Fatalf("pass %d: more %v", pass, more)
			}
			if !more {
				break
			}
		}
		slices.Sort(b.taken)
		if n := len(slices.Compact(b.taken)); n != all {
			t.Errorf("%d of %d files were taken", n, all)
		}
		b.drop(t, "zzz.pem", "good")
		for b.Look(t.Context()) {
		}
		if !slices.Contains(b.names(t, "done"), "zzz.pem") {
			t.Error("a file behind many that wait was not served")
		}
		if got, want := len(b.names(t, "")), all/5; got != want {
			t.Errorf("%d files wait, want %d", got, want)
		}
		crowded := 0
		for _, e := range b.events {
			if e.Kind == Crowded {
				crowded++
			}
		}
		if crowded != 1 {
			t.Errorf("told %d times that there are many", crowded)
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.drop(t, "a.pem", "good")
		b.drop(t, "b.pem", "good")
		ctx, cancel := context.WithCancel(t.Context())
		b.answer = func(string, []byte) Verdict { cancel(); return Verdict{Accepted: true, Reason: "it fits"} }
		b.Look(ctx)
		b.want(t, "", "b.pem")
		b.Look(ctx)
		b.took(t, "a.pem")
	})
}
