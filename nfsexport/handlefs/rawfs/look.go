package rawfs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Open opens the entry name of the directory dir, closed on exec.
func Open(dir int, name *Name, flags int, mode uint32) (int, unix.Errno) {
	return open(dir, &name[0], flags, mode)
}

func open(dir int, name *byte, flags int, mode uint32) (int, unix.Errno) {
	for {
		fd, _, e := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(name)),
			uintptr(flags|unix.O_CLOEXEC), uintptr(mode), 0, 0)
		if e == 0 {
			return int(fd), 0
		}
		if e != unix.EINTR {
			return -1, e
		}
	}
}

// Stat reads the attributes of what fd is.
func Stat(fd int, st *unix.Stat_t) unix.Errno { return Errno(unix.Fstat(fd, st)) }

// StatAt reads the attributes of the entry name of the directory dir; it follows no
// symbolic link.
func StatAt(dir int, name *Name, st *unix.Stat_t) unix.Errno {
	_, _, e := unix.Syscall6(sysFstatat, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	return e
}

// ReadLink puts the text of the symbolic link that fd is, an O_PATH descriptor, into buf, as
// much as has room, and gives its length. buf must not be empty.
func ReadLink(fd int, buf []byte) (int, unix.Errno) {
	var empty byte // with no name it is the descriptor's own
	return readLink(fd, &empty, buf)
}

func readLink(dir int, name *byte, buf []byte) (int, unix.Errno) {
	n, _, e := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// Read reads what a file has at off: less than buf has room for only at its end or before
// what cannot be read. An error is of the first byte.
func Read(fd int, buf []byte, off int64) (n int, e unix.Errno) {
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil && n == 0 {
			return 0, Errno(err)
		}
		if m <= 0 {
			break
		}
		n += m
	}
	return n, 0
}
