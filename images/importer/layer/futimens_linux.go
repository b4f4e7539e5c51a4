package layer

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// futimens sets the times of an open file. utimensat(2) does that without a
// path, which the wrapper in x/sys has no way to say.
func futimens(fd int, ts []unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
