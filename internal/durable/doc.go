// Package durable writes files that must be whole or not there, and that nobody
// else may read, whatever the umask says and whatever was planted in the way.
//
//	d, err := durable.OpenDir("new")           // made 0700 if it is not there
//	err = d.Create("pcs.key.pem", key, 0o600)  // on disk when it returns
//
// A file is made with O_EXCL and nothing is ever overwritten, except by Replace.
// Symbolic links are not followed, neither as the last element of a path nor as a
// file in a directory. What a function returns without an error is fsynced, and
// so is the directory that names it. What fails leaves nothing behind.
//
// # Errors
//
// Errors are those of package os, for errors.Is with fs.ErrExist and the like,
// and ErrNotDirectory and ErrNotRegular.
//
// # Concurrency
//
// A Dir is for one goroutine. Two processes may write into one directory: one of
// them makes a file, the other learns that it exists.
package durable
