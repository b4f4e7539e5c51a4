package rawfs

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Proc is the directory /proc/self/fd, by which an O_PATH descriptor can do what only its
// path could.
type Proc struct{ fd int }

// OpenProc opens it; Close must follow.
func OpenProc() (Proc, error) {
	fd, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Proc{}, fmt.Errorf("opening /proc/self/fd (is /proc mounted?): %w", err)
	}
	return Proc{fd}, nil
}

// Close lets go of the directory.
func (p Proc) Close() error { return unix.Close(p.fd) }

// Reopen opens what the descriptor fd is. It works where no path can be derived, as for the
// disconnected handles of a remounted overlay.
func (p Proc) Reopen(fd, flags int) (int, unix.Errno) {
	var name decimal
	name.set(fd)
	return open(p.fd, &name[0], flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// Path gives the path of what fd is, which is in buf; false: it is too long.
func (p Proc) Path(fd int, buf *[unix.PathMax]byte) ([]byte, bool) {
	var name decimal
	name.set(fd)
	n, e := readLink(p.fd, &name[0], buf[:])
	if e != 0 || n == len(buf) {
		return nil, false
	}
	return buf[:n], true
}

// Chmod changes the mode of what fd is; of an O_PATH descriptor fchmodat2 can do it from
// Linux 6.6 on.
func (p Proc) Chmod(fd int, mode uint32) unix.Errno {
	var name decimal
	name.set(fd)
	_, _, e := unix.Syscall(unix.SYS_FCHMODAT, uintptr(p.fd), uintptr(unsafe.Pointer(&name[0])), uintptr(mode))
	return e
}

// HasXattr says whether what fd is, no symbolic link, has an extended attribute.
func (p Proc) HasXattr(fd int, attr string) bool {
	var name decimal
	name.set(fd)
	_, err := unix.Getxattr("/proc/self/fd/"+unix.ByteSliceToString(name[:]), attr, nil)
	return err == nil || err == unix.ERANGE
}

// decimal is a number with a NUL behind it.
type decimal [20]byte

func (b *decimal) set(n int) {
	var digits decimal
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
