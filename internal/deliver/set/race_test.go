package set

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/durable"
)

// planter plants into a target directory what it can, as fast as it can, and puts links
// to other places where sets are being made. Open keeps all but root from it; what is
// shown here is that even then nothing is followed.
type planter struct {
	dir, outside string
	stop         chan struct{}
	planted      int
}

func (p *planter) run() {
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return
		default:
		}
		names, _ := os.ReadDir(p.dir)
		for _, e := range names {
			if rand.IntN(4) == 0 {
				p.plant(filepath.Join(p.dir, e.Name()), fmt.Sprintf("%s/moved-%d", p.dir, n))
			}
		}
		if rand.IntN(4) == 0 {
			p.plant(filepath.Join(p.dir, Link), fmt.Sprintf("%s/moved-link-%d", p.dir, n))
		}
	}
}

// plant moves away what is there, and puts something else there.
func (p *planter) plant(path, away string) {
	_ = os.Rename(path, away)
	var err error
	switch rand.IntN(5) {
	case 0:
		err = os.Symlink(p.outside, path)
	case 1:
		err = os.Symlink(p.outside+"/key.pem", path)
	case 2:
		err = os.Mkdir(path, 0o755)
	case 3:
		err = syscall.Mkfifo(path, 0o644)
	case 4:
		err = os.Rename(away, path)
	}
	if err == nil {
		p.planted++
	}
}

// tidy removes what was planted, as an operator would, so that deliveries come through again.
func tidy(dir string) {
	moved, _ := filepath.Glob(dir + "/moved-*")
	for _, path := range moved {
		_ = os.RemoveAll(path)
	}
	link := filepath.Join(dir, Link)
	if target, _ := os.Readlink(link); !namePattern.MatchString(target) {
		_ = os.RemoveAll(link)
	}
}

// TestNothingIsFollowed delivers, checks and prunes while things are planted.
func TestNothingIsFollowed(t *testing.T) {
	base := quickDir(t)
	dir, outside := filepath.Join(base, "spine"), filepath.Join(base, "outside")
	precious := []byte("precious")
	must(t, os.Mkdir(dir, 0o755), os.Mkdir(outside, 0o755),
		os.WriteFile(outside+"/key.pem", precious, 0o644), os.WriteFile(outside+"/fullchain.pem", precious, 0o644))
	p := &planter{dir: dir, outside: outside, stop: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(p.run)
	outcomes := map[string]int{}
	for n := 0; n < 400 || (outcomes[""] == 0 || outcomes[failure.Planted] == 0) && n < 20_000; n++ {
		tidy(dir)
		target := mustOpen(t, dir, durable.Disk{})
		name, entries, err := target.Write(pair(1), now)
		if err == nil {
			err = target.Switch(name)
		}
		if err == nil {
			err = target.Check(name, entries, true)
		}
		reason := failure.ReasonOf(err, "")
		if err != nil && reason == "" {
			t.Errorf("no *failure.Error: %v", err)
		}
		outcomes[reason]++
		_ = target.Prune()
		must(t, target.Close())
	}
	close(p.stop)
	running.Wait()
	t.Logf("planted %d times, outcomes %v", p.planted, outcomes)
	if outcomes[""] == 0 || outcomes[failure.Planted] == 0 {
		t.Errorf("outcomes are %v: too much was planted, or too little", outcomes)
	}
	wantNames(t, outside, "key.pem", "fullchain.pem")
	for _, name := range []string{"key.pem", "fullchain.pem"} {
		if data, err := os.ReadFile(filepath.Join(outside, name)); err != nil || string(data) != string(precious) {
			t.Errorf("%s outside holds %q, %v", name, data, err)
		}
		wantMode(t, filepath.Join(outside, name), 0o644)
	}
	err := filepath.WalkDir(base, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "key.pem" || strings.HasPrefix(path, outside) {
			return err
		}
		if info, err := e.Info(); err != nil || info.Mode().IsRegular() && info.Mode() != 0o600 {
			return errors.Join(err, fmt.Errorf("%s has mode %v", path, info.Mode()))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPlantedMeanwhile plants at the worst moment: between a look and the call.
func TestPlantedMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		op, name string
		plant    func(dir, set, outside string) error
	}{
		"link for a file":  {"open", "key.pem", func(d, s, o string) error { return os.Symlink(o+"/key.pem", d+"/"+s+"/key.pem") }},
		"link to make one": {"open", "key.pem", func(d, s, o string) error { return os.Symlink(o+"/new.pem", d+"/"+s+"/key.pem") }},
		"a file":           {"open", "key.pem", func(d, s, o string) error { return os.Link(o+"/key.pem", d+"/"+s+"/key.pem") }},
		"a pipe":           {"open", "key.pem", func(d, s, _ string) error { return syscall.Mkfifo(d+"/"+s+"/key.pem", 0o600) }},
		"another set": {"chmod", "", func(d, s, o string) error {
			return errors.Join(os.Rename(d+"/"+s, o+"/away"), os.Mkdir(d+"/"+s, 0o755))
		}},
		"link for a set": {"chmod", "", func(d, s, o string) error { return errors.Join(os.Rename(d+"/"+s, o+"/away"), os.Symlink(o, d+"/"+s)) }},
		"no set":         {"chmod", "", func(d, s, o string) error { return os.Rename(d+"/"+s, o+"/away") }},
		"a directory":    {"rename", Link, func(d, _, _ string) error { return os.Mkdir(d+"/"+Link, 0o755) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			must(t, os.WriteFile(outside+"/key.pem", []byte("precious"), 0o644))
			target := mustOpen(t, dir, durable.Disk{Fault: func(op, name string) error {
				if op == c.op && (name == c.name || c.name == "" && namePattern.MatchString(name)) {
					sets, _ := filepath.Glob(dir + "/set-*")
					must(t, c.plant(dir, filepath.Base(sets[0]), outside))
				}
				return nil
			}})
			set, _, err := target.Write(pair(1), now)
			if err == nil {
				err = target.Switch(set)
			}
			wantReason(t, "delivery", err, failure.Planted)
			if data, err := os.ReadFile(outside + "/key.pem"); err != nil || string(data) != "precious" {
				t.Errorf("the key outside is %q, %v", data, err)
			}
			wantMode(t, outside+"/key.pem", 0o644)
			if _, err := os.Lstat(outside + "/new.pem"); err == nil {
				t.Error("a file was made outside")
			}
			if sets, _ := filepath.Glob(dir + "/set-*"); name == "another set" && len(sets) != 1 {
				t.Error("what was planted was removed")
			}
			if keys, _ := filepath.Glob(outside + "/away/*"); len(keys) > 0 {
				t.Errorf("%q is left", keys)
			}
		})
	}
}
