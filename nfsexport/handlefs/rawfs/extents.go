package rawfs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The FIEMAP ioctl, linux/Documentation/filesystems/fiemap.rst.
const (
	fiemap       = 0xc020660b // FS_IOC_FIEMAP
	extentShared = 0x2000     // FIEMAP_EXTENT_SHARED
)

// HasOwn says whether a file has blocks for each of the n bytes at off, and shares none of
// them with another file; false, too, when the file system does not tell.
func HasOwn(fd int, off, n int64) bool {
	type extent struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
	var m struct {
		start, length                  uint64
		flags, mapped, count, reserved uint32
		extents                        [16]extent
	}
	for at, end := uint64(off), uint64(off+n); at < end; {
		m.start, m.length, m.mapped, m.count = at, end-at, 0, uint32(len(m.extents))
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fiemap, uintptr(unsafe.Pointer(&m))); e != 0 || m.mapped == 0 {
			return false
		}
		for _, x := range m.extents[:min(int(m.mapped), len(m.extents))] {
			if x.logical > at || x.flags&extentShared != 0 || x.logical+x.length <= at {
				return false
			}
			at = x.logical + x.length
		}
	}
	return true
}
