// Package set writes sets of files for programs of others: whole, and put in
// place by one rename.
//
//	t, err := set.Open("/etc/nginx/spine", durable.Disk{})
//	defer t.Close()
//	name, entries, err := t.Write(files, time.Now()) // set-20261123T014000Z-5be01c9a/
//	err = t.Switch(name)                             // current -> set-20261123T014000Z-5be01c9a
//	seen, err := t.See(name, entries)                // reads it; from then on, cheaply:
//	if !seen.Unchanged() { ... }
//	err = t.Prune(name)
//
// # What is trusted
//
// Nobody but root and this process may change what a target directory holds, or
// where the way to it leads: Open goes that way by itself, and refuses each
// directory that somebody else may write. Everything else happens through the
// directory it came to, and below that no symbolic link is followed. What stands
// where a set or the link belongs, and is not ours, is neither used nor removed.
//
// A file is made for its owner alone in a directory for its owner alone; it gets its
// mode, group and owner before the directory is opened to others. POSIX access lists
// that it would inherit are removed before: who may read it, mode and owner say alone.
//
// # Errors
//
// Every error is a *failure.Error, or several joined, the first of which counts.
// Content of files is not in them.
//
// # Concurrency
//
// A Target is for one goroutine, a Seen too. Two Targets of one directory disturb
// each other: each prunes what the other has just written.
package set
