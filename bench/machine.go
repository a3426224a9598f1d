package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// describeMachine returns what a reader needs to judge the figures, as rows of
// name and value.
func describeMachine() [][2]string {
	return [][2]string{
		{"CPU", valueIn("/proc/cpuinfo", "model name", ":")},
		{"cores", fmt.Sprint(runtime.NumCPU())},
		{"memory", valueIn("/proc/meminfo", "MemTotal", ":")},
		{"system", strings.Trim(valueIn("/etc/os-release", "PRETTY_NAME", "="), `"`)},
		{"kernel", firstWords("/proc/sys/kernel/osrelease", 1)},
		{"Go (client and backend)", runtime.Version()},
		{"load average before the run", firstWords("/proc/loadavg", 3)},
	}
}

// valueIn returns what follows "key SEP" on the first line of file that begins
// with key.
func valueIn(file, key, sep string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		name, value, ok := strings.Cut(line, sep)
		if ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// firstWords returns the first n words of file.
func firstWords(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	words := strings.Fields(string(data))
	return strings.Join(words[:min(n, len(words))], " ")
}
