// Package durable writes files that must be whole or not there, and that nobody
// else may read, whatever the umask says and whatever was planted in the way.
//
//	d, err := durable.OpenDir("new")           // made 0700 if it is not there
//	err = d.Create("pcs.key.pem", key, 0o600)  // on disk when it returns
//
// A file is made with O_EXCL and nothing is ever overwritten, except by Replace
// and Swap. Symbolic links are not followed, neither as the last element of a path
// nor as a file in a directory. What a function returns without an error is
// fsynced, and so is the directory that names it. What fails leaves nothing
// behind, unless the disk refuses that too; then, and after a crash, there may be
// files and directories whose names begin with ".", which have no meaning.
//
// # Errors
//
// Errors are those of package os, for errors.Is with fs.ErrExist and the like,
// and ErrNotDirectory, ErrNotRegular and ErrNotLink.
//
// # Tests
//
// The functions are methods of [Disk], too. Its Fault decides which system call
// fails, so that a test can try every one.
//
// # Concurrency
//
// A Dir is for one goroutine. Two processes may write into one directory: one of
// them makes a file, the other learns that it exists.
package durable
