package rawfs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mkdir makes a directory.
func Mkdir(dir int, name *Name, mode uint32) unix.Errno {
	_, _, e := unix.Syscall(unix.SYS_MKDIRAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(mode))
	return e
}

// Symlink makes a symbolic link; text ends with a NUL.
func Symlink(text *byte, dir int, name *Name) unix.Errno {
	_, _, e := unix.Syscall(unix.SYS_SYMLINKAT, uintptr(unsafe.Pointer(text)), uintptr(dir), uintptr(unsafe.Pointer(&name[0])))
	return e
}

// Mknod makes a device node, a fifo, a socket or an empty file: mode says which.
func Mknod(dir int, name *Name, mode uint32, dev uint64) unix.Errno {
	_, _, e := unix.Syscall6(unix.SYS_MKNODAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(mode), uintptr(dev), 0, 0)
	return e
}

// Link gives what fd is another name.
func Link(fd, dir int, name *Name) unix.Errno {
	var empty byte
	_, _, e := unix.Syscall6(unix.SYS_LINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(dir), uintptr(unsafe.Pointer(&name[0])), unix.AT_EMPTY_PATH, 0)
	return e
}

// Unlink removes a name; flags are 0, or AT_REMOVEDIR for a directory.
func Unlink(dir int, name *Name, flags int) unix.Errno {
	_, _, e := unix.Syscall(unix.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(flags))
	return e
}

// Rename gives an entry another name, and takes that from what had it.
func Rename(dir int, name *Name, toDir int, to *Name) unix.Errno {
	_, _, e := unix.Syscall6(unix.SYS_RENAMEAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
		uintptr(toDir), uintptr(unsafe.Pointer(&to[0])), 0, 0)
	return e
}

// KeepID in Chown leaves an owner or group as it is.
const KeepID = ^uint32(0)

// Chown changes the owner and the group of what fd is.
func Chown(fd int, uid, gid uint32) unix.Errno {
	var empty byte
	_, _, e := unix.Syscall6(unix.SYS_FCHOWNAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(uid), uintptr(gid), unix.AT_EMPTY_PATH, 0)
	return e
}

// SetTimes sets the times of the last access to what fd is and of its last change; each may
// be UTIME_NOW or UTIME_OMIT.
func SetTimes(fd int, times *[2]unix.Timespec) unix.Errno {
	var empty byte
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(unsafe.Pointer(times)), unix.AT_EMPTY_PATH, 0, 0)
	return e
}

// Write writes data to a file at off, as much as goes. An error is of the first byte.
func Write(fd int, data []byte, off int64) (n int, e unix.Errno) {
	for n < len(data) {
		m, err := unix.Pwrite(fd, data[n:], off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil && n == 0 {
			return 0, Errno(err)
		}
		if err != nil || m <= 0 {
			break
		}
		n += m
	}
	return n, 0
}
