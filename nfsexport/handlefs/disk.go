package handlefs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/reserve"
)

// disk is a file system below overlays. All exports whose uppers lie on it share it.
type disk struct {
	*reserve.Disk

	// shares: files may share blocks here, so that a write in place takes space, and
	// what is copied up from this disk takes none.
	shares bool
	xfs    bool
	// waiting tells how many bytes wait to be written, where statfs(2) does not: its
	// files in sysfs.
	waiting []int
}

// disks are those that there were, by device number.
type disks struct {
	mu sync.Mutex
	m  map[uint64]*disk
}

// get gives the disk that path, of which fd is any descriptor, lies on.
func (d *disks) get(fd int, path string, keep uint64) (*disk, uint64) {
	var st unix.Stat_t
	_ = rawfs.Stat(fd, &st) // it cannot fail: fd is open
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.m[st.Dev]; x != nil {
		return x, st.Dev
	}
	x := &disk{Disk: reserve.New(int64(keep))}
	if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		x.look(fd)
		unix.Close(fd)
	}
	if d.m == nil {
		d.m = map[uint64]*disk{}
	}
	d.m[st.Dev] = x
	return x, st.Dev
}

func (d *disks) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.m {
		for _, fd := range x.waiting {
			unix.Close(fd)
		}
		x.waiting = nil
	}
}

// look finds out what the file system of fd can do.
func (x *disk) look(fd int) {
	var fsstat unix.Statfs_t
	if unix.Fstatfs(fd, &fsstat) != nil {
		return
	}
	switch fsstat.Type {
	case unix.XFS_SUPER_MAGIC:
		x.xfs = true
		// XFS_IOC_FSGEOMETRY_V1, linux/fs/xfs/libxfs/xfs_fs.h: flags, of which this is
		// XFS_FSOP_GEOM_FLAGS_REFLINK.
		var geometry [112]byte
		if ioctl(fd, 0x80705864, unsafe.Pointer(&geometry)) == 0 {
			x.shares = binary.NativeEndian.Uint32(geometry[92:])&(1<<20) != 0
		}
	case unix.BTRFS_SUPER_MAGIC:
		x.shares = true
		// BTRFS_IOC_FS_INFO, linux/include/uapi/linux/btrfs.h: fsid is behind two words
		// of 64 bits.
		var info [1024]byte
		if ioctl(fd, 0x8400941f, unsafe.Pointer(&info)) != 0 {
			return
		}
		id := info[16:32]
		dir := fmt.Sprintf("/sys/fs/btrfs/%x-%x-%x-%x-%x/allocation/", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
		for _, kind := range []string{"data", "mixed"} {
			if fd, err := unix.Open(dir+kind+"/bytes_may_use", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
				x.waiting = append(x.waiting, fd)
			}
		}
	}
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return e
}

// Free asks what the file system below the overlay has free. Where that has quotas of its
// own, the overlay's answer would be the board's. ext4 and xfs count what is written and not
// yet on its way to the disk; btrfs does not, and says in sysfs how much that is. Where
// there is none it is missing. With all xfs gives back what it keeps ready behind files' ends
// (as much again as they have), which others cannot have else, and what was removed.
func (r *root) Free(all bool) (reserve.Free, error) {
	if all && r.disk.xfs && r.index >= 0 {
		// XFS_IOC_FREE_EOFBLOCKS, linux/fs/xfs/libxfs/xfs_fs.h: version 1, and
		// XFS_EOF_FLAGS_SYNC, else it leaves out files with data that is not written yet.
		arg := [32]uint32{1, 1}
		ioctl(r.index, 0x8080583a, unsafe.Pointer(&arg))
	}
	fd := r.upper
	if fd < 0 {
		fd = r.fd
	}
	var st unix.Statfs_t
	if e := rawfs.Errno(unix.Fstatfs(fd, &st)); e != 0 {
		return reserve.Free{}, e
	}
	f := reserve.Free{Bytes: int64(st.Bavail) * st.Bsize, Files: int64(st.Ffree)}
	if st.Files == 0 {
		f.Files = -1
	}
	for _, fd := range r.disk.waiting {
		var text [24]byte
		if n, err := unix.Pread(fd, text[:], 0); err == nil {
			bytes, _ := strconv.ParseInt(string(bytes.TrimSpace(text[:n])), 10, 64)
			f.Bytes -= bytes
		}
	}
	return f, nil
}

// openDisk opens what tells of the file system below the overlay and of what was
// copied up; without them their answers are those of the overlay, and "nothing".
func (r *root) openDisk(x *nfsexport.Export) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	if fd, err := unix.Open(filepath.Clean(x.Upper), flags, 0); x.Upper != "" && err == nil {
		r.upper = fd
	}
	// No O_PATH: handles are opened by it, see openLayer.
	if fd, err := unix.Open(filepath.Clean(x.Index), flags&^unix.O_PATH, 0); x.Index != "" && err == nil {
		r.index = fd
	}
	fd := r.upper
	if fd < 0 {
		fd = r.fd
	}
	var dev uint64
	r.disk, dev = r.fs.disks.get(fd, x.Upper, r.fs.opts.Reserve)
	r.clones = r.disk.shares && len(x.Layers) > 0
	for _, l := range x.Layers {
		var st unix.Stat_t
		r.clones = r.clones && unix.Stat(l, &st) == nil && st.Dev == dev
	}
}
