package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat: USER_HZ, 100 on every Linux
// that Go runs on (proc(5)). The kernel counts in nanoseconds and rounds here,
// so an error is at most one tick per process, not per operation.
const tick = time.Second / 100

// stat is the part of /proc/PID/stat that is needed.
type stat struct {
	parent int
	cpu    time.Duration // user and system, own and of children already reaped
}

// parseStat reads one /proc/PID/stat. The name in field 2 may hold spaces and
// parentheses, so fields are counted from the last closing one.
func parseStat(line []byte) (stat, error) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("parse stat: no process name")
	}
	fields := strings.Fields(string(line[end+1:])) // fields[0] is field 3, state
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("parse stat: %d fields", len(fields)+2)
	}
	var st stat
	var err error
	if st.parent, err = strconv.Atoi(fields[1]); err != nil {
		return stat{}, fmt.Errorf("parse stat: parent: %w", err)
	}
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("parse stat: time: %w", err)
		}
		st.cpu += time.Duration(n) * tick
	}
	return st, nil
}

// processTree returns root and all its living descendants.
func processTree(root int) (map[int]stat, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := make(map[int]stat)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // ended meanwhile
		}
		st, err := parseStat(data)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", f, err)
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			continue
		}
		all[pid] = st
	}
	if _, ok := all[root]; !ok {
		return nil, fmt.Errorf("read process %d: it has ended", root)
	}
	tree := map[int]stat{root: all[root]}
	for grown := true; grown; {
		grown = false
		for pid, st := range all {
			_, in := tree[pid]
			if _, parentIn := tree[st.parent]; parentIn && !in {
				tree[pid], grown = st, true
			}
		}
	}
	return tree, nil
}

// treeCPU returns the CPU time that root and its descendants have used so far.
func treeCPU(root int) (time.Duration, error) {
	tree, err := processTree(root)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, st := range tree {
		sum += st.cpu
	}
	return sum, nil
}

// memory is resident memory in bytes. PSS counts a page shared by n processes
// as 1/n in each, so that it can be summed over nginx's workers.
type memory struct{ rss, pss int64 }

// treeMemory returns the resident memory of root and its descendants.
func treeMemory(root int) (memory, error) {
	tree, err := processTree(root)
	if err != nil {
		return memory{}, err
	}
	var sum memory
	for pid := range tree {
		file := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
		data, err := os.ReadFile(file)
		if err != nil {
			return memory{}, fmt.Errorf("read memory: %w", err)
		}
		m, err := parseRollup(data)
		if err != nil {
			return memory{}, fmt.Errorf("read %q: %w", file, err)
		}
		sum.rss += m.rss
		sum.pss += m.pss
	}
	return sum, nil
}

// parseRollup reads the Rss and Pss lines of a smaps_rollup.
func parseRollup(data []byte) (memory, error) {
	m := memory{rss: -1, pss: -1}
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("parse %q: %w", sc.Text(), err)
		}
		switch fields[0] {
		case "Rss:":
			m.rss = n * 1024
		case "Pss:":
			m.pss = n * 1024
		}
	}
	if m.rss < 0 || m.pss < 0 {
		return memory{}, fmt.Errorf("parse smaps_rollup: no Rss or Pss line")
	}
	return m, nil
}
