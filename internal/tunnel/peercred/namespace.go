package peercred

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// Where the kernel says which users this process can tell apart, see
// user_namespaces(7).
const (
	procUIDMap   = "/proc/self/uid_map"
	procOverflow = "/proc/sys/kernel/overflowuid"
)

// usualOverflow is the user that stands for all others, unless somebody changed it.
const usualOverflow = 65534

var errUnmapped = errors.New("the daemon runs in a user namespace, where this user stands for all that the namespace does not have")

// mapped returns an error if uid may stand for users that have no number here. What
// cannot be found out is answered with an error, and only of the user in question.
func mapped(uid uint32, uidMap, overflow string) error {
	stand := uint64(usualOverflow)
	if b, err := os.ReadFile(overflow); err == nil { // it may be hidden: ProcSubset=pid
		if stand, err = strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 32); err != nil {
			return fmt.Errorf("parse %q: %w", overflow, err)
		}
	}
	if uint64(uid) != stand {
		return nil
	}
	b, err := os.ReadFile(uidMap)
	if err != nil {
		return err
	}
	if !wholeMap(b) {
		return fmt.Errorf("user %d: %w", uid, errUnmapped)
	}
	return nil
}

// wholeMap reports whether every user has its own number here.
func wholeMap(uidMap []byte) bool {
	fields := bytes.Fields(uidMap)
	return len(fields) == 3 && string(fields[0]) == "0" && string(fields[1]) == "0" && string(fields[2]) == "4294967295"
}
