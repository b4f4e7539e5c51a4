package overlay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"unsafe"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Reading mountinfo for each root costs the square of their number: with a thousand of
// them, 18 ms for one mount. So the kernel is asked about one mount alone, by statx(2) and
// statmount(2), and the table is read where it is too old to answer.

// What statmount(2) is asked for, and where its answer has it; include/uapi/linux/mount.h.
const (
	statMountBasic   = 0x2 // the id that mountinfo shows
	statMountRoot    = 0x8
	statMountType    = 0x20
	statMountOptions = 0x80  // Linux 6.11
	statMountSource  = 0x200 // Linux 6.13
	statMountAll     = statMountBasic | statMountRoot | statMountType | statMountOptions | statMountSource

	statMountHeader = 512 // bytes before the strings
	statMountMax    = 128 << 10
)

// errNoStatMount says that the kernel cannot tell all of a mount.
var errNoStatMount = errors.New("the kernel does not tell of one mount")

// topMount finds what is mounted on top at a mount point, of which real is the path without
// links; nil is nothing. It has no Source before Linux 6.13. The error wraps errNoStatMount
// where the table has to be read.
func topMount(target, real string) (*mountinfo.Info, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, target, unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID_UNIQUE, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil
	case err != nil:
		return nil, errors.Join(errNoStatMount, err)
	case st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0: // before Linux 5.8
		return nil, errNoStatMount
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0:
		return nil, nil
	case st.Mask&unix.STATX_MNT_ID_UNIQUE == 0: // before Linux 6.8
		return nil, errNoStatMount
	}
	b, err := statMount(st.Mnt_id)
	if err != nil {
		return nil, errors.Join(errNoStatMount, err)
	}
	m, err := parseStatMount(b)
	if err != nil {
		return nil, err
	}
	m.Mountpoint = real
	return m, nil
}

// statMount is statmount(2).
func statMount(id uint64) ([]byte, error) {
	req := struct {
		size, _   uint32
		id, param uint64
	}{size: 24, id: id, param: statMountAll}
	for n := 4096; ; n *= 2 {
		buf := make([]byte, n)
		_, _, errno := unix.Syscall6(unix.SYS_STATMOUNT, uintptr(unsafe.Pointer(&req)), uintptr(unsafe.Pointer(&buf[0])), uintptr(n), 0, 0, 0)
		switch {
		case errno == 0:
			return buf, nil
		case errno != unix.EOVERFLOW || n >= statMountMax:
			return nil, errno
		}
	}
}

// parseStatMount reads what statmount(2) answered.
func parseStatMount(b []byte) (*mountinfo.Info, error) {
	if len(b) < statMountHeader {
		return nil, fmt.Errorf("statmount: %d bytes", len(b))
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	text := func(at int) string {
		s := b[statMountHeader:]
		s = s[min(int(u32(at)), len(s)):]
		s, _, _ = bytes.Cut(s, []byte{0})
		return string(s)
	}
	has := binary.NativeEndian.Uint64(b[8:])
	if must := uint64(statMountAll &^ statMountSource); has&must != must {
		return nil, errNoStatMount
	}
	m := &mountinfo.Info{ID: int(u32(56)), FSType: text(36), Root: text(104), VFSOptions: text(4)}
	if has&statMountSource != 0 {
		m.Source = text(124)
	}
	return m, nil
}

// realPath is a path as mountinfo shows it, without links.
func realPath(target string) string {
	if real, err := filepath.EvalSymlinks(target); err == nil {
		return real
	}
	return target
}
