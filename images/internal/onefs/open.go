package onefs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MaxPath is the longest path below a root, in bytes: the kernel takes PATH_MAX
// with its final NUL, and what is longer no program could open by its name.
const MaxPath = unix.PathMax - 1

// confined keeps a lookup below its directory and on its mount, through real
// directories only.
const confined = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// OpenRoot opens a directory to work below. Unlike all else here it follows
// symbolic links: the caller names the place.
func OpenRoot(dir string) (int, error) {
	for {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		return fd, nil
	}
}

// OpenAt opens path, relative to the directory dirfd, with the flags of
// open(2); O_NOFOLLOW and O_CLOEXEC are added. "" is the directory itself.
// A symbolic link on the way is ELOOP, another mount EXDEV. The errors are bare
// errno values: the caller knows the whole name.
func OpenAt(dirfd int, path string, flags int, mode uint32) (int, error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Mode:    uint64(mode),
		Resolve: confined,
	}
	for {
		fd, err := unix.Openat2(dirfd, path, &how)
		// EAGAIN: a rename or mount elsewhere raced with the lookup.
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		return fd, err
	}
}

// OpenDir is OpenAt for a directory that is to be listed.
func OpenDir(dirfd int, path string) (int, error) {
	return OpenAt(dirfd, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// ProcPath is a path that names the last component of name in dirfd for calls
// that know no directory descriptors. It needs /proc.
func ProcPath(dirfd int, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dirfd, name)
}

// Fstat is fstat(2), again when interrupted.
func Fstat(fd int) (unix.Stat_t, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstat(fd, &st)
		if err != unix.EINTR {
			return st, err
		}
	}
}

// Readlink reads the symbolic link that fd, opened with O_PATH, is.
func Readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
