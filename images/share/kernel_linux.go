package share

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// chunk is how many bytes one call of the kernel compares: a canceled run ends that soon.
const chunk = 16 << 20

// errDiffers says that two files do not have the same content.
var errDiffers = errors.New("the content differs")

// dedupe gives dst the blocks of src from off to off+length, when both are the same
// there. Both are open for reading: root needs no more.
func dedupe(src, dst int, off, length int64) error {
	for length > 0 {
		r := unix.FileDedupeRange{
			Src_offset: uint64(off), Src_length: uint64(min(length, chunk)),
			Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(dst), Dest_offset: uint64(off)}},
		}
		err := unix.IoctlFileDedupeRange(src, &r)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		switch i := r.Info[0]; {
		case i.Status == unix.FILE_DEDUPE_RANGE_DIFFERS:
			return errDiffers
		case i.Status < 0:
			return unix.Errno(-i.Status)
		case i.Bytes_deduped == 0:
			return unix.EINVAL // else this would go on for ever
		default:
			off, length = off+int64(i.Bytes_deduped), length-int64(i.Bytes_deduped)
		}
	}
	return nil
}

// extent is a piece of a file's content: where it lies in the file and on the disk, in bytes.
type extent struct {
	at, disk, length int64
	// shared says that another file has these blocks, too.
	shared bool
	// fixed says that they cannot be shared: inline in the inode, or not placed yet.
	fixed bool
}

// fiemap and fiemapExtent are struct fiemap and struct fiemap_extent of linux/fiemap.h.
type fiemap struct {
	start, length        uint64
	flags, mapped, count uint32
	_                    uint32
	extents              [extentsAtOnce]fiemapExtent
}

type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

const (
	extentsAtOnce = 32
	fsIocFiemap   = 0xc020660b // _IOWR('f', 11, struct fiemap)
	flagSync      = 1

	extentLast    = 0x1
	extentUnknown = 0x2
	extentInline  = 0x200
	extentShared  = 0x2000
)

// extents gives the pieces that hold a file's data, those that go on from one another as
// one. Its memory grows with the pieces of one file.
func extents(fd int) ([]extent, error) {
	var out []extent
	var m fiemap
	for start := uint64(0); ; {
		m.start, m.length, m.flags, m.count, m.mapped = start, ^uint64(0)-start, flagSync, extentsAtOnce, 0
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocFiemap, uintptr(unsafe.Pointer(&m)))
		runtime.KeepAlive(&m)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return nil, errno
		}
		for _, e := range m.extents[:min(m.mapped, extentsAtOnce)] {
			out = appendExtent(out, extent{
				int64(e.logical), int64(e.physical), int64(e.length),
				e.flags&extentShared != 0, e.flags&(extentInline|extentUnknown) != 0,
			})
			start = e.logical + e.length
			if e.flags&extentLast != 0 {
				return out, nil
			}
		}
		if m.mapped == 0 {
			return out, nil
		}
	}
}

func appendExtent(list []extent, e extent) []extent {
	if n := len(list); n > 0 {
		last := &list[n-1]
		if last.at+last.length == e.at && last.disk+last.length == e.disk && last.shared == e.shared && last.fixed == e.fixed {
			last.length += e.length
			return list
		}
	}
	return append(list, e)
}
