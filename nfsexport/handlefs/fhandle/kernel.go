package fhandle

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/rawfs"
)

// Kernel is the kernel's struct file_handle. The calls on it are those of x/sys/unix
// without its allocations: they read and fill it in place.
type Kernel struct {
	bytes uint32
	typ   int32
	data  [MaxKernel]byte
}

// Type is the kernel's handle type.
func (h *Kernel) Type() int32 { return h.typ }

// Len is how many bytes it has besides its type.
func (h *Kernel) Len() int { return int(h.bytes) }

// Set makes h the kernel's handle of k.
func (h *Kernel) Set(k *Key) { h.typ, h.bytes = int32(k[1]), uint32(copy(h.data[:], k.Kernel())) }

// Equal says whether h and g are the same handle.
func (h *Kernel) Equal(g *Kernel) bool {
	return h.typ == g.typ && string(h.data[:h.bytes]) == string(g.data[:g.bytes])
}

// Of asks for the handle of the entry name of the directory dir; nil: of what dir is
// itself. It gives the number of the mount that it is on.
func (h *Kernel) Of(dir int, name *rawfs.Name) (mount int32, e unix.Errno) {
	h.bytes = MaxKernel
	var empty byte
	path, flags := &empty, unix.AT_EMPTY_PATH
	if name != nil {
		path, flags = &name[0], 0
	}
	_, _, e = unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(dir), uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(&mount)), uintptr(flags), 0)
	return mount, e
}

// Open opens what h stands for on the mount of a descriptor, which must not be an O_PATH
// one. It needs CAP_DAC_READ_SEARCH.
func (h *Kernel) Open(mountFD, flags int) (int, unix.Errno) {
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
