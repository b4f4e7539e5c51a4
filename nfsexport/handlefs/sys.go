package handlefs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are those of x/sys/unix without its allocations: names are
// NUL-terminated buffers and kernel handles are read in place. All say which
// error happened, and none returns EINTR.

// cname is a NUL-terminated name of a directory entry.
type cname [256]byte

func (n *cname) set(s string) { n[copy(n[:len(n)-1], s)] = 0 }

// is says whether n is the name s.
func (n *cname) is(s string) bool {
	return len(s) < len(n) && string(n[:len(s)]) == s && n[len(s)] == 0
}

// empty is the name that means the descriptor itself (AT_EMPTY_PATH).
var empty byte

// overlayHandle is the handle type of overlayfs (OVL_FILEID_V1).
const overlayHandle = 0xf8

// kernelHandle is the kernel's struct file_handle.
type kernelHandle struct {
	bytes uint32
	typ   int32
	data  [maxKernel]byte
}

func errnoOf(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(unix.Errno); ok { //nolint:errorlint // x/sys/unix gives bare errnos
		return e
	}
	return unix.EIO
}

func openat(dir int, name *byte, flags int, mode uint32) (int, unix.Errno) {
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

// handleOf asks for the handle of name in dir, or of dir itself with &empty.
func handleOf(dir int, name *byte, h *kernelHandle) (mount int32, e unix.Errno) {
	h.bytes = maxKernel
	flags := 0
	if *name == 0 {
		flags = unix.AT_EMPTY_PATH
	}
	_, _, e = unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(dir), uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(&mount)), uintptr(flags), 0)
	return mount, e
}

func openHandle(mountFD int, h *kernelHandle, flags int) (int, unix.Errno) {
	for {
		fd, _, e := unix.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(mountFD), uintptr(unsafe.Pointer(h)),
			uintptr(flags|unix.O_CLOEXEC))
		if e == 0 {
			return int(fd), 0
		}
		if e != unix.EINTR {
			return -1, e
		}
	}
}

func fstat(fd int, st *unix.Stat_t) unix.Errno { return errnoOf(unix.Fstat(fd, st)) }

func statAt(dir int, name *cname, st *unix.Stat_t) unix.Errno {
	_, _, e := unix.Syscall6(sysFstatat, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	return e
}

// reopen opens what the O_PATH descriptor fd stands for. It works where no path
// can be derived, as for the disconnected handles of a remounted overlay.
func (fs *FS) reopen(fd, flags int) (int, unix.Errno) {
	var name [20]byte
	putDecimal(&name, fd)
	return openat(fs.proc, &name[0], flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// pathOf gives the path of what fd stands for; false: it is too long.
func (fs *FS) pathOf(fd int, buf *[unix.PathMax]byte) ([]byte, bool) {
	var name [20]byte
	putDecimal(&name, fd)
	n, _, e := unix.Syscall6(unix.SYS_READLINKAT, uintptr(fs.proc), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if e != 0 || int(n) == len(buf) {
		return nil, false
	}
	return buf[:n], true
}

func putDecimal(b *[20]byte, n int) {
	var digits [20]byte
	i := len(digits) - 1 // the last byte stays NUL
	for {
		i--
		digits[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			break
		}
	}
	copy(b[:], digits[i:])
}
