package set

// Is returns the device and the inode of the directory: two paths of one directory have
// the same.
func (t *Target) Is() (device, inode uint64) { return t.is.Dev, t.is.Ino }
