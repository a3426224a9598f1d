package config

import (
	"math"
	"os/user"
	"strconv"
)

// UserID returns the uid of a user, by name or number. The error is that of the system's user database.
func UserID(name string) (uint32, error) {
	if id, err := strconv.ParseUint(name, 10, 32); err == nil && id < math.MaxUint32 {
		return uint32(id), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(id), err
}

// GroupID returns the gid of a group, by name or number. The error is that of the system's group database.
func GroupID(name string) (int, error) {
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(id), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// validID reports whether a word of digits is a uid or gid; the last one stands for none, see setresuid(2) and chown(2).
func validID(name string) bool {
	if name[0] < '0' || name[0] > '9' {
		return true
	}
	id, err := strconv.ParseUint(name, 10, 32)
	return err == nil && id < math.MaxUint32
}

// lookUpUsers warns of users that this host does not have.
func (r *reading) lookUpUsers() {
	for _, name := range r.users {
		if _, err := UserID(name.text); err != nil {
			r.warn(name.place, "there is no user "+name.text+" on this host: the word lets nobody in", "make the user, or remove the word; then reload")
		}
	}
}
