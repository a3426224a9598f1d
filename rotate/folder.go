package rotate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// folder.go: directories of CRLs. What is in one is read as if every file of it had
// been named.

const (
	// anyName is the place of a directory whose every entry matters.
	anyName = "*"
	// maxFolder bounds the files of one directory.
	maxFolder = 4096
)

// listSuffixes are those of the files in a directory that are read.
var listSuffixes = []string{".crl", ".pem", ".der"}

// files returns every file of the source, those of them that folders stands for, and
// what of folders is not to be had, by its path.
func (j job) files() (all, folded []string, failed map[string]error) {
	if len(j.folders) == 0 {
		return j.paths, nil, nil
	}
	folded, _, failed = expand(j.folders)
	return slices.Concat(j.paths, folded), folded, failed
}

// places returns what the source depends on, as far as it is to be found.
func (j job) places() []place {
	_, places, _ := resolveAll(j.paths)
	if len(j.folders) == 0 {
		return places
	}
	folded, more, _ := expand(j.folders)
	_, links, _ := resolveAll(folded)
	return slices.Concat(places, more, links)
}

// read reads the whole source; while files come or go in a directory, again. What of
// folders cannot be read is in material.failed, and keeps nothing else from being
// read: a list that is missing must not keep others, or trust, from counting.
func (j job) read() (*material, error) {
	for range readRetries {
		all, folded, failed := j.files()
		m, err := readAll(all, j.limit)
		if err != nil && len(folded) > 0 {
			m, err = j.readApart(folded, &failed)
		}
		if err != nil {
			return nil, err
		}
		if again, _, _ := j.files(); !slices.Equal(again, all) {
			continue
		}
		if m.folded, m.failed = folded, failed; len(failed) > 0 {
			m.stat = "" // to be read again, and not only looked at
		}
		return m, nil
	}
	return nil, pending(reasonIncoherent, errors.New("read source: files come and go while its directory is read"))
}

// readApart reads each file of folders by itself.
func (j job) readApart(folded []string, failed *map[string]error) (*material, error) {
	m, err := readAll(j.paths, j.limit)
	if err != nil {
		return nil, err
	}
	if *failed == nil {
		*failed = map[string]error{}
	}
	h := sha256.New()
	h.Write(m.digest[:])
	for _, path := range folded {
		one, err := readAll([]string{path}, j.limit)
		if err != nil {
			(*failed)[path] = err
			continue
		}
		h.Write(one.digest[:])
		m.data[path], m.mode[path] = one.data[path], one.mode[path]
	}
	h.Sum(m.digest[:0])
	return m, nil
}

// expand replaces the directories among folders by the files in them. places are
// what makes the outcome another one. An empty or unreadable directory is an error,
// never an empty set of lists.
func expand(folders []string) (files []string, places []place, failed map[string]error) {
	failed = map[string]error{}
	for _, path := range folders {
		at, ps, err := resolve(path)
		places = append(places, ps...)
		if err != nil {
			failed[path] = unreadable(named(path, err))
			continue
		}
		info, err := os.Stat(at)
		if err != nil {
			failed[path] = unreadable(err)
			continue
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		places = append(places, place{at, anyName})
		found, err := filesIn(path, at)
		if err != nil {
			failed[path] = err
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	return slices.Compact(files), places, failed
}

// filesIn returns the files with CRLs in the directory that path leads to.
func filesIn(path, at string) ([]string, error) {
	entries, err := os.ReadDir(at)
	if err != nil {
		return nil, unreadable(err)
	}
	var files []string
	for _, entry := range entries {
		name := entry.Name()
		if entry.Type()&(fs.ModeType&^fs.ModeSymlink) != 0 || strings.HasPrefix(name, ".") || !slices.Contains(listSuffixes, strings.ToLower(filepath.Ext(name))) {
			continue
		}
		files = append(files, filepath.Join(path, name))
	}
	switch {
	case len(files) == 0:
		r := pending(reasonUnreadable, fmt.Errorf("read directory %q: there is no file *.crl, *.pem or *.der in it", path))
		r.Advice = "put the lists there, or take the directory out of crl.files"
		return nil, r
	case len(files) > maxFolder:
		return nil, &Refusal{Reason: "too_large", Err: fmt.Errorf("read directory %q: more than %d files", path, maxFolder)}
	}
	return files, nil
}
