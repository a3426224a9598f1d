package box

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// processes returns those that a file of the kernel lists, such as cgroup.procs. What is done to one of them is done to no other, also when it
// has ended and its number was given to another.
func processes(list string) []*os.Process {
	var out []*os.Process
	for _, pid := range pids(list) {
		process, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		// Between the reading and the opening the number may have become another's: then it is not in the list now.
		if slices.Contains(pids(list), pid) {
			out = append(out, process)
		} else {
			_ = process.Release()
		}
	}
	return out
}

func pids(list string) []int {
	data, _ := os.ReadFile(list)
	var out []int
	for field := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 { // 0: of a namespace that is not seen from here
			out = append(out, pid)
		}
	}
	return out
}

// isFirst reports whether a process is PID 1 in its own namespace.
func isFirst(process *os.Process) bool {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(process.Pid) + "/status")
	for line := range strings.Lines(string(data)) {
		if numbers, found := strings.CutPrefix(line, "NSpid:"); found {
			all := strings.Fields(numbers)
			return len(all) > 1 && all[len(all)-1] == "1"
		}
	}
	return false
}
