package nfstest

import (
	"golang.org/x/sys/unix"
)

// Client is a file system as one user sees it. Paths are relative to its root;
// "." is the root. Symbolic links are not followed in the last component.
// Errors are a unix.Errno.
type Client interface {
	// As is the same file system seen by another user.
	As(uid, gid uint32, groups ...uint32) Client
	// Open takes O_RDONLY, O_WRONLY, O_RDWR with O_CREAT, O_EXCL, O_TRUNC.
	Open(path string, flags int, mode uint32) (File, error)
	Mkdir(path string, mode uint32) error
	Symlink(target, path string) error
	// Mknod makes what the type bits of mode say.
	Mknod(path string, mode uint32, dev uint64) error
	Link(old, path string) error
	Rename(old, path string) error
	Unlink(path string) error
	Rmdir(path string) error
	Readlink(path string) (string, error)
	Lstat(path string) (unix.Stat_t, error)
	// Access asks for R_OK, W_OK and X_OK.
	Access(path string, want uint32) error
	Chmod(path string, mode uint32) error
	// Chown leaves an id of -1 alone.
	Chown(path string, uid, gid int) error
	// Utimes takes UTIME_NOW and UTIME_OMIT.
	Utimes(path string, atime, mtime unix.Timespec) error
	Truncate(path string, size int64) error
	OpenDir(path string) (Dir, error)
	Statfs() (unix.Statfs_t, error)
	// Kernel says whether calls go through a kernel's file system layer, which
	// checks and caches by itself.
	Kernel() bool
}

// File is an open regular file.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
	Stat() (unix.Stat_t, error)
	Close() error
}

// Dir is an open directory.
type Dir interface {
	// Next gives some names, never . and .., none at the end.
	Next() ([]Name, error)
	Close() error
}

// Name is an entry of a directory.
type Name struct {
	Name string
	Ino  uint64
}
